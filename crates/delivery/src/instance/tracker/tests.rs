//! The calls that a gateway expects an instance to have, against the calls that it has, and the share of a
//! fleet that is ejected at once.

use proptest::prelude::*;

use super::*;
use crate::instance::{PendingCall, ejection_share::EjectionShare, event::ReportedState};

fn tracker(ejections: &Arc<EjectionShare>, now: Instant) -> Arc<Tracker> {
    let shared = Shared { ejections: Arc::clone(ejections), ..Shared::default() };
    let name = Name::parse("bot-0").unwrap();
    Arc::new(Tracker::new(name, Arc::default(), shared, true, SourceState::Ready, now, now))
}

/// An instance that counts its calls, and the tracker of the gateway for it.
struct Bot {
    tracker: Arc<Tracker>,
    now: Instant,
    next_id: u32,
    /// Its capacity now, and the capacity that it last reported.
    capacity: u32,
    reported_capacity: u32,
    /// Calls that it accepted, whose response has not reached the gateway.
    unacknowledged: Vec<(u32, PendingCall)>,
    /// Calls that it accepted, whose response reached the gateway or was lost.
    calls: Vec<u32>,
    /// Calls sent to it that it has not handled yet.
    pending: Vec<(u32, PendingCall)>,
    /// Calls that it ended itself, before the platform reported their end.
    hung_up: Vec<u32>,
    /// A probe in flight, and its report.
    probe: Option<(Instant, Option<Report>)>,
}

impl Bot {
    fn new(capacity: u32) -> Self {
        let now = Instant::now();
        let tracker = tracker(&Arc::default(), now);
        let mut bot = Self {
            tracker,
            now,
            next_id: 0,
            capacity,
            reported_capacity: capacity,
            unacknowledged: Vec::new(),
            calls: Vec::new(),
            pending: Vec::new(),
            hung_up: Vec::new(),
            probe: None,
        };
        for step in [0, 1, 2] {
            bot.step(step, 0);
        }
        bot
    }

    /// The number of calls that it has, or will have if it accepts all pending ones.
    fn has(&self) -> usize {
        self.calls.len() + self.unacknowledged.len() + self.pending.len()
    }

    /// Performs a step if it is possible; `which` selects one of several calls.
    fn step(&mut self, step: u8, which: usize) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        fn take<T>(list: &mut Vec<T>, which: usize) -> Option<T> {
            (!list.is_empty()).then(|| list.swap_remove(which % list.len()))
        }
        match step {
            0 if self.probe.is_none() => {
                self.tracker.learn(Event::ProbeSent, now);
                self.probe = Some((now, None));
            }
            1 => {
                let calls = u32::try_from(self.calls.len() + self.unacknowledged.len()).unwrap();
                let found =
                    Report { state: ReportedState::Ready, calls: Some(calls), capacity: Some(self.capacity) };
                if let Some((_, report @ None)) = &mut self.probe {
                    *report = Some(found);
                }
            }
            2 => {
                if let Some((sent, Some(report))) = self.probe {
                    self.tracker.reported(report, sent, now);
                    self.reported_capacity = report.capacity.unwrap();
                    self.probe = None;
                }
            }
            3..=5 => {
                if let Some(pending) = self.tracker.reserve(now, Eligibility::Eligible) {
                    self.pending.push((self.next_id, pending));
                    self.next_id += 1;
                }
            }
            6 | 7 => self.unacknowledged.extend(take(&mut self.pending, which)),
            8 | 9 => {
                if let Some((id, pending)) = take(&mut self.unacknowledged, which) {
                    pending.accepted(Some(&id.to_string()), now);
                    self.calls.push(id);
                }
            }
            10 => {
                if let Some((_, pending)) = take(&mut self.pending, which) {
                    pending.not_accepted(now);
                }
            }
            // The response is lost, or the instance died before it sent one.
            11 => {
                if let Some((id, _)) = take(&mut self.unacknowledged, which) {
                    self.calls.push(id);
                }
            }
            12 => drop(take(&mut self.pending, which)),
            13 => {
                if let Some(id) = take(&mut self.calls, which) {
                    self.tracker.call_ended(&id.to_string(), now);
                }
            }
            14 => self.hung_up.extend(take(&mut self.calls, which)),
            15 => {
                if let Some(id) = take(&mut self.hung_up, which) {
                    self.tracker.call_ended(&id.to_string(), now);
                }
            }
            _ => self.capacity = u32::try_from(which % 6).unwrap(),
        }
    }
}

