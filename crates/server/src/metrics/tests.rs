//! The exposition, read line by line as a scraper reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use proptest::prelude::*;
use switchboard_auth::TrustStatus;
use switchboard_delivery::{InstanceState, InstanceStatus, PlacementCounters};
use switchboard_notification::ItemKind;
use switchboard_routing::Name;

use super::{
    Metrics, RequestKind, exposition,
    recorder::{ITEM_KINDS, index_of, index_of_item},
};
use crate::{metrics::DeliveryNumbers, request::outcome::Outcome, telemetry::LogCounts};

fn numbers() -> DeliveryNumbers {
    DeliveryNumbers { idle_connections: 4, is_per_instance: true, ..DeliveryNumbers::default() }
}

/// Returns the value of each series by its name and labels. Panics where the text breaks the OpenMetrics
/// grammar.
#[track_caller]
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut lines = text.strip_suffix("# EOF\n").expect("the text ends with # EOF").lines();
    let mut families = BTreeSet::new();
    let mut series = BTreeMap::new();
    let (mut family, mut kind) = (String::new(), String::new());
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name) && name.starts_with("switchboard_"), "{line}");
            assert!(!help.is_empty() && !help.contains(['\\', '"']), "{line}");
            assert!(families.insert(name.to_owned()), "a family comes once: {line}");
            name.clone_into(&mut family);
            let kind_line = lines.next().unwrap();
            kind_line
                .strip_prefix(&format!("# TYPE {name} "))
                .filter(|kind| ["counter", "gauge", "histogram"].contains(kind))
                .unwrap_or_else(|| panic!("{kind_line}"))
                .clone_into(&mut kind);
            continue;
        }
        let name_length = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(name_length);
        let suffixes: &[&str] = match &*kind {
            "counter" => &["_total"],
            "histogram" => &["_sum", "_count", "_bucket"],
            _ => &[""],
        };
        let suffix = name.strip_prefix(&*family).unwrap_or_else(|| panic!("{line}"));
        assert!(suffixes.contains(&suffix), "{line}");
        let (labels, value) = parse_labels(rest);
        let value: f64 = value.strip_prefix(' ').unwrap().parse().unwrap();
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let key = format!("{name}{{{}}}", labels.join(","));
        assert!(series.insert(key, value).is_none(), "a series comes once: {line}");
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

fn trust(name: &str) -> TrustStatus {
    TrustStatus {
        name: name.into(),
        keys: 3,
        generation: 7,
        age: Some(Duration::from_millis(1500)),
        fetches_ok: 5,
        fetches_failed: 4,
        fetches_held_back: 1,
    }
}

