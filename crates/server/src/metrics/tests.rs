//! The exposition, read line by line as a scraper reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use switchboard_auth::{Forbidden, Rejection, TrustStatus};
use switchboard_delivery::{
    DeliveryDurations, InstanceCounts, InstanceState, InstanceStatus, PlacementCounters,
};
use switchboard_graph::{TransportError, TransportErrorKind};
use switchboard_notification::ItemKind;
use switchboard_routing::{Name, Policy};
use uuid::{Uuid, uuid};

use super::{
    ConfigNumbers, DeliveryNumbers, Format, Metrics, RequestKind, Scrape,
    recorder::{ITEM_KINDS, index_of_item},
    series::index_of,
};
use crate::{config::Limits, request::outcome::Outcome, telemetry::LogCounts};

const APP: Uuid = uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");
pub(crate) const LIMITS: Limits = Limits {
    body: 1,
    body_memory: 2000,
    head: 1,
    connections: 300,
    connections_per_source: None,
    in_flight: 100,
    in_flight_per_instance: 1,
    idle: Duration::ZERO,
};

fn numbers() -> DeliveryNumbers {
    DeliveryNumbers { idle_connections: 4, ..DeliveryNumbers::default() }
}

fn exposition(
    metrics: &Metrics,
    trusts: Vec<TrustStatus>,
    instances: Vec<InstanceStatus>,
    delivery: DeliveryNumbers,
) -> String {
    let scrape = Scrape {
        metrics,
        trusts,
        instances,
        delivery,
        durations: &DeliveryDurations::default(),
        config: ConfigNumbers {
            policy: &Policy::new(Name::parse("emea").unwrap(), Vec::new(), Vec::new()).unwrap(),
            apps: &[APP],
            limits: &LIMITS,
        },
        now: UNIX_EPOCH + Duration::from_secs(1_790_000_100),
    };
    let texts = [Format::OpenMetrics, Format::Text].map(|format| scrape.text(format));
    let [one, other] = texts.each_ref().map(|text| parse(text));
    // The two are written at different moments, between which the process does something.
    let of_gateway = |series: BTreeMap<String, f64>| {
        series.into_iter().filter(|(name, _)| name.starts_with("switchboard_")).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(one.len(), other.len());
    assert_eq!(of_gateway(one), of_gateway(other), "both formats have the same series");
    let [text, _] = texts;
    text
}

/// Returns the value of each series by its name and labels. Panics where the text breaks the grammar of its
/// format: of OpenMetrics if it ends with `# EOF`, else of the text format 0.0.4.
#[track_caller]
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    let (text, is_open_metrics) = match text.strip_suffix("# EOF\n") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut lines = text.lines().peekable();
    let mut families = BTreeSet::new();
    let mut series = BTreeMap::new();
    while lines.peek().is_some() {
        let mut metadata = BTreeMap::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('#')) {
            let [_, kind, name, rest] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!(metadata.insert(kind, (name, rest)).is_none(), "{line}");
        }
        let (family, kind) = metadata["TYPE"];
        assert!(families.insert(family), "a family comes once: {family}");
        assert!(metadata.values().all(|(name, _)| *name == family), "{metadata:?}");
        assert!(is_name(family), "{family}");
        assert!(family.starts_with("switchboard_") || family.starts_with("process_"), "{family}");
        let (_, help) = metadata["HELP"];
        assert!(!help.is_empty() && !help.contains(['\\', '"']), "{help}");
        let unit = family.rsplit('_').next().filter(|unit| ["seconds", "bytes"].contains(unit));
        let shown = metadata.get("UNIT").map(|(_, unit)| *unit);
        assert_eq!(shown, unit.filter(|_| is_open_metrics), "{family}");
        let suffixes: &[&str] = match (kind, is_open_metrics) {
            ("counter", true) => &["_total"],
            ("info", true) => &["_info"],
            ("counter", false) if family.ends_with("_total") => &[""],
            ("histogram", _) => &["_sum", "_count", "_bucket"],
            ("gauge", _) => &[""],
            other => panic!("{family} {other:?}"),
        };
        let mut samples = 0;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let name_length = line.find(['{', ' ']).unwrap();
            let (name, rest) = line.split_at(name_length);
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line}"));
            assert!(suffixes.contains(&suffix), "{line}");
            let (labels, value) = parse_labels(rest);
            let value: f64 = value.strip_prefix(' ').unwrap().parse().unwrap();
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let key = format!("{name}{{{}}}", labels.join(","));
            assert!(series.insert(key, value).is_none(), "a series comes once: {line}");
            samples += 1;
        }
        assert!(samples > 0, "a family has samples: {family}");
    }
    series
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Returns the labels, unescaped, and the text after them.
fn parse_labels(text: &str) -> (Vec<(String, String)>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Vec::new(), text) };
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(name), "{text}");
        let mut value = String::new();
        let mut chars = after.chars();
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    char @ ('\\' | '"') => char,
                    char => panic!("unknown escape {char:?} in {text}"),
                }),
                char => value.push(char),
            }
        }
        labels.push((name.to_owned(), value));
        match chars.as_str().split_at(1) {
            (",", after) => rest = after,
            ("}", after) => return (labels, after),
            _ => panic!("{text}"),
        }
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(LogCounts::default()))
}

