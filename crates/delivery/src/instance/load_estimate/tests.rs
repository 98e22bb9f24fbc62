//! The estimates of one and of several gateways, against the calls that an instance has.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// An instance, and the gateways that place calls there.
struct Model {
    now: Instant,
    gateways: Vec<Gateway>,
    /// The gateways that placed the calls, by the number of the call.
    placed_by: Vec<usize>,
    /// The calls of the instance.
    calls: Vec<CallKey>,
    /// Calls that the instance ended itself, before the platform reported their end.
    hung_up: Vec<CallKey>,
}

#[derive(Default)]
struct Gateway {
    load: LoadEstimate,
    /// The report of the probe in flight, once the instance wrote it.
    probe: Option<Option<u32>>,
    /// Since the last probe with a report was sent, and since the probe in flight was sent.
    since: [Since; 2],
    /// Calls sent to the instance without a response so far.
    pending: Vec<CallKey>,
}

/// Events since a probe was sent.
#[derive(Clone, Copy, Default)]
struct Since {
    placed_by_others: u32,
    ended: u32,
    /// Calls of this gateway that the instance hung up before the report, and whose end arrived after it.
    late_ends: u32,
    /// Calls in doubt: the report may or may not contain them.
    in_doubt: u32,
}

impl Model {
    fn new(gateways: usize) -> Self {
        let gateways = (0..gateways).map(|_| Gateway::default()).collect();
        let (now, placed_by) = (Instant::now(), Vec::new());
        let mut model = Self { now, gateways, placed_by, calls: Vec::new(), hung_up: Vec::new() };
        for gateway in 0..model.gateways.len() {
            model.probe(gateway);
        }
        model
    }

    fn probe(&mut self, at: usize) {
        self.send_probe(at);
        self.write_report(at);
        self.receive_report(at);
    }

    fn send_probe(&mut self, at: usize) {
        let gateway = &mut self.gateways[at];
        if gateway.probe.is_none() {
            gateway.load.probe_sent();
            gateway.probe = Some(None);
            gateway.since[1] = Since::default();
            gateway.since[1].in_doubt = u32::try_from(gateway.pending.len()).unwrap();
        }
    }

    fn write_report(&mut self, at: usize) {
        let calls = u32::try_from(self.calls.len()).unwrap();
        if let Some(report @ None) = &mut self.gateways[at].probe {
            *report = Some(calls);
        }
    }

    fn receive_report(&mut self, at: usize) {
        let gateway = &mut self.gateways[at];
        if let Some(Some(calls)) = gateway.probe {
            gateway.load.reported(Some(calls), Some(1000), self.now);
            gateway.probe = None;
            gateway.since[0] = gateway.since[1];
        }
    }

    /// A gateway sends a call, and the instance accepts it.
    fn send(&mut self, at: usize) {
        let key = CallKey::numbered(self.placed_by.len().try_into().unwrap());
        self.placed_by.push(at);
        self.calls.push(key);
        for (nth, gateway) in self.gateways.iter_mut().enumerate() {
            for since in &mut gateway.since {
                if nth == at {
                    since.in_doubt += 1;
                } else {
                    since.placed_by_others += 1;
                }
            }
        }
        self.gateways[at].load.attempt_started();
        self.gateways[at].pending.push(key);
    }

    /// The response to a call arrives.
    fn receive(&mut self, at: usize, is_lost: bool) {
        let gateway = &mut self.gateways[at];
        if let Some(key) = gateway.pending.pop() {
            gateway.load.call_accepted((!is_lost).then_some(key));
        }
    }

    fn place(&mut self, at: usize) -> CallKey {
        self.send(at);
        self.receive(at, false);
        *self.calls.last().unwrap()
    }

    /// The platform reports the end of a call to a gateway, once or twice.
    fn end(&mut self, at: usize, key: CallKey, times: u8) {
        let was_hung_up = self.hung_up.contains(&key);
        self.calls.retain(|one| *one != key);
        self.hung_up.retain(|one| *one != key);
        let is_own = |gateway: &usize| {
            (0..).zip(&self.placed_by).any(|(number, by)| by == gateway && key == CallKey::numbered(number))
        };
        let late_at = Some(at).filter(|at| was_hung_up && is_own(at));
        for (nth, gateway) in self.gateways.iter_mut().enumerate() {
            for since in &mut gateway.since {
                since.ended += u32::from(!was_hung_up);
                since.late_ends += u32::from(late_at == Some(nth));
            }
        }
        for _ in 0..times {
            self.gateways[at].load.call_ended(key);
        }
    }

    fn hang_up(&mut self, which: usize) {
        let which = which % self.calls.len();
        self.hung_up.push(self.calls.swap_remove(which));
        for gateway in &mut self.gateways {
            for since in &mut gateway.since {
                since.ended += 1;
            }
        }
    }

    fn expected(&self, at: usize) -> u32 {
        self.gateways[at].load.expected_calls().unwrap()
    }
}

#[test]
fn placed_calls_are_added_to_the_report_and_ended_calls_subtracted() {
    let now = Instant::now();
    let mut load = LoadEstimate::default();
    load.reported(Some(10), Some(20), now);
    for call in 0..2 {
        load.attempt_started();
        load.call_accepted(Some(CallKey::numbered(call)));
    }
    load.call_ended(CallKey::numbered(1));
    load.call_ended(CallKey::numbered(1));
    assert_eq!(load.expected_calls(), Some(11));
    assert_eq!(load.load(), Some(Load { calls: 11, capacity: 20 }));
    load.forget_report();
    assert_eq!((load.expected_calls(), load.load()), (None, None));
}

