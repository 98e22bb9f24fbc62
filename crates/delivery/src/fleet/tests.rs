//! The candidates and their order, and the state that a new snapshot keeps.

use std::{env::current_exe, process::Command, sync::Arc};

use proptest::prelude::*;
use switchboard_routing::{AffinityKey, CallbackUris, SealKey, rank};
use url::Url;

use super::*;
use crate::{
    Fill, InstanceState,
    cause::Cause,
    instance::{Eligibility, Event, Report, ReportedState, Shared},
    member::INSTANCES_MAX,
    upstream_url::UpstreamUrl,
};

pub(super) const APP: Uuid = Uuid::from_u128(1);
pub(super) const READY: Report = Report { state: ReportedState::Ready, calls: None, capacity: None };

pub(super) fn settings(probed: bool) -> FleetSettings {
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    let uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap());
    FleetSettings {
        region: Name::parse("emea").unwrap(),
        probed,
        uris,
        keep_leaving: Duration::ZERO,
        slow_start: Duration::ZERO,
        fill: Fill::Spread,
        eject_share: 1.0,
        trust: 1,
        shared: Shared::default(),
    }
}

pub(super) fn member(name: &str, incarnation: &str) -> Member {
    let target = UpstreamUrl::parse(&format!("http://{name}:3978/api/calls")).unwrap();
    Member {
        name: Name::parse(name).unwrap(),
        incarnation: Name::parse(incarnation).unwrap(),
        new_calls: target.clone(),
        callbacks: target,
        apps: None,
        weight: 1,
        source_state: SourceState::Ready,
    }
}

fn fleet(count: usize, probed: bool, now: Instant) -> Fleet {
    let members = (0..count).map(|at| member(&format!("bot-{at}"), "0")).collect();
    Fleet::new(members, true, &settings(probed), None, now)
}

pub(super) fn order(fleet: &Fleet, key: &str, now: Instant) -> Vec<String> {
    order_for(APP, fleet, key, now)
}

fn order_for(app: Uuid, fleet: &Fleet, key: &str, now: Instant) -> Vec<String> {
    let mut candidates = fleet.candidates(app, AffinityKey::of(key));
    std::iter::from_fn(|| candidates.next(now)).map(|one| one.instance.name().to_string()).collect()
}

pub(super) fn learn(fleet: &Fleet, name: &str, event: Event, now: Instant) {
    fleet.instance(name).unwrap().tracker.learn(event, now);
}

#[test]
fn an_ejected_instance_is_a_last_resort_and_then_takes_one_call_at_a_time() {
    for probed in [true, false] {
        let start = Instant::now();
        let fleet = fleet(3, probed, start);
        for name in ["bot-0", "bot-1", "bot-2"] {
            learn(&fleet, name, Event::Reported(READY), start);
        }
        let ranked = order(&fleet, "call", start);
        let first = ranked[0].clone();
        let last = vec![ranked[1].clone(), ranked[2].clone(), first.clone()];
        learn(&fleet, &first, Event::CallFailed(Cause::Timeout), start);
        assert_eq!(order(&fleet, "call", start), last);
        assert_eq!(order(&fleet, "call", start + Duration::from_millis(999)), last);
        let later = start + Duration::from_secs(1);
        assert_eq!(order(&fleet, "call", later), ranked);
        // Half-open: while one call is pending, the instance is a last resort for others.
        let tracker = &fleet.instance(&first).unwrap().tracker;
        let trial = tracker.reserve(later, Eligibility::Eligible).unwrap();
        assert_eq!(order(&fleet, "call", later), last);
        assert!(tracker.reserve(later, Eligibility::Eligible).is_none());
        let last_resort = tracker.reserve(later, Eligibility::LastResort).unwrap();
        // Neither a callback nor a report ends it.
        tracker.note_connected(later);
        tracker.reported(READY, later, later);
        assert_eq!(order(&fleet, "call", later), last);
        trial.not_accepted(later);
        last_resort.not_accepted(later);
        let trial = tracker.reserve(later, Eligibility::Eligible).unwrap();
        tracker.learn(Event::CallResponded, later);
        assert_eq!(order(&fleet, "call", later), ranked);
        trial.not_accepted(later);
    }
}