pub(crate) fn trust(name: &str) -> TrustStatus {
    TrustStatus {
        name: name.into(),
        keys: 3,
        generation: 7,
        age: Some(Duration::from_millis(1500)),
        fetches_ok: 5,
        fetches_failed: 4,
        fetches_held_back: 1,
        next_fetch: None,
        last_failure: None,
    }
}

pub(crate) fn instance(name: &str) -> InstanceStatus {
    InstanceStatus {
        name: Name::parse(name).unwrap(),
        incarnation: Name::parse("0").unwrap(),
        state: InstanceState::Draining,
        is_drained: true,
        since: Duration::from_secs(3),
        reason: "an operator drains it",
        calls: Some(4),
        calls_expected: Some(5),
        calls_counted: 2,
        capacity: None,
        in_flight: 1,
        counts: InstanceCounts {
            placed: 10,
            callbacks: 11,
            attempts: 12,
            failures: vec![("connect", 2), ("timeout", 1)],
            missed_probes: 6,
            entered: vec![(InstanceState::Ready, 1), (InstanceState::Draining, 2)],
        },
        last_miss: Some("timeout"),
        restored_age: None,
        last_probe: None,
    }
}

#[track_caller]
fn check(metrics: &Arc<Metrics>, expected: &[(&str, f64)]) {
    let series = parse(&exposition(metrics, vec![trust("skype")], vec![instance("bot-3")], numbers()));
    for (name, value) in expected {
        assert_eq!(series.get(*name), Some(value), "{name} in {series:#?}");
    }
}

