//! The waits of a start, and the ages, in paused time.

use std::path::Path;

use tokio::time::sleep;

use super::*;
use crate::{
    Delivery, DeliverySettings, Discovery, DnsSettings, ProbeSettings,
    cause::Cause,
    fleet_store::tests::{dns, member, settings, three, tls, uris},
    instance::{Event, Report, ReportedState},
};

fn probed(folder: &Path) -> DeliverySettings {
    let interval = Duration::from_secs(5);
    DeliverySettings {
        probe: Some(ProbeSettings { path: "/healthz".into(), interval, is_forwarded: false }),
        store: None,
        ..settings(folder)
    }
}

fn respond_to_probe(delivery: &Delivery, instance: &str) {
    let fleet = delivery.fleet.load();
    let report = Report { state: ReportedState::Draining, calls: None, capacity: None };
    fleet.instance(instance).unwrap().tracker.learn(Event::Reported(report), Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_source_and_then_for_one_round_of_probes() {
    let folder = tempfile::tempdir().unwrap();
    let delivery = Delivery::new(probed(folder.path()), uris(), tls());
    assert_eq!(delivery.awaited(), Some(Awaited::Source));
    delivery.apply_members(three());
    assert_eq!(delivery.awaited(), Some(Awaited::Probes));
    respond_to_probe(&delivery, "bot-0");
    let now = Instant::now();
    delivery.fleet.load().instance("bot-1").unwrap().tracker.probe_missed(Cause::Timeout, now, now);
    assert_eq!(delivery.awaited(), Some(Awaited::Probes));
    // Whatever the result, one probe of each is enough.
    respond_to_probe(&delivery, "bot-2");
    assert_eq!(delivery.awaited(), None);
    // From then on, nothing that happens to the fleet counts: no new instance, no new source.
    delivery.apply_members(vec![member("bot-3", "d", "10.0.0.4")]);
    assert_eq!(delivery.awaited(), None);
    let other = Discovery::Dns(DnsSettings { name: "others.example".into(), ..dns() });
    let next = DeliverySettings { discovery: Some(other), ..probed(folder.path()) };
    let next = delivery.successor(next, uris(), tls());
    assert!(!next.is_known());
    assert_eq!(next.awaited(), None);
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_five_seconds_for_both_together() {
    let folder = tempfile::tempdir().unwrap();
    let unread = Delivery::new(probed(folder.path()), uris(), tls());
    let unprobed = Delivery::new(probed(folder.path()), uris(), tls());
    sleep(Duration::from_secs(4)).await;
    unprobed.apply_members(three());
    sleep(Duration::from_millis(999)).await;
    assert_eq!((unread.awaited(), unprobed.awaited()), (Some(Awaited::Source), Some(Awaited::Probes)));
    sleep(Duration::from_millis(1)).await;
    assert_eq!((unread.awaited(), unprobed.awaited()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_without_a_probe_is_ready_when_its_source_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let delivery = Delivery::new(settings(folder.path()), uris(), tls());
    assert_eq!(delivery.awaited(), Some(Awaited::Source));
    delivery.apply_members(three());
    assert_eq!(delivery.awaited(), None);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_source_is_that_of_its_last_good_answer() {
    let folder = tempfile::tempdir().unwrap();
    let delivery = Delivery::new(settings(folder.path()), uris(), tls());
    let age = |delivery: &Delivery| delivery.source_age().map(|age| age.as_secs());
    sleep(Duration::from_secs(7)).await;
    assert_eq!(age(&delivery), Some(7));
    delivery.apply_members(three());
    assert_eq!(age(&delivery), Some(0));
    sleep(Duration::from_secs(60)).await;
    // The same answer again is an answer.
    assert_eq!(age(&delivery), Some(60));
    delivery.apply_members(three());
    assert_eq!(age(&delivery), Some(0));
    sleep(Duration::from_secs(9)).await;
    // An instance that leaves between two answers is none.
    delivery.change_members(vec![member("bot-0", "a", "10.0.0.1")]);
    let next = delivery.successor(settings(folder.path()), uris(), tls());
    assert_eq!(age(&next), Some(9));
    let listed = DeliverySettings { discovery: None, ..settings(folder.path()) };
    assert_eq!(age(&delivery.successor(listed, uris(), tls())), None);
}