/// Several steps in a row, so that much happens, or a single step, so that any order occurs.
fn a_move() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(vec![0, 1, 2]),
        4 => Just(vec![3, 6, 8]),
        2 => Just(vec![14]),
        2 => Just(vec![15]),
        6 => (0..16_u8).prop_map(|step| vec![step]),
        1 => Just(vec![16]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One gateway sends an instance no call for which it has no room according to its last report. This
    /// holds for any order of probes, attempts, lost responses and ends, also if the instance ends calls
    /// itself or changes its capacity.
    #[test]
    fn one_gateway_never_exceeds_a_capacity(
        capacity in 1..6_u32,
        moves in proptest::collection::vec((a_move(), 0..100_usize), 0..80),
    ) {
        let mut bot = Bot::new(capacity);
        for (at, (steps, which)) in moves.iter().enumerate() {
            for step in steps {
                let before = bot.has();
                bot.step(*step, *which);
                let has = u32::try_from(bot.has()).unwrap();
                prop_assert!(
                    bot.has() <= before || has <= bot.reported_capacity,
                    "{} of {} after {:?}", has, bot.reported_capacity, &moves[..=at]
                );
            }
        }
    }
}

#[test]
fn a_call_that_its_instance_hung_up_frees_one_place() {
    let mut bot = Bot::new(2);
    // Two calls are accepted, and the instance hangs one up. First a probe reports it, then the platform.
    for step in [3, 6, 8, 3, 6, 8, 14, 0, 1, 2, 15, 3, 3] {
        bot.step(step, 0);
    }
    assert_eq!((bot.has(), bot.tracker.state(bot.now)), (2, InstanceState::Full));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever fails, leaves, comes back or recovers: no more than the share is ejected at once for slow or
    /// failed responses, and a place that is free is given out.
    #[test]
    fn no_more_than_the_share_is_ejected_at_once(
        count in 1..12_usize,
        share in 0.0..1.0_f64,
        steps in proptest::collection::vec((0..12_usize, 0..9_u8, 0..1_500_u64), 0..150),
    ) {
        let mut now = Instant::now();
        let ejections = Arc::new(EjectionShare::default());
        ejections.resize(count, share);
        let max = (1..=count).rev().find(|max| f64::from(u8::try_from(*max).unwrap())
            <= share * f64::from(u8::try_from(count).unwrap())).unwrap_or(1);
        let ready = Report { state: ReportedState::Ready, calls: None, capacity: None };
        let trackers: Vec<_> = (0..count).map(|_| tracker(&ejections, now)).collect();
        for tracker in &trackers {
            tracker.reported(ready, now, now);
        }
        let ejected = |now| {
            trackers.iter().filter(|one| one.health().ejection().counted_until(now).is_some()).count()
        };
        for (at, step, wait_ms) in steps {
            now += Duration::from_millis(wait_ms);
            let tracker = &trackers[at % count];
            match step {
                0..=2 => {
                    let was_full = ejected(now) >= max;
                    let held = tracker.health().ejection().counted_until(now).is_some();
                    let pending = tracker.reserve(now, Eligibility::LastResort);
                    tracker.learn(Event::CallFailed(Cause::Timeout), now);
                    if let Some(pending) = pending {
                        pending.not_accepted(now);
                        let is_ejected = tracker.health().ejection().counted_until(now).is_some();
                        prop_assert_eq!(is_ejected, held || !was_full);
                    }
                }
                3 => tracker.learn(Event::CallFailed(Cause::Unavailable), now),
                4 => tracker.learn(Event::SourceChanged(SourceState::Removed), now),
                5 => tracker.learn(Event::SourceChanged(SourceState::Unlisted), now),
                6 | 7 => tracker.learn(Event::SourceChanged(SourceState::Ready), now),
                _ => if let Some(pending) = tracker.reserve(now, Eligibility::LastResort) {
                    tracker.learn(Event::CallResponded, now);
                    pending.not_accepted(now);
                },
            }
            prop_assert!(ejected(now) <= max, "{} of {} with {}", ejected(now), count, share);
        }
    }
}