#[test]
fn every_record_method_changes_its_series() {
    let metrics = metrics();
    metrics.request(Outcome::Placed, RequestKind::Webhook, Duration::from_millis(2));
    metrics.request(Outcome::Forwarded, RequestKind::Callback, Duration::from_micros(400));
    metrics.request(Outcome::Gone, RequestKind::Callback, Duration::from_secs(60));
    metrics.request(Outcome::Health, RequestKind::Health, Duration::ZERO);
    metrics.request(Outcome::NotFound, RequestKind::Other, Duration::ZERO);
    metrics.authentication("skype", "ok");
    metrics.authentication("skype", "ok");
    metrics.authentication("skype", "expired");
    metrics.authentication("", "malformed");
    metrics.notification(ItemKind::Roster);
    metrics.redirect("amer");
    metrics.outcome_unknown(2);
    metrics.connection_ended(Outcome::HeadTooLarge);
    metrics.handshake_failed();
    metrics.peer_healthy("amer", true);
    metrics.peer_healthy("apac", true);
    metrics.peer_healthy("apac", false);
    metrics.peer_healthy("gone", true);
    metrics.retain_peers(|peer| peer != "gone");
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    metrics.configured(time(1_790_000_000));
    metrics.reload(true, time(1_790_000_001));
    metrics.reload(false, time(1_790_000_002));
    metrics.reload(false, time(1_790_000_003));
    metrics.certificate_not_after(Some(time(1_800_000_000)));
    metrics.new_calls.record(APP, Outcome::Placed, 1, false, Duration::from_millis(30));
    metrics.new_calls.record(APP, Outcome::Split, 2, true, Duration::from_millis(3));
    metrics.new_calls.record(APP, Outcome::Redirected, 1, false, Duration::ZERO);
    let failed = TransportError { kind: TransportErrorKind::TimedOut, detail: String::new() };
    metrics.graph_request(&Err(failed), Duration::from_secs(3));
    check(
        &metrics,
        &[
            ("switchboard_requests_total{outcome=placed}", 1.0),
            ("switchboard_requests_total{outcome=forwarded}", 1.0),
            ("switchboard_requests_total{outcome=not_found}", 1.0),
            ("switchboard_requests_total{outcome=panicked}", 0.0),
            ("switchboard_request_duration_seconds_count{kind=webhook}", 1.0),
            ("switchboard_request_duration_seconds_sum{kind=webhook}", 0.002),
            ("switchboard_request_duration_seconds_bucket{kind=webhook,le=0.001}", 0.0),
            ("switchboard_request_duration_seconds_bucket{kind=webhook,le=0.0025}", 1.0),
            ("switchboard_request_duration_seconds_bucket{kind=callback,le=0.0005}", 1.0),
            ("switchboard_request_duration_seconds_bucket{kind=callback,le=15.0}", 1.0),
            ("switchboard_request_duration_seconds_bucket{kind=callback,le=+Inf}", 2.0),
            ("switchboard_callbacks_total{outcome=forwarded}", 1.0),
            ("switchboard_callbacks_total{outcome=gone}", 1.0),
            ("switchboard_authentications_total{trust=skype,result=ok}", 2.0),
            ("switchboard_authentications_total{trust=skype,result=expired}", 1.0),
            ("switchboard_authentications_total{trust=,result=malformed}", 1.0),
            ("switchboard_notifications_total{kind=roster}", 1.0),
            ("switchboard_notifications_total{kind=not_a_call}", 0.0),
            ("switchboard_redirects_total{peer=amer}", 1.0),
            ("switchboard_outcomes_unknown_total{}", 2.0),
            ("switchboard_connections_failed_total{reason=head_too_large}", 1.0),
            ("switchboard_handshakes_failed_total{}", 1.0),
            ("switchboard_idle_connections{}", 4.0),
            ("switchboard_peer_healthy{peer=amer}", 1.0),
            ("switchboard_peer_healthy{peer=apac}", 0.0),
            ("switchboard_config_reloads_total{result=ok}", 1.0),
            ("switchboard_config_reloads_total{result=failed}", 2.0),
            ("switchboard_config_last_reload_successful{}", 0.0),
            ("switchboard_config_last_reload_success_timestamp_seconds{}", 1_790_000_001.0),
            ("switchboard_certificate_not_after_timestamp_seconds{}", 1_800_000_000.0),
            ("switchboard_log_lines_dropped_total{}", 0.0),
            (&format!("switchboard_new_calls_total{{app={APP},outcome=placed}}"), 1.0),
            (&format!("switchboard_new_calls_total{{app={APP},outcome=split}}"), 2.0),
            (&format!("switchboard_new_calls_total{{app={APP},outcome=redirected}}"), 1.0),
            (&format!("switchboard_new_calls_total{{app={APP},outcome=not_placed}}"), 0.0),
            ("switchboard_new_call_duration_seconds_count{recording=false}", 1.0),
            ("switchboard_new_call_duration_seconds_sum{recording=false}", 0.03),
            ("switchboard_new_call_duration_seconds_count{recording=true}", 1.0),
            ("switchboard_graph_request_duration_seconds_bucket{result=timeout,le=2.5}", 0.0),
            ("switchboard_graph_request_duration_seconds_bucket{result=timeout,le=5.0}", 1.0),
            ("switchboard_requests_in_flight_limit{}", 100.0),
            ("switchboard_connections_limit{}", 300.0),
            ("switchboard_request_body_limit_bytes{}", 2000.0),
            ("switchboard_panics_total{}", 0.0),
        ],
    );
    let text = exposition(&metrics, Vec::new(), Vec::new(), numbers());
    assert!(!parse(&text).contains_key("switchboard_peer_healthy{peer=gone}"));
}

