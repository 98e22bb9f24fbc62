//! Full names, the hosts file, and look-ups at a scripted server.

use hickory_resolver::proto::rr::rdata::{A, AAAA};
use tokio::task::JoinSet;

use self::scripted_dns::{DnsQuery, DnsReply, ScriptedDns};
use super::*;

#[path = "../../tests/delivery/scripted_dns.rs"]
mod scripted_dns;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

#[test]
fn a_relative_name_is_looked_up_in_the_search_list() {
    let cluster = ["ns.svc.cluster.local.", "svc.cluster.local"];
    for (text, search, dots_min, expected) in [
        ("bot-0", &[][..], 1, &["bot-0."][..]),
        ("bot-0.", &cluster, 5, &["bot-0."]),
        ("bot-0", &cluster, 1, &["bot-0.ns.svc.cluster.local.", "bot-0.svc.cluster.local.", "bot-0."]),
        (
            "bot-0.x",
            &cluster,
            1,
            &["bot-0.x.", "bot-0.x.ns.svc.cluster.local.", "bot-0.x.svc.cluster.local."],
        ),
        (
            "bot-0.x",
            &cluster,
            5,
            &["bot-0.x.ns.svc.cluster.local.", "bot-0.x.svc.cluster.local.", "bot-0.x."],
        ),
        ("_calls._tcp.x", &["y"], 5, &["_calls._tcp.x.y.", "_calls._tcp.x."]),
    ] {
        let search: Vec<Name> = search.iter().map(|domain| name(domain)).collect();
        let names = full_names(text, &search, dots_min).unwrap();
        let names: Vec<String> = names.iter().map(Name::to_ascii).collect();
        assert_eq!(names, expected, "{text}");
    }
    assert_eq!(full_names(&"a".repeat(64), &[], 1), Err(LookupError::NotAName));
    assert_eq!(full_names("a..b", &[], 1), Err(LookupError::NotAName));
}

#[test]
fn the_hosts_file_has_the_addresses_of_both_families() {
    let text = "# 10.0.0.9 bot-0\n127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n\n\
                10.0.0.2 Bot-0 b # bot-1\n10.0.0.1 bot-0\nfe80::1%lo0 bot-0\nnonsense\n10.0.0.3\n";
    let v4 = |addresses: &[[u8; 4]]| -> Vec<IpAddr> { addresses.iter().map(|one| (*one).into()).collect() };
    let entry = |name| hosts_entry(text, name).map(|found| (found.v4.unwrap(), found.v6.unwrap()));
    assert_eq!(entry("localhost"), Some((v4(&[[127, 0, 0, 1]]), vec!["::1".parse().unwrap()])));
    assert_eq!(entry("BOT-0."), Some((v4(&[[10, 0, 0, 1], [10, 0, 0, 2]]), Vec::new())));
    assert_eq!(entry("b"), Some((v4(&[[10, 0, 0, 2]]), Vec::new())));
    for absent in ["bot-1", "bot", "10.0.0.3", "", "#"] {
        assert_eq!(entry(absent), None, "{absent}");
    }
}

fn v4() -> DnsReply {
    DnsReply::Records(7, vec![RData::A(A([10, 0, 0, 2].into())), RData::A(A([10, 0, 0, 1].into()))])
}

fn v6() -> DnsReply {
    DnsReply::Records(9, vec![RData::AAAA(AAAA("fd00::1".parse().unwrap()))])
}

fn none() -> DnsReply {
    DnsReply::Records(0, Vec::new())
}

/// The result of `addresses`, and of `both_families`, in short.
async fn look_up(v4: DnsReply, v6: DnsReply) -> (String, String) {
    let script = move |query: &DnsQuery| if query.kind == RecordType::A { v4.clone() } else { v6.clone() };
    let dns = ScriptedDns::new(script).await;
    let resolver = Resolver::new(&[dns.address]).unwrap();
    let (one, both) = tokio::join!(async { resolver.addresses("bots.example", &mut None).await }, async {
        resolver.both_families("bots.example", &mut None).await
    },);
    let list =
        |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let one = one.map_or_else(|error| error.label().to_owned(), |found| list(found.addresses));
    let both = both.map_or_else(
        |error| error.label().to_owned(),
        |found| {
            format!(
                "{} | {}",
                found.v4.map_or_else(|| "?".into(), list),
                found.v6.map_or_else(|| "?".into(), list)
            )
        },
    );
    (one, both)
}