#[test]
fn an_instance_that_refuses_connections_is_a_last_resort_until_a_later_probe() {
    let start = Instant::now();
    let fleet = fleet(2, true, start);
    for name in ["bot-0", "bot-1"] {
        learn(&fleet, name, Event::Reported(READY), start);
    }
    let ranked = order(&fleet, "call", start);
    let tracker = &fleet.instance(&ranked[0]).unwrap().tracker;
    let second = |n| start + Duration::from_secs(n);
    assert!(!tracker.refuses_connections());
    learn(&fleet, &ranked[0], Event::ProbeSent, second(1));
    learn(&fleet, &ranked[0], Event::CallFailed(Cause::Refused), second(2));
    assert_eq!(order(&fleet, "call", second(2)), [ranked[1].clone(), ranked[0].clone()]);
    assert!(tracker.refuses_connections());
    tracker.reported(READY, second(1), second(3));
    assert_eq!(order(&fleet, "call", second(9)), [ranked[1].clone(), ranked[0].clone()]);
    assert!(tracker.refuses_connections());
    learn(&fleet, &ranked[0], Event::ProbeSent, second(4));
    tracker.reported(READY, second(4), second(5));
    assert_eq!(order(&fleet, "call", second(5)), ranked);
    assert!(!tracker.refuses_connections());
}

#[test]
fn the_last_connection_says_whether_an_instance_refuses_connections() {
    let start = Instant::now();
    let second = |n| start + Duration::from_secs(n);
    let fleet = fleet(1, true, start);
    let tracker = &fleet.instance("bot-0").unwrap().tracker;
    for (name, event, refuses) in [
        ("a probe is refused", Attempted::Probe(Cause::Refused), true),
        ("the gateway has no descriptors", Attempted::Probe(Cause::Exhausted), true),
        ("a probe gets a response that is no report", Attempted::Probe(Cause::BadReport), false),
        ("a call gets no connection in time", Attempted::Call(Cause::ConnectTimeout), false),
        ("a call is refused", Attempted::Call(Cause::Refused), true),
        ("an earlier call times out", Attempted::Call(Cause::Timeout), true),
        ("a callback is refused", Attempted::Callback(Cause::Refused), true),
        ("a callback gets a response", Attempted::CallbackOk, false),
    ] {
        match event {
            Attempted::Probe(cause) => tracker.probe_missed(cause, second(1), second(1)),
            Attempted::Call(cause) => tracker.learn(Event::CallFailed(cause), second(1)),
            Attempted::Callback(cause) => {
                fleet.instance("bot-0").unwrap().callback_failed(cause, second(1), second(1));
            }
            Attempted::CallbackOk => tracker.note_connected(second(1)),
        }
        assert_eq!(tracker.refuses_connections(), refuses, "{name}");
    }
}

/// An attempt to reach an instance.
enum Attempted {
    Probe(Cause),
    Call(Cause),
    Callback(Cause),
    CallbackOk,
}

#[test]
fn a_failed_callback_ejects_as_a_failed_call_does() {
    let start = Instant::now();
    let second = |n| start + Duration::from_secs(n);
    for (cause, sent, expected) in [
        (Cause::Timeout, 0, InstanceState::Ejected),
        (Cause::BadHead, 0, InstanceState::Ejected),
        (Cause::BadGateway, 0, InstanceState::Ejected),
        (Cause::Refused, 0, InstanceState::Unreachable),
        (Cause::Exhausted, 0, InstanceState::Ready),
        (Cause::NoTime, 0, InstanceState::Ready),
    ] {
        let fleet = fleet(1, true, start);
        learn(&fleet, "bot-0", Event::Reported(READY), start);
        fleet.instance("bot-0").unwrap().callback_failed(cause, second(sent), second(8));
        assert_eq!(fleet.instance("bot-0").unwrap().status(second(8)).state, expected, "{cause}");
    }
    // A callback that was sent before an ejection says nothing about the time after it.
    let fleet = fleet(1, true, start);
    let instance = fleet.instance("bot-0").unwrap();
    learn(&fleet, "bot-0", Event::Reported(READY), start);
    learn(&fleet, "bot-0", Event::CallFailed(Cause::Timeout), second(3));
    for (sent, eligibility) in [(2, Eligibility::Eligible), (4, Eligibility::LastResort)] {
        instance.callback_failed(Cause::Timeout, second(sent), second(10));
        assert_eq!(instance.tracker.eligibility(second(11)), eligibility);
    }
}