#[test]
fn keys_and_instances_are_read_at_each_scrape() {
    check(
        &metrics(),
        &[
            ("switchboard_keys{trust=skype}", 3.0),
            ("switchboard_key_generation{trust=skype}", 7.0),
            ("switchboard_key_last_fetch_success_timestamp_seconds{trust=skype}", 1_790_000_099.0),
            ("switchboard_key_fetches_total{trust=skype,result=ok}", 5.0),
            ("switchboard_key_fetches_total{trust=skype,result=failed}", 3.0),
            ("switchboard_key_fetches_total{trust=skype,result=held_back}", 1.0),
            ("switchboard_instance_state{bot=bot-3,state=draining}", 1.0),
            ("switchboard_instance_state{bot=bot-3,state=ready}", 0.0),
            ("switchboard_instance_calls{bot=bot-3}", 4.0),
            ("switchboard_instance_requests_in_flight{bot=bot-3}", 1.0),
            ("switchboard_placements_total{bot=bot-3}", 10.0),
            ("switchboard_instance_callbacks_total{bot=bot-3}", 11.0),
            ("switchboard_attempts_total{bot=bot-3}", 12.0),
            ("switchboard_attempt_failures_total{bot=bot-3,reason=connect}", 2.0),
            ("switchboard_attempt_failures_total{bot=bot-3,reason=timeout}", 1.0),
            ("switchboard_probes_missed_total{bot=bot-3}", 6.0),
        ],
    );
}

/// A sum over the label `bot` gives the same with and without the series of each instance.
#[test]
fn without_the_series_of_each_instance_their_sums_are_left() {
    let second = InstanceStatus {
        name: Name::parse("bot-4").unwrap(),
        state: InstanceState::Ready,
        counts: InstanceCounts { failures: vec![("connect", 5)], ..instance("bot-4").counts },
        ..instance("bot-4")
    };
    let instances = vec![instance("bot-3"), second];
    let totals = InstanceCounts {
        placed: 20,
        callbacks: 22,
        attempts: 24,
        failures: vec![("connect", 7), ("timeout", 1)],
        missed_probes: 12,
        entered: vec![(InstanceState::Ready, 2), (InstanceState::Draining, 4)],
    };
    let exposition_of = |instance_totals| {
        let numbers = DeliveryNumbers { instance_totals, ..numbers() };
        exposition(&metrics(), Vec::new(), instances.clone(), numbers)
    };
    let mut sums = parse(&exposition_of(Some(totals.clone())));
    let mut expected = BTreeMap::new();
    for (key, value) in parse(&exposition_of(None)) {
        let key = key
            .replace("bot=bot-3,", "")
            .replace("bot=bot-4,", "")
            .replace("bot=bot-3", "")
            .replace("bot=bot-4", "");
        *expected.entry(key).or_insert(0.0) += value;
    }
    // The sums have all reasons from the start.
    for name in sums.keys().filter(|name| name.starts_with("switchboard_attempt_failures_total")) {
        expected.entry(name.clone()).or_insert(0.0);
    }
    for series in [&mut sums, &mut expected] {
        series.retain(|name, _| !name.starts_with("process_"));
    }
    assert_eq!(sums, expected);
    for (name, value) in [
        ("switchboard_instance_state{state=draining}", 1.0),
        ("switchboard_instance_state{state=ready}", 1.0),
        ("switchboard_attempt_failures_total{reason=connect}", 7.0),
        ("switchboard_placements_total{}", 20.0),
    ] {
        assert_eq!(sums[name], value, "{name}");
    }
    // An instance that left is in the totals only.
    let sums = parse(&exposition_of(Some(InstanceCounts { placed: 25, ..totals })));
    assert_eq!(sums["switchboard_placements_total{}"], 25.0);
}

