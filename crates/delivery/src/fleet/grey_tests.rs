//! A grey instance: it passes its probes and hangs on calls.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use switchboard_routing::{AffinityKey, CallbackUris, SealKey};
use url::Url;

use super::*;
use crate::{
    Fill, InstanceState,
    cause::Cause,
    instance::{Eligibility, Event, PendingCall, Report, ReportedState, Shared},
    upstream_url::UpstreamUrl,
};

const APP: Uuid = Uuid::from_u128(1);
const ATTEMPT: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_secs(5);
const GREY: &str = "bot-2";

/// Four instances, one of them grey, and twenty calls a second for a minute. A call that gets no response in
/// [`ATTEMPT`] goes to the next candidate.
struct Simulation {
    fleet: Fleet,
    start: Instant,
    /// The steps to come, the earliest first.
    due: BinaryHeap<Reverse<(Instant, u32, Step)>>,
    order: u32,
    pending: BTreeMap<u32, PendingCall>,
    /// The calls that were delayed, by the time of their arrival.
    delayed: Vec<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Probe,
    EarlyProbe,
    Arrival(u32),
    TimeOut(u32),
}

impl Simulation {
    fn new(is_probed: bool) -> Self {
        let key = SealKey::new("k1", &[7; 32]).unwrap();
        let base = Url::parse("https://emea.bots.contoso.com").unwrap();
        let settings = FleetSettings {
            region: Name::parse("emea").unwrap(),
            probed: is_probed,
            uris: Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap()),
            keep_leaving: Duration::ZERO,
            slow_start: Duration::ZERO,
            fill: Fill::Spread,
            eject_share: 0.5,
            trust: 1,
            shared: Shared::default(),
        };
        let member = |at| {
            let name = format!("bot-{at}");
            let target = UpstreamUrl::parse(&format!("http://{name}:3978/api/calls")).unwrap();
            Member {
                name: Name::parse(&name).unwrap(),
                incarnation: Member::no_incarnation(),
                new_calls: target.clone(),
                callbacks: target,
                apps: None,
                weight: 1,
                source_state: SourceState::Ready,
            }
        };
        let start = Instant::now();
        let fleet = Fleet::new((0..4).map(member).collect(), true, &settings, None, start);
        let (due, pending) = (BinaryHeap::new(), BTreeMap::new());
        let mut simulation = Self { fleet, start, due, order: 0, pending, delayed: Vec::new() };
        for nth in 0..12 {
            simulation.at(start + INTERVAL * nth, Step::Probe);
        }
        for call in 0..20 * 60 {
            simulation
                .at(start + Duration::from_millis(50) * call + Duration::from_millis(1), Step::Arrival(call));
        }
        simulation
    }

    fn at(&mut self, at: Instant, step: Step) {
        self.order += 1;
        self.due.push(Reverse((at, self.order, step)));
    }

    fn run(&mut self) {
        while let Some(Reverse((now, _, step))) = self.due.pop() {
            match step {
                Step::Probe => self.fleet.instances().iter().for_each(|one| probe(one, now)),
                Step::EarlyProbe => probe(self.fleet.instance(GREY).unwrap(), now),
                Step::Arrival(call) => self.attempt(call, now),
                Step::TimeOut(call) => {
                    let tracker = Arc::clone(&self.fleet.instance(GREY).unwrap().tracker);
                    tracker.learn(Event::CallFailed(Cause::Timeout), now);
                    drop(self.pending.remove(&call));
                    self.at(now + Duration::from_secs(1), Step::EarlyProbe);
                    self.delayed.push(Duration::from_millis(50) * call);
                    self.attempt(call, now);
                }
            }
        }
    }

    fn attempt(&mut self, call: u32, now: Instant) {
        let was_delayed = self.delayed.last() == Some(&(Duration::from_millis(50) * call));
        let mut candidates = self.fleet.candidates(APP, AffinityKey::of(&format!("call-{call}")));
        while let Some(candidate) = candidates.next(now) {
            let instance = candidate.instance;
            let is_grey = instance.name().as_str() == GREY;
            if is_grey && was_delayed {
                continue;
            }
            assert_ne!(candidate.eligibility, Eligibility::Excluded);
            let Some(pending) = instance.tracker.reserve(now, candidate.eligibility) else { continue };
            if is_grey {
                self.pending.insert(call, pending);
                self.at(now + ATTEMPT, Step::TimeOut(call));
            } else {
                instance.tracker.learn(Event::CallResponded, now);
                pending.accepted(None, now);
            }
            return;
        }
        panic!("no candidate for {call}");
    }
}

fn probe(instance: &Instance, now: Instant) {
    let ready = Report { state: ReportedState::Ready, calls: None, capacity: None };
    instance.tracker.learn(Event::ProbeSent, now);
    instance.tracker.reported(ready, now, now);
}

#[tokio::test(start_paused = true)]
async fn a_grey_instance_delays_one_call_in_a_hundred_at_most_and_does_not_flap() {
    for is_probed in [true, false] {
        let mut simulation = Simulation::new(is_probed);
        simulation.run();
        let after = Duration::from_secs(10);
        let delayed = simulation.delayed.iter().filter(|arrival| **arrival >= after).count();
        let grey = simulation.fleet.instance(GREY).unwrap().status(simulation.start);
        let changes: u64 = grey.counts.entered.iter().map(|(_, count)| count).sum();
        let delayed_first = simulation.delayed.len() - delayed;
        let figures =
            format!("probed {is_probed}: {delayed} of 1000, {delayed_first} before, {changes} changes");
        assert!(delayed * 100 <= 20 * 50, "{figures}");
        assert!(changes <= 2, "{figures}");
        assert_eq!(grey.state, InstanceState::Ejected);
    }
}