fn instance(name: &str) -> InstanceStatus {
    InstanceStatus {
        name: Name::parse(name).unwrap(),
        incarnation: Name::parse("0").unwrap(),
        state: InstanceState::Draining,
        since: Duration::from_secs(3),
        reason: "an operator drains it",
        calls: Some(4),
        calls_expected: Some(5),
        calls_counted: 2,
        capacity: None,
        placed: 10,
        callbacks: 11,
        in_flight: 1,
        attempts: 12,
        failures: vec![("connect", 2), ("timeout", 1)],
        missed_probes: 6,
        last_miss: Some("timeout"),
        restored_age: None,
        last_probe: None,
        entered: vec![(InstanceState::Ready, 1), (InstanceState::Draining, 2)],
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
    metrics.reload(true);
    metrics.reload(false);
    metrics.reload(false);
    metrics.certificate_not_after(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    check(
        &metrics,
        &[
            ("switchboard_requests_total{outcome=placed}", 1.0),
            ("switchboard_requests_total{outcome=forwarded}", 1.0),
            ("switchboard_requests_total{outcome=not_found}", 1.0),
            ("switchboard_requests_total{outcome=panicked}", 0.0),
            ("switchboard_request_duration_seconds_count{kind=webhook}", 1.0),
            ("switchboard_request_duration_seconds_sum{kind=webhook}", 0.002),
            ("switchboard_request_duration_seconds_bucket{le=0.001,kind=webhook}", 0.0),
            ("switchboard_request_duration_seconds_bucket{le=0.0025,kind=webhook}", 1.0),
            ("switchboard_request_duration_seconds_bucket{le=0.0005,kind=callback}", 1.0),
            ("switchboard_request_duration_seconds_bucket{le=15.0,kind=callback}", 1.0),
            ("switchboard_request_duration_seconds_bucket{le=+Inf,kind=callback}", 2.0),
            ("switchboard_callbacks_total{result=forwarded}", 1.0),
            ("switchboard_callbacks_total{result=gone}", 1.0),
            ("switchboard_authentications_total{trust=skype,reason=ok}", 2.0),
            ("switchboard_authentications_total{trust=skype,reason=expired}", 1.0),
            ("switchboard_authentications_total{trust=,reason=malformed}", 1.0),
            ("switchboard_notifications_total{kind=roster}", 1.0),
            ("switchboard_notifications_total{kind=not_a_call}", 0.0),
            ("switchboard_redirects_total{region=amer}", 1.0),
            ("switchboard_outcomes_unknown_total{}", 2.0),
            ("switchboard_connections_failed_total{reason=head_too_large}", 1.0),
            ("switchboard_handshakes_failed_total{}", 1.0),
            ("switchboard_idle_connections{}", 4.0),
            ("switchboard_peer_healthy{peer=amer}", 1.0),
            ("switchboard_peer_healthy{peer=apac}", 0.0),
            ("switchboard_config_reloads_total{result=ok}", 1.0),
            ("switchboard_config_reloads_total{result=failed}", 2.0),
            ("switchboard_certificate_not_after_seconds{}", 1_800_000_000.0),
            ("switchboard_log_dropped_total{}", 0.0),
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
            ("switchboard_key_age_seconds{trust=skype}", 1.5),
            ("switchboard_key_fetches_total{trust=skype,result=ok}", 5.0),
            ("switchboard_key_fetches_total{trust=skype,result=failed}", 3.0),
            ("switchboard_key_fetches_total{trust=skype,result=held_back}", 1.0),
            ("switchboard_instance_state{instance=bot-3,state=draining}", 1.0),
            ("switchboard_instance_state{instance=bot-3,state=ready}", 0.0),
            ("switchboard_instance_calls{instance=bot-3}", 4.0),
            ("switchboard_instance_requests_in_flight{instance=bot-3}", 1.0),
            ("switchboard_placements_total{instance=bot-3}", 10.0),
            ("switchboard_instance_callbacks_total{instance=bot-3}", 11.0),
            ("switchboard_attempts_total{instance=bot-3}", 12.0),
            ("switchboard_attempt_failures_total{instance=bot-3,reason=connect}", 2.0),
            ("switchboard_attempt_failures_total{instance=bot-3,reason=timeout}", 1.0),
            ("switchboard_probes_missed_total{instance=bot-3}", 6.0),
        ],
    );
}

/// A sum over the label `instance` gives the same with and without the series of each instance.
#[test]
fn without_the_series_of_each_instance_their_sums_are_left() {
    let second = InstanceStatus {
        name: Name::parse("bot-4").unwrap(),
        state: InstanceState::Ready,
        failures: vec![("connect", 5)],
        ..instance("bot-4")
    };
    let instances = vec![instance("bot-3"), second];
    let exposition_of = |is_per_instance| {
        let numbers = DeliveryNumbers { is_per_instance, ..numbers() };
        exposition(&metrics(), Vec::new(), instances.clone(), numbers)
    };
    let sums = parse(&exposition_of(false));
    let mut expected = BTreeMap::new();
    for (key, value) in parse(&exposition_of(true)) {
        let key = key
            .replace("instance=bot-3,", "")
            .replace("instance=bot-4,", "")
            .replace("instance=bot-3", "")
            .replace("instance=bot-4", "");
        *expected.entry(key).or_insert(0.0) += value;
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
}

#[test]
fn unknown_values_are_absent() {
    let status = TrustStatus { keys: 0, age: None, ..trust("skype") };
    let series = parse(&exposition(&metrics(), vec![status], vec![instance("bot-3")], numbers()));
    for name in [
        "switchboard_key_age_seconds{trust=skype}",
        "switchboard_instance_capacity{instance=bot-3}",
        "switchboard_certificate_not_after_seconds{}",
        "switchboard_fleet_source_age_seconds{}",
    ] {
        assert!(!series.contains_key(name), "{name}");
    }
    let age = Some(Duration::from_millis(90_500));
    let series = parse(&exposition(
        &metrics(),
        Vec::new(),
        Vec::new(),
        DeliveryNumbers { source_age: age, ..numbers() },
    ));
    assert_eq!(series["switchboard_fleet_source_age_seconds{}"], 90.5);
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
    assert_eq!(series[&format!("switchboard_redirects_total{{region={name}}}")], 1.0);
    assert_eq!(series[&format!("switchboard_keys{{trust={name}}}")], 3.0);
}

#[test]
fn labels_from_outside_share_one_counter_beyond_the_limit() {
    let metrics = metrics();
    for number in 0..2000 {
        metrics.redirect(&format!("region-{number}"));
    }
    let series = parse(&exposition(&metrics, Vec::new(), Vec::new(), numbers()));
    assert_eq!(series["switchboard_redirects_total{region=others}"], 976.0);
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
        assert_eq!(series[&format!("switchboard_redirects_total{{region=region-{number}}}")], 40.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_histogram_counts_each_duration_in_its_bucket(
        micros in proptest::collection::vec(0_u64..20_000_000, 0..50),
    ) {
        let metrics = metrics();
        for micros in &micros {
            metrics.request(Outcome::Forwarded, RequestKind::Callback, Duration::from_micros(*micros));
        }
        let series = parse(&exposition(&metrics, Vec::new(), Vec::new(), numbers()));
        let prefix = "switchboard_request_duration_seconds_bucket{le=";
        let buckets: Vec<_> = series
            .iter()
            .filter_map(|(name, count)| {
                let bound = name.strip_prefix(prefix)?.strip_suffix(",kind=callback}")?;
                Some((bound, *count))
            })
            .collect();
        prop_assert_eq!(buckets.len(), 17);
        for (bound, count) in buckets {
            let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            let seconds = micros.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64());
            let expected = seconds.filter(|seconds| *seconds <= bound).count();
            prop_assert_eq!(count, f64::from(u32::try_from(expected).unwrap()));
        }
        let sum: u64 = micros.iter().sum();
        let shown = series["switchboard_request_duration_seconds_sum{kind=callback}"];
        prop_assert!((shown - Duration::from_micros(sum).as_secs_f64()).abs() < 1e-6);
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