#[test]
fn unknown_values_are_absent() {
    let status = TrustStatus { keys: 0, age: None, ..trust("skype") };
    let series = parse(&exposition(&metrics(), vec![status], vec![instance("bot-3")], numbers()));
    for name in [
        "switchboard_key_last_fetch_success_timestamp_seconds{trust=skype}",
        "switchboard_instance_capacity{bot=bot-3}",
        "switchboard_certificate_not_after_timestamp_seconds{}",
        "switchboard_fleet_source_last_success_timestamp_seconds{}",
    ] {
        assert!(!series.contains_key(name), "{name}");
    }
    let age = Some(Duration::from_millis(90_400));
    let series = parse(&exposition(
        &metrics(),
        Vec::new(),
        Vec::new(),
        DeliveryNumbers { source_age: age, ..numbers() },
    ));
    assert_eq!(series["switchboard_fleet_source_last_success_timestamp_seconds{}"], 1_790_000_010.0);
}

/// A rate needs a first value to start from.
#[test]
fn counters_start_at_0_with_all_values_of_their_labels() {
    let metrics = metrics();
    metrics.peer_healthy("amer", true);
    let instance = InstanceStatus { counts: InstanceCounts::default(), ..instance("bot-3") };
    let series = parse(&exposition(&metrics, vec![trust("skype")], vec![instance], numbers()));
    let outcomes = Outcome::ALL.map(Outcome::label);
    let tokens = ["ok", "keys_unavailable", "key_not_fetched"];
    let tokens = [&tokens, Rejection::LABELS, Forbidden::LABELS].concat();
    for (labels, values) in [
        ("requests_total{outcome=", &outcomes[..]),
        ("callbacks_total{outcome=", &outcomes),
        (&format!("new_calls_total{{app={APP},outcome="), &outcomes),
        ("authentications_total{trust=skype,result=", &tokens),
        ("authentications_total{trust=,result=", Rejection::LABELS),
        ("notifications_total{kind=", &ITEM_KINDS.map(ItemKind::label)),
        ("instance_transitions_total{bot=bot-3,state=", &InstanceState::ALL.map(InstanceState::label)),
        ("retries_total{result=", &["shared", "repeated", "placed_again"]),
        ("redirects_total{peer=", &["amer"]),
        ("connections_refused_total{reason=", &["no_slot", "source_share"]),
        ("connections_failed_total{reason=", &["bad_request", "head_too_large", "too_slow"]),
        ("config_reloads_total{result=", &["ok", "failed"]),
        ("placement_retries_total{kind=", &["hedge", "further"]),
        ("attempt_duration_seconds_count{result=", &["ok", "failed"]),
        ("probe_duration_seconds_count{result=", &["ok", "missed"]),
    ] {
        for value in values {
            let name = format!("switchboard_{labels}{value}}}");
            assert_eq!(series.get(&name), Some(&0.0), "{name}");
        }
    }
}

#[test]
fn every_outcome_and_every_kind_has_its_own_counter() {
    let metrics = metrics();
    for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(index_of(outcome), index, "{outcome:?}");
        for _ in 0..=index {
            metrics.request(outcome, RequestKind::Other, Duration::ZERO);
        }
    }
    for (index, kind) in ITEM_KINDS.into_iter().enumerate() {
        assert_eq!(index_of_item(kind), index, "{kind:?}");
        for _ in 0..=index {
            metrics.notification(kind);
        }
    }
    let series = parse(&exposition(&metrics, Vec::new(), Vec::new(), numbers()));
    for (count, outcome) in (1_u32..).zip(Outcome::ALL) {
        assert_eq!(
            series[&format!("switchboard_requests_total{{outcome={}}}", outcome.label())],
            f64::from(count)
        );
    }
    for (count, kind) in (1_u32..).zip(ITEM_KINDS) {
        assert_eq!(
            series[&format!("switchboard_notifications_total{{kind={}}}", kind.label())],
            f64::from(count)
        );
    }
}

