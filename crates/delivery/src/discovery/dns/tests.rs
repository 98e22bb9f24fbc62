//! Names, and the members in a result. Look-ups are tested over real sockets.

use openssl::sha::sha256;

use super::*;

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

#[test]
fn an_empty_result_applies_after_a_while() {
    let settings = settings("bots.example");
    let mut dns = Dns::new(&settings);
    let start = Instant::now();
    let empty = |dns: &mut Dns<'_>, after: Duration| dns.settle(Err(SourceError::Empty), start + after);
    assert_eq!(empty(&mut dns, Duration::ZERO), Err(SourceError::Empty));
    let no_response = SourceError::NoResponse("timeout".into());
    assert_eq!(dns.settle(Err(no_response.clone()), start + EMPTY_HOLD * 2), Err(no_response));
    let found = FoundInstance {
        name: address_name([10, 0, 0, 1].into()),
        host: "bots.example".into(),
        addresses: vec![[10, 0, 0, 1].into()],
        port: 3978,
        weight: 1,
    };
    assert_eq!(dns.settle(Ok((vec![found], Duration::ZERO)), start).unwrap().0.len(), 1);
    assert_eq!(empty(&mut dns, Duration::from_secs(1)), Err(SourceError::Empty));
    assert_eq!(empty(&mut dns, EMPTY_HOLD), Err(SourceError::Empty));
    let (members, pause) = empty(&mut dns, EMPTY_HOLD + Duration::from_secs(1)).unwrap();
    assert_eq!((members, pause), (Vec::new(), RETRY));
}

#[test]
fn records_are_looked_up_again_when_they_expire_within_bounds() {
    let settings = settings("bots.example");
    for (ttl, pause) in [(0, 1), (1, 1), (7, 7), (30, 30), (86_400, 30)] {
        let settled = Dns::new(&settings).settle(Ok((Vec::new(), Duration::from_secs(ttl))), Instant::now());
        assert_eq!(settled.unwrap().1, Duration::from_secs(pause));
    }
}

#[test]
fn a_url_has_the_name_for_the_certificate_and_the_address_for_the_connection() {
    let settings = DnsSettings { secure: true, path: "/{app}/calls".into(), ..settings("bots.example") };
    let found = FoundInstance {
        name: address_name([10, 0, 0, 1].into()),
        host: "bots.example".into(),
        addresses: vec![[10, 0, 0, 1].into()],
        port: 9441,
        weight: 1,
    };
    let member = Dns::new(&settings).member(found).unwrap();
    assert_eq!(member.name.as_str(), "10.0.0.1");
    assert_eq!(member.new_calls.to_string(), "https://bots.example:9441/{app}/calls");
    assert_eq!(member.new_calls.origin().authority(), "bots.example:9441");
}