#[test]
fn three_races_lost_in_a_row_eject() {
    let now = Instant::now();
    let fleet = fleet(1, false, now);
    let tracker = &fleet.instance("bot-0").unwrap().tracker;
    for (event, eligibility) in [
        (Event::RaceLost, Eligibility::Eligible),
        (Event::RaceLost, Eligibility::Eligible),
        (Event::CallResponded, Eligibility::Eligible),
        (Event::RaceLost, Eligibility::Eligible),
        (Event::RaceLost, Eligibility::Eligible),
        (Event::RaceLost, Eligibility::LastResort),
    ] {
        tracker.learn(event, now);
        assert_eq!(tracker.eligibility(now), eligibility);
    }
    let status = fleet.instance("bot-0").unwrap().status(now);
    assert_eq!(status.reason, "attempts failed: three other instances in a row responded sooner");
    assert_eq!(status.counts.failures, [("races_lost", 1)]);
}

#[test]
fn a_separate_url_for_callbacks_is_not_proved_by_the_probe() {
    let start = Instant::now();
    let elsewhere = UpstreamUrl::parse("http://bot-0:9999/").unwrap();
    let members = vec![Member { callbacks: elsewhere, ..member("bot-0", "0") }];
    let fleet = Fleet::new(members, true, &settings(true), None, start);
    let instance = fleet.instance("bot-0").unwrap();
    learn(&fleet, "bot-0", Event::Reported(READY), start);
    instance.callback_failed(Cause::Refused, start, start);
    for _ in 0..3 {
        learn(&fleet, "bot-0", Event::ProbeSent, start);
        learn(&fleet, "bot-0", Event::Reported(READY), start);
    }
    assert_eq!(instance.status(start).state, InstanceState::Unreachable);
}

#[test]
fn the_reported_load_reaches_the_ranking() {
    let now = Instant::now();
    let fleet = fleet(2, true, now);
    let report = |calls| {
        Event::Reported(Report { state: ReportedState::Ready, calls: Some(calls), capacity: Some(10) })
    };
    for name in ["bot-0", "bot-1"] {
        learn(&fleet, name, report(0), now);
    }
    let ranked = order(&fleet, "call", now);
    learn(&fleet, &ranked[0], report(9), now);
    assert_eq!(order(&fleet, "call", now), [ranked[1].clone(), ranked[0].clone()]);
}

#[test]
fn an_instance_is_a_candidate_for_its_apps_only() {
    let now = Instant::now();
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let apps = [None, Some(vec![one]), Some(vec![two]), Some(vec![two, one, two]), Some(vec![]), None];
    let members: Vec<_> = apps
        .into_iter()
        .enumerate()
        .map(|(at, apps)| Member { apps, ..member(&format!("bot-{at}"), "0") })
        .collect();
    let fleet = Fleet::new(members, true, &settings(false), None, now);
    for (app, expected) in [
        (one, vec!["bot-0", "bot-1", "bot-3", "bot-5"]),
        (two, vec!["bot-0", "bot-2", "bot-3", "bot-5"]),
        (Uuid::from_u128(3), vec!["bot-0", "bot-5"]),
    ] {
        for key in ["a", "b", "c"] {
            let ranked = order_for(app, &fleet, key, now);
            // They rank as in a fleet of their own.
            let alone: Vec<_> = ranked.iter().map(|name| member(name, "0")).collect();
            assert_eq!(ranked, order(&Fleet::new(alone, true, &settings(false), None, now), key, now));
            let first = fleet.first_ranked(AffinityKey::of(key), app).unwrap();
            assert_eq!(first.name().as_str(), ranked[0]);
            let mut names = ranked;
            names.sort();
            assert_eq!(names, expected);
        }
    }
}

#[test]
fn the_number_of_candidates_left_is_known() {
    let now = Instant::now();
    for (count, failed, expected) in
        [(3, 0, vec![2, 1, 0]), (3, 1, vec![2, 1, 0]), (3, 3, vec![2, 1, 0]), (5, 0, vec![3, 3, 2, 1, 0])]
    {
        let fleet = fleet(count, false, now);
        for at in 0..failed {
            learn(&fleet, &format!("bot-{at}"), Event::CallFailed(Cause::Timeout), now);
        }
        let mut candidates = fleet.candidates(APP, AffinityKey::of("call"));
        let left: Vec<_> = std::iter::from_fn(|| candidates.next(now)).map(|one| one.left).collect();
        assert_eq!(left, expected, "{count} {failed}");
    }
}

#[test]
fn an_instance_that_fails_or_drains_while_another_is_asked_is_not_asked_again() {
    let now = Instant::now();
    let fleet = fleet(3, false, now);
    let mut candidates = fleet.candidates(APP, AffinityKey::of("call"));
    let first = candidates.next(now).unwrap().instance.name().to_string();
    let others: Vec<_> = (0..3).map(|at| format!("bot-{at}")).filter(|name| *name != first).collect();
    learn(&fleet, &first, Event::CallFailed(Cause::Timeout), now);
    learn(&fleet, &others[0], Event::Drained, now);
    assert_eq!(
        candidates.next(now).map(|one| (one.instance.name().to_string(), one.left)),
        Some((others[1].clone(), 0))
    );
    assert!(candidates.next(now).is_none());
}

