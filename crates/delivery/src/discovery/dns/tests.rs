//! Names, and the members in a result. Look-ups are tested over real sockets.

use openssl::sha::sha256;

use super::*;
use crate::discovery::source::{EMPTY_HOLD, INSTANCES_MAX, instance_name};

fn settings(name: &str) -> DnsSettings {
    DnsSettings {
        name: name.into(),
        port: 3978,
        secure: false,
        path: "/api/calls".into(),
        refresh: Duration::from_secs(30),
        servers: Vec::new(),
        allow: Vec::new(),
    }
}

#[track_caller]
fn check_host(host: &str, name: &str) {
    assert_eq!(instance_name(host).as_str(), name);
}

#[test]
fn a_valid_host_name_stays_as_it_is() {
    check_host("bot-0.bots.default.svc.cluster.local", "bot-0.bots.default.svc.cluster.local");
    let long = format!("{}.example", "a".repeat(60));
    check_host(&long, &format!("{}-{}", "a".repeat(46), hash(&long)));
    check_host("böt.example", &format!("b-t.example-{}", hash("böt.example")));
    assert_ne!(instance_name("böt.example"), instance_name("bät.example"));
}

fn hash(host: &str) -> String {
    sha256(host.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_address_becomes_a_name() {
    for (address, name) in [
        ("10.0.0.10", "10.0.0.10"),
        ("2001:db8::1", "2001-db8--1"),
        ("::", "--"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff-ffff-ffff-ffff-ffff-ffff-ffff-ffff"),
    ] {
        assert_eq!(address_name(address.parse().unwrap()).as_str(), name);
    }
}

#[test]
fn the_number_of_instances_is_bounded() {
    assert_eq!(check_count(0), Err(SourceError::Empty));
    assert_eq!(check_count(1), Ok(()));
    assert_eq!(check_count(INSTANCES_MAX), Ok(()));
    assert_eq!(check_count(100_000), Err(SourceError::TooMany { count: 100_000 }));
}

fn found(address: [u8; 4], ttl: u64) -> FoundAddresses {
    FoundAddresses { addresses: vec![address.into()], ttl: Duration::from_secs(ttl) }
}

#[test]
fn an_empty_response_applies_after_a_while() {
    let settings = settings("bots.example");
    let mut dns = Dns::new(&settings);
    let start = Instant::now();
    let settle = |dns: &mut Dns<'_>, read, after| dns.settle(read, |_| 0, start + after);
    let empty = |dns: &mut Dns<'_>, after: Duration| settle(dns, Err(SourceError::Empty), after);
    assert_eq!(empty(&mut dns, Duration::ZERO), Err(SourceError::Empty));
    let no_response = SourceError::NoResponse("timeout".into());
    assert_eq!(settle(&mut dns, Err(no_response.clone()), EMPTY_HOLD * 2), Err(no_response));
    let one = dns.members(&found([10, 0, 0, 1], 0)).unwrap();
    assert_eq!(settle(&mut dns, Ok((one, Duration::ZERO)), Duration::ZERO).unwrap().0.len(), 1);
    assert_eq!(empty(&mut dns, Duration::from_secs(1)), Err(SourceError::Empty));
    assert_eq!(empty(&mut dns, Duration::from_secs(2)), Err(SourceError::Empty));
    assert_eq!(empty(&mut dns, EMPTY_HOLD), Err(SourceError::Empty));
    let (members, pause) = empty(&mut dns, EMPTY_HOLD + Duration::from_secs(1)).unwrap();
    assert_eq!((members, pause), (Vec::new(), RETRY));
    // A name that never had an instance makes an empty fleet.
    let mut dns = Dns::new(&settings);
    assert_eq!(empty(&mut dns, Duration::ZERO), Err(SourceError::Empty));
    assert_eq!(empty(&mut dns, EMPTY_HOLD), Ok((Vec::new(), RETRY)));
}

#[test]
fn records_are_looked_up_again_when_they_expire_within_bounds() {
    let settings = settings("bots.example");
    for (ttl, pause) in [(0, 1), (1, 1), (7, 7), (30, 30), (86_400, 30)] {
        let mut dns = Dns::new(&settings);
        let read = (dns.members(&found([10, 0, 0, 1], ttl)).unwrap(), Duration::from_secs(ttl));
        let settled = dns.settle(Ok(read), |_| 0, Instant::now());
        assert_eq!(settled.unwrap().1, Duration::from_secs(pause));
    }
}

#[test]
fn a_forbidden_address_refuses_all_addresses() {
    let settings = settings("bots.example");
    let dns = Dns::new(&settings);
    let addresses = vec![[10, 0, 0, 1].into(), [169, 254, 169, 254].into()];
    let error = dns.members(&FoundAddresses { addresses, ttl: Duration::ZERO }).unwrap_err();
    assert_eq!(error.label(), "forbidden_address");
}

#[test]
fn a_url_has_the_name_for_the_certificate_and_the_address_for_the_connection() {
    let settings =
        DnsSettings { secure: true, path: "/{app}/calls".into(), port: 9441, ..settings("bots.example") };
    let member = Dns::new(&settings).members(&found([10, 0, 0, 1], 0)).unwrap().remove(0);
    assert_eq!(member.name.as_str(), "10.0.0.1");
    assert_eq!(member.new_calls.to_string(), "https://bots.example:9441/{app}/calls");
    assert_eq!(member.new_calls.origin().authority(), "bots.example:9441");
}