#[test]
fn guards_count_down_when_they_are_dropped() {
    let metrics = metrics();
    let (first, second) = (metrics.start_request(), metrics.start_request());
    assert_eq!((first.count(), second.count()), (1, 2));
    let _worker = metrics.worker();
    drop(metrics.worker());
    let (_held, other) = (metrics.connection(), metrics.connection());
    assert_eq!(metrics.open_connections(), 2);
    metrics.connection_refused("no_slot");
    metrics.connection_evicted();
    drop((first, other));
    drop(metrics.connection());
    check(
        &metrics,
        &[
            ("switchboard_workers{}", 1.0),
            ("switchboard_request_body_bytes{}", 0.0),
            ("switchboard_requests_in_flight{}", 1.0),
            ("switchboard_connections{}", 1.0),
            ("switchboard_connections_refused_total{reason=no_slot}", 1.0),
            ("switchboard_connections_evicted_total{}", 1.0),
        ],
    );
}

#[test]
fn hostile_labels_forge_no_series() {
    let metrics = metrics();
    let name = "x\"} 1\nswitchboard_requests_total{outcome=\"placed\"} 99\n# EOF\n\\";
    metrics.redirect(name);
    metrics.authentication(name, "ok");
    metrics.peer_healthy(name, true);
    let series = parse(&exposition(&metrics, vec![trust(name)], Vec::new(), numbers()));
    assert_eq!(series["switchboard_requests_total{outcome=placed}"], 0.0);
    assert_eq!(series[&format!("switchboard_redirects_total{{peer={name}}}")], 1.0);
    assert_eq!(series[&format!("switchboard_keys{{trust={name}}}")], 3.0);
}

#[test]
fn labels_from_outside_share_one_counter_beyond_the_limit() {
    let metrics = metrics();
    for number in 0..2000 {
        metrics.redirect(&format!("region-{number}"));
    }
    let series = parse(&exposition(&metrics, Vec::new(), Vec::new(), numbers()));
    assert_eq!(series["switchboard_redirects_total{peer=others}"], 976.0);
}

#[test]
fn new_labels_in_many_threads_lose_no_count() {
    let metrics = metrics();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..500 {
                    metrics.redirect(&format!("region-{}", number % 50));
                }
            });
        }
    });
    let series = parse(&exposition(&metrics, Vec::new(), Vec::new(), numbers()));
    for number in 0..50 {
        assert_eq!(series[&format!("switchboard_redirects_total{{peer=region-{number}}}")], 40.0);
    }
}

#[test]
fn placement_has_its_counters() {
    let placement = PlacementCounters {
        hedges: 1,
        further_attempts: 2,
        retries_refused: 3,
        races_lost: 4,
        attempts_exhausted: 5,
        waits: 6,
        waits_successful: 7,
        waits_refused: 8,
        waiting: 9,
    };
    let series =
        parse(&exposition(&metrics(), Vec::new(), Vec::new(), DeliveryNumbers { placement, ..numbers() }));
    for (name, value) in [
        ("retries_total{kind=hedge}", 1.0),
        ("retries_total{kind=further}", 2.0),
        ("retries_refused_total{}", 3.0),
        ("races_lost_total{}", 4.0),
        ("attempts_exhausted_total{}", 5.0),
        ("waits_total{}", 6.0),
        ("waits_successful_total{}", 7.0),
        ("waits_refused_total{}", 8.0),
        ("waiting{}", 9.0),
    ] {
        assert_eq!(series.get(&format!("switchboard_placement_{name}")), Some(&value), "{name}");
    }
}