#[test]
fn a_new_incarnation_or_another_address_is_another_process() {
    let now = Instant::now();
    let before = fleet(1, true, now);
    learn(&before, "bot-0", Event::Drained, now);
    let state = |members| {
        let after = Fleet::new(members, true, &settings(true), Some(&before), now);
        assert!(after.origins().generation() > before.origins().generation());
        after.instance("bot-0").unwrap().status(now).state
    };
    assert_eq!(state(vec![member("bot-0", "0")]), InstanceState::Draining);
    assert_eq!(
        state(vec![Member { weight: 5, apps: Some(vec![APP]), ..member("bot-0", "0") }]),
        InstanceState::Draining
    );
    assert_eq!(state(vec![member("bot-0", "1")]), InstanceState::Starting);
    let elsewhere = UpstreamUrl::parse("http://elsewhere/").unwrap();
    assert_eq!(
        state(vec![Member { new_calls: elsewhere.clone(), ..member("bot-0", "0") }]),
        InstanceState::Starting
    );
    assert_eq!(state(vec![Member { callbacks: elsewhere, ..member("bot-0", "0") }]), InstanceState::Starting);
}

#[test]
fn of_two_instances_with_one_name_the_first_is_kept() {
    let now = Instant::now();
    let fleet =
        Fleet::new(vec![member("bot-0", "1"), member("bot-0", "2")], true, &settings(false), None, now);
    assert_eq!(fleet.instances().len(), 1);
    assert_eq!(fleet.instance("bot-0").unwrap().owner.incarnation.as_str(), "1");
}

#[test]
fn instances_at_one_host_share_a_slot() {
    let now = Instant::now();
    let target = |text| UpstreamUrl::parse(text).unwrap();
    let members = vec![
        Member { callbacks: target("http://bot-0:3978/other"), ..member("bot-0", "0") },
        Member {
            new_calls: target("http://BOT-0:3978/two"),
            callbacks: target("https://bot-0:3978/"),
            ..member("bot-1", "0")
        },
    ];
    let fleet = Fleet::new(members, true, &settings(false), None, now);
    let slots = |name| {
        let instance = fleet.instance(name).unwrap();
        (instance.new_calls.slot, instance.callbacks.slot)
    };
    assert_eq!((slots("bot-0"), slots("bot-1"), fleet.origins().list().len()), ((0, 0), (0, 1), 2));
}

#[test]
fn the_parts_for_an_app_are_made_once() {
    let fleet = fleet(1, false, Instant::now());
    let instance = fleet.instance("bot-0").unwrap();
    let apps: Vec<Uuid> = [5, 1, 9, 3].map(Uuid::from_u128).to_vec();
    let made: Vec<_> = apps.iter().map(|app| instance.app_parts(*app)).collect();
    for (app, made) in apps.iter().zip(&made) {
        assert!(Arc::ptr_eq(made, &instance.app_parts(*app)));
        let uri = instance_uri(&fleet, *app);
        let fields = String::from_utf8(made.fields.0.clone()).unwrap();
        assert!(
            fields.starts_with(&format!("switchboard-callback-uri: {uri}\r\nswitchboard-app-id: {app}\r\n"))
        );
    }
}

fn report_incarnation(fleet: &Fleet, name: &str, incarnation: &str) {
    let probed = &fleet.instance(name).unwrap().probed_incarnation;
    let incarnation = Name::parse(incarnation).unwrap();
    probed.reported(&Name::parse(name).unwrap(), Some(&incarnation), Instant::now(), Duration::ZERO);
}