#[tokio::test]
async fn an_error_of_ipv6_counts_only_without_ipv4() {
    use ResponseCode::{FormErr, NXDomain, NotImp, Refused, ServFail};
    const BOTH_V4: &str = "10.0.0.1 10.0.0.2";
    // At the same time: each silence takes seconds.
    let mut cases = JoinSet::new();
    let mut case = |v4: &DnsReply, v6: &DnsReply, one: &'static str, both: &'static str| {
        let (v4, v6) = (v4.clone(), v6.clone());
        cases.spawn(async move {
            let case = format!("{v4:?} {v6:?}");
            assert_eq!(look_up(v4, v6).await, (one.to_owned(), both.to_owned()), "{case}");
        });
    };
    let failures = [ServFail, Refused, NotImp, FormErr].map(DnsReply::Code).into_iter();
    for failure in failures.chain([DnsReply::HeaderOnly(FormErr), DnsReply::Silence]) {
        case(&v4(), &failure, BOTH_V4, "10.0.0.1 10.0.0.2 | ?");
        // An error of the source, whatever IPv6 says. A listed name has the addresses of the other family.
        case(&failure, &v6(), "unanswered", "? | fd00::1");
        case(&DnsReply::Code(NXDomain), &failure, "unanswered", "unanswered");
        case(&none(), &failure, "unanswered", "unanswered");
    }
    case(&v4(), &none(), BOTH_V4, "10.0.0.1 10.0.0.2 | ");
    case(&none(), &v6(), "fd00::1", " | fd00::1");
    case(&v4(), &v6(), BOTH_V4, "10.0.0.1 10.0.0.2 | fd00::1");
    case(&none(), &none(), "empty", "empty");
    while let Some(checked) = cases.join_next().await {
        checked.unwrap();
    }
}

#[tokio::test]
async fn a_resolver_that_rejects_edns_is_asked_without_it() {
    for reply in
        [DnsReply::Code(ResponseCode::FormErr), DnsReply::HeaderOnly(ResponseCode::NotImp), DnsReply::Silence]
    {
        let script = move |query: &DnsQuery| match (query.edns, query.kind) {
            (true, _) => reply.clone(),
            (false, RecordType::A) => v4(),
            (false, _) => none(),
        };
        let dns = ScriptedDns::new(script).await;
        let resolver = Resolver::new(&[dns.address]).unwrap();
        let found = resolver.addresses("bots.example", &mut None).await.unwrap();
        assert_eq!((found.addresses.len(), found.ttl), (2, Duration::from_secs(7)));
        // IPv6 is not even asked for.
        assert_eq!(dns.asked().iter().map(|query| query.kind).collect::<Vec<_>>(), [RecordType::A]);
    }
}

#[tokio::test]
async fn a_name_that_was_found_in_one_domain_is_not_replaced_by_another() {
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let failing = std::sync::Arc::clone(&fails);
    let dns = ScriptedDns::new(move |query| match (&*query.name, query.kind) {
        ("bot.one.", _) => DnsReply::Code(ResponseCode::NXDomain),
        ("bot.two.", _) if failing.load(std::sync::atomic::Ordering::Relaxed) => {
            DnsReply::Code(ResponseCode::ServFail)
        }
        ("bot.two.", RecordType::A) => v4(),
        ("bot.three.", RecordType::A) => DnsReply::Records(1, vec![RData::A(A([10, 9, 9, 9].into()))]),
        _ => none(),
    })
    .await;
    let config = ResolverConfig::from_parts(
        None,
        ["one", "two", "three"].map(name).into(),
        vec![server(&dns.address)],
    );
    let resolver = Resolver::with(config, ResolverOpts::default()).unwrap();
    let mut found = None;
    let two = resolver.addresses("bot", &mut found).await.unwrap();
    assert_eq!(two.addresses.len(), 2);
    assert_eq!(found, Some(name("bot.two.")));
    fails.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = resolver.addresses("bot", &mut found).await.unwrap_err();
    assert_eq!(error.label(), "unanswered");
    // Without such a memory the search goes on, as in libc.
    let three = resolver.addresses("bot", &mut None).await.unwrap();
    assert_eq!(three.addresses, [IpAddr::from([10, 9, 9, 9])]);
}