#[test]
fn a_fall_of_the_report_by_other_gateways_is_not_subtracted_again() {
    // A capacity of 3: two calls of the first gateway and one of the second, which then ends there.
    let mut model = Model::new(2);
    let own = [model.place(0), model.place(0)];
    let other = model.place(1);
    model.probe(0);
    assert_eq!(model.expected(0), 3);
    model.end(1, other, 1);
    model.probe(0);
    assert_eq!(model.expected(0), 2);
    // It has two calls again, one of each gateway, and then one.
    let again = model.place(1);
    model.probe(0);
    assert_eq!(model.expected(0), 3);
    model.end(0, own[0], 1);
    assert_eq!(model.expected(0), 2);
    model.end(0, own[1], 2);
    assert_eq!(model.expected(0), 1);
    model.end(1, again, 1);
    model.probe(0);
    assert_eq!(model.expected(0), 0);
}

#[test]
fn calls_that_end_through_another_gateway_are_forgotten() {
    // One call stays, so the report is never 0.
    let mut model = Model::new(2);
    model.place(1);
    for _ in 0..1000 {
        for _ in 0..10 {
            let call = model.place(0);
            model.end(1, call, 1);
        }
        model.now += Duration::from_secs(5);
        model.probe(0);
        model.probe(1);
    }
    let counted = model.gateways[0].load.placed_calls();
    // The calls of three or four reports.
    assert!(counted <= 40, "{counted}");
    // When nothing is placed any more, nothing is left.
    for _ in 0..10 {
        model.now += Duration::from_secs(5);
        model.probe(0);
    }
    assert_eq!(model.gateways[0].load.placed_calls(), 1);
}

#[test]
fn without_reports_a_bounded_number_of_calls_is_remembered() {
    let mut load = LoadEstimate::default();
    for call in 0..100_000 {
        load.attempt_started();
        load.call_accepted((call % 3 != 0).then_some(CallKey::numbered(call)));
    }
    assert_eq!(load.placed_calls(), UNREPORTED_MAX);
}

#[test]
fn a_call_that_its_instance_hung_up_frees_one_place_whichever_it_is() {
    for which in 0..3 {
        let mut model = Model::new(1);
        for _ in 0..3 {
            model.place(0);
        }
        model.hang_up(which);
        model.probe(0);
        assert_eq!(model.expected(0), 2);
        let late = model.hung_up[0];
        model.end(0, late, 1);
        assert_eq!(model.expected(0), 2);
        let live = model.calls[0];
        model.end(0, live, 1);
        assert_eq!(model.expected(0), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The estimate of one of several gateways is off by at most what happened since its last report was
    /// requested.
    #[test]
    fn estimates_stay_within_their_bound(
        gateways in 1..4_usize,
        steps in proptest::collection::vec((0..12_u8, 0..4_usize, 0..100_usize, 0..6_000_u64), 0..120),
    ) {
        let mut model = Model::new(gateways);
        for (nth, (step, at, which, wait_ms)) in steps.iter().enumerate() {
            let (at, which) = (at % gateways, *which);
            model.now += Duration::from_millis(*wait_ms);
            match step {
                0 => model.probe(at),
                1 => model.send_probe(at),
                2 => model.write_report(at),
                3 => model.receive_report(at),
                4 | 5 => _ = model.place(at),
                6 => model.send(at),
                7 => model.receive(at, which == 0),
                8 | 9 if !model.calls.is_empty() => {
                    let key = model.calls[which % model.calls.len()];
                    if model.gateways.iter().all(|gateway| !gateway.pending.contains(&key)) {
                        model.end(at, key, u8::from(which % 2 == 0) + 1);
                    }
                }
                10 if !model.calls.is_empty() => {
                    let key = model.calls[which % model.calls.len()];
                    if model.gateways.iter().all(|gateway| !gateway.pending.contains(&key)) {
                        model.hang_up(which);
                    }
                }
                11 if !model.hung_up.is_empty() => {
                    let key = model.hung_up[which % model.hung_up.len()];
                    model.end(at, key, 1);
                }
                _ => {}
            }
            let actual = u32::try_from(model.calls.len()).unwrap();
            for (at, gateway) in model.gateways.iter().enumerate() {
                let expected = model.expected(at);
                let since = gateway.since[0];
                prop_assert!(
                    expected + since.placed_by_others + since.late_ends >= actual,
                    "{} too low: {} of {} after {:?}", at, expected, actual, &steps[..=nth]
                );
                prop_assert!(
                    expected <= actual + since.ended + since.in_doubt,
                    "{} too high: {} of {} after {:?}", at, expected, actual, &steps[..=nth]
                );
            }
        }
    }

    /// The keys of a map do not matter, and nothing is lost by a hundred reports in a row.
    #[test]
    fn reports_without_changes_are_exact(calls in 0..50_u32, reports in 1..100_u32) {
        let mut model = Model::new(1);
        let mut own = HashMap::new();
        for call in 0..calls {
            own.insert(call, model.place(0));
        }
        for _ in 0..reports {
            model.now += Duration::from_secs(5);
            model.probe(0);
            prop_assert_eq!(model.expected(0), calls);
        }
        for (nth, (_, key)) in (1..).zip(own) {
            model.end(0, key, 1);
            prop_assert_eq!(model.expected(0), calls - nth);
        }
    }
}