#[test]
fn the_incarnation_of_the_source_wins_over_that_of_the_probe() {
    let now = Instant::now();
    let members = || vec![member("bot-0", "0"), member("bot-1", "uid")];
    let first = Fleet::new(members(), true, &settings(true), None, now);
    for name in ["bot-0", "bot-1"] {
        report_incarnation(&first, name, "a1");
    }
    let second = Fleet::new(members(), true, &settings(true), Some(&first), now);
    let incarnations = |fleet: &Fleet| {
        fleet.instances().iter().map(|one| one.owner.incarnation.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(incarnations(&first), ["0", "uid"]);
    assert_eq!(incarnations(&second), ["a1", "uid"]);
    assert_eq!(second.members(), members());
    // An incarnation that becomes known is no restart.
    assert!(first.instances().iter().zip(second.instances()).all(|(one, same)| is_same(one, same)));

    for name in ["bot-0", "bot-1"] {
        report_incarnation(&second, name, "b2");
    }
    let third = Fleet::new(members(), true, &settings(true), Some(&second), now);
    assert_eq!(incarnations(&third), ["b2", "uid"]);
    let same: Vec<bool> =
        second.instances().iter().zip(third.instances()).map(|(one, other)| is_same(one, other)).collect();
    assert_eq!(same, [false, true]);
}

#[test]
fn an_incarnation_for_which_the_callback_uri_has_no_room_is_not_used() {
    let now = Instant::now();
    let long = "b".repeat(63);
    let mut settings = settings(true);
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse(&format!("https://{}.{}.com", "a".repeat(60), "a".repeat(63))).unwrap();
    settings.uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap());
    let members = || vec![member(&long, "0")];
    let first = Fleet::new(members(), true, &settings, None, now);
    for (incarnation, expected) in [("1790000000123", "0"), ("1", "1")] {
        report_incarnation(&first, &long, incarnation);
        let next = Fleet::new(members(), true, &settings, Some(&first), now);
        assert_eq!(next.instance(&long).unwrap().owner.incarnation.as_str(), expected);
        let checked = settings.uris.check(next.instance(&long).unwrap().owner.as_ref());
        assert!(checked.is_ok(), "{checked:?}");
    }
}

fn is_same(one: &Arc<Instance>, other: &Arc<Instance>) -> bool {
    Arc::ptr_eq(&one.tracker, &other.tracker)
}

fn instance_uri(fleet: &Fleet, app: Uuid) -> String {
    settings(false).uris.mint(&fleet.instance("bot-0").unwrap().owner, app)
}

/// The next snapshot, without the first instance of `before`, and with a `keep_leaving` of a minute.
fn without_first(before: &Fleet, now: Instant) -> Fleet {
    let members = before.members().into_iter().filter(|member| member.name.as_str() != "bot-0").collect();
    let settings = FleetSettings { keep_leaving: Duration::from_secs(60), ..settings(false) };
    Fleet::new(members, true, &settings, Some(before), now)
}

fn next(last: &Fleet, now: Instant) -> Fleet {
    let settings = FleetSettings { keep_leaving: Duration::from_secs(60), ..settings(false) };
    assert_eq!(last.has_removable(settings.keep_leaving, now), last.instances().len() > last.members().len());
    Fleet::new(last.members(), true, &settings, Some(last), now)
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_no_longer_listed_keeps_its_callbacks_and_gets_no_calls() {
    let before = fleet(2, false, Instant::now());
    let after = without_first(&before, Instant::now());
    let gone = after.instance("bot-0").unwrap();
    assert_eq!(
        (gone.status(Instant::now()).state, gone.source_state),
        (InstanceState::Draining, SourceState::Unlisted)
    );
    for key in 0..20 {
        assert_eq!(order(&after, &key.to_string(), Instant::now()), ["bot-1"]);
        assert_eq!(
            after.first_ranked(AffinityKey::of(&key.to_string()), APP).unwrap().name().as_str(),
            "bot-1"
        );
    }
    // It reports no calls, so the bound decides.
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(!after.has_removable(Duration::from_secs(60), Instant::now()));
    tokio::time::advance(Duration::from_secs(1)).await;
    let last = next(&after, Instant::now());
    assert!(last.instance("bot-0").is_none());
    assert_eq!(last.gone()[0].status(Instant::now()).state, InstanceState::Gone);
}

#[tokio::test(start_paused = true)]
async fn an_unlisted_instance_that_reports_no_calls_is_removed() {
    let now = Instant::now();
    let report = |calls| Report { state: ReportedState::Draining, calls: Some(calls), capacity: None };
    let before = fleet(2, true, now);
    let settings = FleetSettings { keep_leaving: Duration::from_secs(60), ..settings(true) };
    let members = before.members().into_iter().skip(1).collect();
    before.instance("bot-0").unwrap().tracker.reported(report(0), now, now);
    tokio::time::advance(Duration::from_millis(1)).await;
    let after = Fleet::new(members, true, &settings, Some(&before), Instant::now());
    let overdue = || after.has_removable(settings.keep_leaving, Instant::now());
    // The report is older than the change of the list: a call may have been placed since.
    assert!(!overdue());
    tokio::time::advance(Duration::from_millis(1)).await;
    let tracker = &after.instance("bot-0").unwrap().tracker;
    tracker.reported(report(1), Instant::now(), Instant::now());
    assert!(!overdue());
    tracker.reported(report(0), Instant::now(), Instant::now());
    let in_flight = tracker.request_started(Instant::now());
    assert!(!overdue());
    drop(in_flight);
    assert!(overdue());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_comes_back_is_the_same_one() {
    let before = fleet(2, false, Instant::now());
    let after = without_first(&before, Instant::now());
    let again = Fleet::new(before.members(), true, &settings(false), Some(&after), Instant::now());
    let back = again.instance("bot-0").unwrap();
    assert!(Arc::ptr_eq(&back.tracker, &before.instance("bot-0").unwrap().tracker));
    assert_eq!(back.status(Instant::now()).state, InstanceState::Ready);
    assert!(again.gone().is_empty());
}

#[test]
fn a_new_incarnation_is_another_instance_and_the_old_one_is_gone() {
    let now = Instant::now();
    let settings = FleetSettings { keep_leaving: Duration::from_secs(60), ..settings(false) };
    let before = Fleet::new(vec![member("bot-0", "a1")], true, &settings, None, now);
    let after = Fleet::new(vec![member("bot-0", "b2")], true, &settings, Some(&before), now);
    assert_eq!(after.instances().len(), 1);
    assert_eq!(before.instance("bot-0").unwrap().status(now).state, InstanceState::Gone);
    // Its name is in use again, so it is not shown.
    assert!(after.gone().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_became_ready_warms_up() {
    let slow = Duration::from_secs(100);
    let start = Instant::now();
    let slowly = FleetSettings { slow_start: slow, ..settings(true) };
    let fleet = Fleet::new(vec![Member { weight: 5, ..member("bot-0", "0") }], true, &slowly, None, start);
    let weight = |fleet: &Fleet, now| fleet.for_all[0].candidate(fleet.clock(now)).weight;
    let warm = |now| weight(&fleet, now);
    tokio::time::advance(slow).await;
    let ready = Report { state: ReportedState::Ready, calls: None, capacity: None };
    learn(&fleet, "bot-0", Event::Reported(ready), Instant::now());
    for (after, weight) in [(0, 5), (25, 125), (50, 250), (100, 500), (1000, 500)] {
        assert_eq!(warm(start + slow + Duration::from_secs(after)), weight);
    }
    // An instance that was full or drained is warm.
    learn(&fleet, "bot-0", Event::Drained, Instant::now());
    tokio::time::advance(slow).await;
    learn(&fleet, "bot-0", Event::Resumed, Instant::now());
    assert_eq!(warm(Instant::now()), 500);
    let now = Instant::now();
    let at_once = Fleet::new(fleet.members(), true, &settings(true), Some(&fleet), now);
    assert_eq!(weight(&at_once, now), 5);
    // An instance that was drained, restarted and resumed is cold, whether its report or the resume comes
    // first.
    for resumed_first in [false, true] {
        tokio::time::advance(slow).await;
        learn(&fleet, "bot-0", Event::Drained, Instant::now());
        for _ in 0..3 {
            learn(&fleet, "bot-0", Event::ProbeMissed(Cause::Timeout), Instant::now());
        }
        let resume = [Event::Resumed, Event::Reported(ready), Event::Reported(ready)];
        let mut events = resume;
        if !resumed_first {
            events.rotate_left(1);
        }
        for event in events {
            learn(&fleet, "bot-0", event, Instant::now());
        }
        assert_eq!(warm(Instant::now()), 5, "{resumed_first}");
    }
}

#[test]
fn changes_of_state_are_counted() {
    let now = Instant::now();
    let fleet = fleet(1, false, now);
    for event in [Event::Drained, Event::Drained, Event::Resumed, Event::Drained] {
        learn(&fleet, "bot-0", event, now);
    }
    let entered = fleet.instance("bot-0").unwrap().status(now).counts.entered;
    assert_eq!(entered, [(InstanceState::Ready, 1), (InstanceState::Draining, 2)]);
}

/// The resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// In a process of its own: the other tests of this one allocate in the meantime.
#[test]
fn ten_thousand_instances_fit_in_memory() {
    let test = "fleet::tests::the_memory_of_ten_thousand_instances";
    let measured =
        Command::new(current_exe().unwrap()).args(["--ignored", "--exact", test]).output().unwrap();
    let shown = String::from_utf8_lossy(&measured.stdout);
    assert!(measured.status.success() && shown.contains("1 passed"), "{shown}");
}

/// The memory of ten thousand instances, with the parts for one app.
#[test]
#[ignore = "ten_thousand_instances_fit_in_memory runs it in a process of its own"]
fn the_memory_of_ten_thousand_instances() {
    let before = resident_bytes();
    let now = Instant::now();
    let fleet = fleet(10_000, true, now);
    for instance in fleet.instances() {
        let ready = Report { state: ReportedState::Ready, calls: Some(5), capacity: Some(10) };
        instance.tracker.reported(ready, now, now);
        instance.app_parts(APP);
    }
    let next = Fleet::new(fleet.members(), true, &settings(true), Some(&fleet), now);
    let bytes = resident_bytes().saturating_sub(before);
    assert!(bytes < 60 << 20, "{bytes}");
    assert_eq!(next.candidates(APP, AffinityKey::of("call")).next(now).unwrap().left, 3);
}

fn any_event() -> impl Strategy<Value = Option<Event>> {
    let event = prop_oneof![
        Just(Event::Drained),
        Just(Event::CallFailed(Cause::Timeout)),
        Just(Event::RateLimited(Duration::from_secs(9))),
        Just(Event::ProbeMissed(Cause::Timeout)),
    ];
    prop::option::weighted(0.4, event)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The first candidate, which is found without a look at most instances, is the one that a sort of all of
    /// them puts first.
    #[test]
    fn the_first_candidate_is_the_first_of_all_in_order(
        instances in prop::collection::vec(
            (1..4_u32, prop::option::of(1..3_u128), any_event(), prop::option::of((0..20_u32, 1..20_u32))),
            0..40,
        ),
        slow_start in prop_oneof![Just(0_u64), Just(60)],
        seconds in 0..90_u64,
        key in any::<u64>(),
    ) {
        let start = Instant::now();
        let settings = FleetSettings { slow_start: Duration::from_secs(slow_start), ..settings(true) };
        let members = instances.iter().enumerate().map(|(at, (weight, app, ..))| Member {
            weight: *weight,
            apps: app.map(|app| vec![Uuid::from_u128(app)]),
            ..member(&format!("bot-{at}"), "0")
        });
        let fleet = Fleet::new(members.collect(), true, &settings, None, start);
        let now = start + Duration::from_secs(seconds);
        for (at, (_, _, event, load)) in instances.iter().enumerate() {
            let name = format!("bot-{at}");
            let (calls, capacity) = load.unzip();
            let reported = start + Duration::from_secs(u64::try_from(at).unwrap());
            learn(&fleet, &name, Event::Reported(Report { calls, capacity, ..READY }), reported);
            event.iter().for_each(|event| learn(&fleet, &name, *event, reported));
        }
        let (clock, key) = (fleet.clock(now), AffinityKey::of(&key.to_string()));
        let expected = [Eligibility::Eligible, Eligibility::LastResort].into_iter().find_map(|eligibility| {
            let all = fleet.rankable(APP).into_iter().flatten();
            let (names, candidates): (Vec<_>, Vec<_>) = all
                .filter(|one| one.eligibility(clock) == eligibility)
                .map(|one| (fleet.at(one.at).unwrap().name(), one.candidate(clock)))
                .unzip();
            rank(key, &candidates).next().map(|first| (names[first], eligibility))
        });
        let first = fleet.candidates(APP, key).next(now);
        prop_assert_eq!(first.map(|one| (one.instance.name(), one.eligibility)), expected);
    }

    /// One more of equal instances takes about its share of the keys, and no other key moves. The other
    /// instances keep their trackers and owners, so their callbacks stay where they are.
    #[test]
    fn an_added_instance_takes_its_share_and_moves_nothing_else(count in 1..40_u16, salt in any::<u32>()) {
        const KEYS: u16 = 2_000;
        let now = Instant::now();
        let before = fleet(count.into(), false, now);
        let mut members = before.members();
        members.insert(usize::from(count / 2), member("the-new-one", "0"));
        let after = Fleet::new(members, true, &settings(false), Some(&before), now);
        let mut moved = 0_u16;
        for key in 0..KEYS {
            let key = AffinityKey::of(&format!("{salt}-{key}"));
            let first = |fleet: &Fleet| fleet.candidates(APP, key).next(now).unwrap().instance.name().clone();
            let (old, new) = (first(&before), first(&after));
            if old != new {
                prop_assert_eq!(new.as_str(), "the-new-one");
                moved += 1;
            }
        }
        // Six standard deviations of a fair die with one more side.
        let part = 1.0 / f64::from(count + 1);
        let fair = f64::from(KEYS) * part;
        let deviation = (fair * (1.0 - part)).sqrt();
        prop_assert!(
            (f64::from(moved) - fair).abs() < 6.0 * deviation,
            "{} of {} moved, the fair share is {}", moved, KEYS, fair
        );
        for old in before.instances() {
            let new = after.instance(old.name().as_str()).unwrap();
            prop_assert!(Arc::ptr_eq(&old.tracker, &new.tracker) && old.owner == new.owner);
        }
    }

    /// Two gateways with the same knowledge of the same instances choose alike, however they learned it.
    #[test]
    fn gateways_with_the_same_view_choose_alike(
        instances in proptest::collection::vec((0..4_u8, 1..4_u32, 0..12_u32, 1..12_u32), 1..12),
        turn in any::<prop::sample::Index>(),
        salt in any::<u32>(),
    ) {
        let now = Instant::now();
        let members: Vec<_> = instances
            .iter()
            .enumerate()
            .map(|(at, (_, weight, ..))| Member { weight: *weight, ..member(&format!("bot-{at}"), "0") })
            .collect();
        let one = Fleet::new(members.clone(), true, &settings(true), None, now);
        // The other gateway found them in another order, one after the other.
        let mut turned = members;
        turned.rotate_left(turn.index(instances.len()));
        let earlier = Fleet::new(turned[..turned.len() / 2].to_vec(), true, &settings(true), None, now);
        let two = Fleet::new(turned, true, &settings(true), Some(&earlier), now + Duration::from_secs(1));
        for fleet in [&one, &two] {
            for (at, (kind, _, calls, capacity)) in instances.iter().enumerate() {
                use ReportedState::{Draining, Full, Ready};
                let state = [Draining, Full, Ready, Ready][usize::from(*kind)];
                let report = Report { state, calls: Some(*calls), capacity: Some(*capacity) };
                learn(fleet, &format!("bot-{at}"), Event::Reported(report), now);
            }
        }
        for key in 0..50 {
            let key = format!("{salt}-{key}");
            prop_assert_eq!(order(&one, &key, now), order(&two, &key, now + Duration::from_secs(1)));
        }
    }

    /// Whatever the instances report, the candidates are exactly the ready ones, and the owner of a callback
    /// is found whatever its state.
    #[test]
    fn candidates_are_the_ready_ones(
        reports in proptest::collection::vec((0..5_u8, 0..3_u32, 0..3_u32), 1..8),
        key in ".{0,8}",
    ) {
        let now = Instant::now();
        let fleet = fleet(reports.len(), true, now);
        let mut ready = Vec::new();
        for (at, (kind, calls, capacity)) in reports.into_iter().enumerate() {
            let name = format!("bot-{at}");
            let state = match kind {
                0 => None,
                1 => Some(ReportedState::Draining),
                2 => Some(ReportedState::Full),
                _ => Some(ReportedState::Ready),
            };
            if let Some(state) = state {
                let report = Report { state, calls: Some(calls), capacity: Some(capacity) };
                learn(&fleet, &name, Event::Reported(report), now);
            }
            if kind == 4 {
                learn(&fleet, &name, Event::Drained, now);
            }
            if kind == 3 && calls < capacity {
                ready.push(name);
            }
        }
        let mut candidates = order(&fleet, &key, now);
        candidates.sort();
        ready.sort();
        prop_assert_eq!(candidates, ready);
        prop_assert!(fleet.instances().iter().all(|one| fleet.instance(one.name().as_str()).is_some()));
    }
}

#[test]
fn a_source_that_lists_others_each_time_does_not_fill_the_memory() {
    let now = Instant::now();
    let settings = FleetSettings { keep_leaving: Duration::from_secs(3600), ..settings(false) };
    let members = |from: usize| (from..from + 100).map(|at| member(&format!("bot-{at}"), "0")).collect();
    let mut fleet = Fleet::new(members(0), true, &settings, None, now);
    learn(&fleet, "bot-7", Event::AttemptStarted, now);
    learn(&fleet, "bot-7", Event::CallAccepted(None), now);
    // The first instances that left, with many more that could.
    let many = (1..=INSTANCES_MAX).map(|at| member(&format!("left-{at}"), "0")).collect();
    fleet = Fleet::new(many, true, &settings, Some(&fleet), now);
    assert_eq!(fleet.instances().len(), INSTANCES_MAX + 100);
    fleet = Fleet::new(members(1000), true, &settings, Some(&fleet), now);
    assert_eq!(fleet.instances().len(), 100 + INSTANCES_MAX + 1);
    assert!(fleet.instance("bot-7").is_some());
}
