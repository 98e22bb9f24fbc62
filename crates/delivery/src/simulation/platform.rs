//! The platform of a run: calls with their callbacks, and the rules that each response must keep.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use switchboard_routing::{AffinityKey, Owner};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Gateway, RUN_TIME, bot::Bot, ledger::Ledger};
use crate::{
    ForwardError, InstanceState, Outbound, PlaceError, PlacementCounters, PlacementLimits, UpstreamResponse,
    fleet::Fleet, member::SourceState,
};

/// The platform's view of a run.
pub(super) struct Platform {
    pub(super) gateways: Vec<Arc<Gateway>>,
    pub(super) bots: Arc<Vec<Arc<Bot>>>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    /// The time for which a bot must have been well before a gateway has to know it.
    pub(super) known_after: Duration,
}

/// A call as it was announced, and what the gateway knew then.
struct Announcement<'a> {
    call: &'a str,
    limits: PlacementLimits,
    arrived: Instant,
    fleet: Arc<Fleet>,
    retries_refused: u64,
}

impl Platform {
    /// One call, from its announcement to its end.
    pub(super) async fn call(self: Arc<Self>, number: usize, mut random: fastrand::Rng) {
        let call = format!("call-{number}");
        let gateway = random.choice(&self.gateways).unwrap();
        let is_recorded = random.u32(0..4) == 0;
        let Some(owner) = self.announce(gateway, &call, is_recorded).await else { return };
        for _ in 0..random.u32(1..4) {
            sleep(Duration::from_millis(random.u64(50..4000))).await;
            self.call_back(&call, &owner, false, &mut random).await;
        }
        sleep(Duration::from_millis(random.u64(50..4000))).await;
        self.call_back(&call, &owner, true, &mut random).await;
    }

    /// Announces a call. Returns the bot that accepted it.
    async fn announce(&self, gateway: &Gateway, call: &str, is_recorded: bool) -> Option<Owner> {
        let limits = limits(is_recorded);
        let announcement = Announcement {
            call,
            limits,
            arrived: Instant::now(),
            fleet: gateway.delivery.fleet.load_full(),
            retries_refused: gateway.delivery.placement_counters().retries_refused,
        };
        let (outbound, key) = (outbound(call, None), AffinityKey::of(call));
        let placed = gateway.delivery.place(&gateway.connections, &outbound, key, limits).await;
        self.check_bounds(&announcement, &placed);
        let refusal = match placed {
            Ok(response) if response.status.is_success() => {
                let (instance, incarnation) = (response.instance.clone(), response.incarnation.clone());
                let owner = Owner { region: gateway.region(), instance, incarnation };
                let mut ledger = self.ledger.lock().unwrap();
                ledger.counts.placed += 1;
                if !ledger.has_accepted(call, &owner) {
                    let name = &owner.instance;
                    ledger.violated(format!("{call} counts as accepted by {name}, which did not"));
                }
                return Some(owner);
            }
            Ok(response) => format!("{} of {}", response.status, response.instance),
            Err(error) => {
                if self.is_within_bounds(gateway, &announcement, &error) {
                    self.check_refusal(gateway, &announcement, &error.to_string());
                }
                self.ledger.lock().unwrap().counts.refused += 1;
                return None;
            }
        };
        self.check_refusal(gateway, &announcement, &refusal);
        self.ledger.lock().unwrap().counts.refused += 1;
        None
    }

    /// The time, the deliveries and the attempts of a call have bounds.
    fn check_bounds(&self, announcement: &Announcement<'_>, placed: &Result<UpstreamResponse, PlaceError>) {
        let &Announcement { call, limits, arrived, .. } = announcement;
        let took = arrived.elapsed();
        let (attempts, outcome_unknown) = match placed {
            Ok(response) => (response.attempts, response.outcome_unknown),
            Err(PlaceError::AllFailed { attempts, outcome_unknown, .. }) => (*attempts, *outcome_unknown),
            Err(PlaceError::AllDeclined { attempts, .. }) => (*attempts, 0),
            Err(_) => (0, 0),
        };
        let mut ledger = self.ledger.lock().unwrap();
        ledger.event((call, took));
        ledger.counts.calls += 1;
        ledger.counts.slow += u64::from(took >= Duration::from_secs(3));
        let deliveries = ledger.deliveries(call);
        if took > limits.budget + Duration::from_millis(50)
            || attempts.max(deliveries) > ATTEMPTS_MAX
            || outcome_unknown > limits.outcome_unknown_max
        {
            ledger.violated(format!(
                "{call} took {took:?} and {attempts} attempts, with {deliveries} deliveries and \
                 {outcome_unknown} unknown outcomes"
            ));
        }
    }

    /// True if the call could have had another attempt.
    fn is_within_bounds(
        &self,
        gateway: &Gateway,
        announcement: &Announcement<'_>,
        error: &PlaceError,
    ) -> bool {
        let retries_refused = gateway.delivery.placement_counters().retries_refused;
        match error {
            PlaceError::AllFailed { attempts, outcome_unknown, .. } => {
                *attempts < ATTEMPTS_MAX
                    && *outcome_unknown < announcement.limits.outcome_unknown_max
                    && retries_refused == announcement.retries_refused
            }
            PlaceError::AllDeclined { attempts, .. } => {
                *attempts < ATTEMPTS_MAX && retries_refused == announcement.retries_refused
            }
            PlaceError::FleetUnknown
            | PlaceError::Full
            | PlaceError::NoneReachable
            | PlaceError::NoInstance => true,
        }
    }

    /// A call may be refused only if no bot that the gateway knew all the time would have accepted it.
    fn check_refusal(&self, gateway: &Gateway, announcement: &Announcement<'_>, refusal: &str) {
        let &Announcement { call, arrived, .. } = announcement;
        let fleet_now = gateway.delivery.fleet.load_full();
        let would_accept = self.bots.iter().find(|bot| {
            let well_since = bot.takes_calls_since().filter(|since| *since + self.known_after <= arrived);
            let is_known = |fleet: &Fleet| {
                let known = fleet.instance(bot.name.as_str());
                known.is_some_and(|one| one.owner == bot.owner() && one.source_state == SourceState::Ready)
            };
            well_since.is_some()
                && is_known(&announcement.fleet)
                && is_known(&fleet_now)
                && !self.seems_full(gateway, bot)
        });
        if let Some(bot) = would_accept {
            let status = gateway.status(&bot.name);
            let rule = format!("{call} was refused ({refusal}), and {} would accept it: {status}", bot.name);
            self.ledger.lock().unwrap().violated(rule);
        }
    }

    /// True if a bot seems full to a gateway because of calls that ended, or were given up, since its last
    /// report. The rule for estimates bounds that.
    fn seems_full(&self, gateway: &Gateway, bot: &Bot) -> bool {
        let status = gateway.delivery.instances().into_iter().find(|one| one.name == bot.name);
        status.is_some_and(|status| {
            status.state == InstanceState::Full && status.calls_expected > Some(bot.calls())
        })
    }

    /// Checks the load estimates now and then: what a gateway expects differs from the calls of a bot by no
    /// more than what was placed and ended since the bot reported to it.
    pub(super) async fn watch_estimates(self: Arc<Self>) {
        loop {
            sleep(Duration::from_millis(270)).await;
            for (number, gateway) in self.gateways.iter().enumerate() {
                for bot in &*self.bots {
                    self.check_estimate(number, gateway, bot);
                }
            }
        }
    }

    fn check_estimate(&self, number: usize, gateway: &Gateway, bot: &Bot) {
        let is_known = bot.well_since().is_some_and(|since| since + self.known_after <= Instant::now());
        let Some(status) = gateway.delivery.instances().into_iter().find(|one| one.name == bot.name) else {
            return;
        };
        let Some(expected) = status.calls_expected.filter(|_| is_known) else { return };
        if status.incarnation != bot.owner().incarnation {
            return;
        }
        let calls = bot.calls();
        let is_alone = self.gateways.len() == 1;
        let bound = bot.expectation_error_max(number, is_alone) + status.in_flight;
        if u64::from(expected.abs_diff(calls)) > bound {
            let text =
                format!("{expected} calls are expected of {}, which has {calls} (± {bound})", bot.name);
            self.ledger.lock().unwrap().violated(text);
        }
    }

    /// After the run: every call has ended, was counted once, and every bot is trusted again.
    pub(super) fn check_end(&self) {
        let mut ledger = self.ledger.lock().unwrap();
        for gateway in &self.gateways {
            let PlacementCounters { hedges, further_attempts, .. } = gateway.delivery.placement_counters();
            // A fifth of the calls, and three a second with what was saved up.
            let most = (ledger.counts.calls / 5).max(3 * (RUN_TIME.as_secs() + 20));
            if hedges + further_attempts > most {
                ledger.violated(format!("{hedges} hedges and {further_attempts} further attempts"));
            }
        }
        for (gateway, bot) in self.gateways.iter().flat_map(|one| self.bots.iter().map(move |bot| (one, bot)))
        {
            let Some(status) = gateway.delivery.instances().into_iter().find(|one| one.name == bot.name)
            else {
                ledger.violated(format!("{} is not in the fleet at the end", bot.name));
                continue;
            };
            let calls = bot.calls();
            if status.calls_expected.is_some_and(|expected| expected != calls) {
                let expected = status.calls_expected;
                ledger.violated(format!("{} has {calls} calls, and {expected:?} are expected", bot.name));
            }
            if status.in_flight != 0 {
                ledger.violated(format!("{} has {} requests in flight", bot.name, status.in_flight));
            }
        }
    }

    /// Posts a callback, up to three times.
    async fn call_back(&self, call: &str, owner: &Owner, ends: bool, random: &mut fastrand::Rng) {
        for _ in 0..3 {
            let gateway = random.choice(&self.gateways).unwrap();
            let outbound = outbound(call, Some((owner, ends)));
            let forwarded = gateway.delivery.forward(&gateway.connections, &outbound, owner.as_ref()).await;
            if self.note_callback(gateway, call, owner, ends, forwarded) {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Checks and counts the result of a callback. Returns true if an instance responded.
    fn note_callback(
        &self,
        gateway: &Gateway,
        call: &str,
        owner: &Owner,
        ends: bool,
        forwarded: Result<UpstreamResponse, ForwardError>,
    ) -> bool {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.counts.callbacks += 1;
        match forwarded {
            Ok(response) => {
                ledger.event((call, response.status.as_u16()));
                if (&response.instance, &response.incarnation) != (&owner.instance, &owner.incarnation) {
                    ledger.violated(format!("a callback of {call} went to {}", response.instance));
                }
                if ends && response.status.is_success() {
                    gateway.delivery.calls_ended(owner.instance.as_str(), [call]);
                }
                true
            }
            Err(error) => {
                ledger.event((call, error.label()));
                ledger.counts.callbacks_failed += 1;
                if ends && let Some(bot) = self.bots.iter().find(|bot| bot.name == owner.instance) {
                    bot.lost_end();
                }
                false
            }
        }
    }
}

fn outbound(call: &str, callback: Option<(&Owner, bool)>) -> Outbound {
    let mut headers = HeaderMap::new();
    let mut insert = |name, value: &str| headers.insert(name, HeaderValue::from_str(value).unwrap());
    insert("x-call", call);
    if let Some((owner, ends)) = callback {
        insert("x-owner", &format!("{}/{}", owner.instance, owner.incarnation));
        if ends {
            insert("x-ends", "1");
        }
    }
    Outbound {
        headers,
        body: Bytes::from_static(b"{}"),
        app: Uuid::from_u128(1),
        tenant: Uuid::from_u128(2),
        call_id: Some(call.into()),
        deadline_unix_ms: None,
        arrived: Instant::now(),
        trace: None,
    }
}

fn limits(is_recorded: bool) -> PlacementLimits {
    if is_recorded {
        PlacementLimits { budget: Duration::from_millis(3500), outcome_unknown_max: 2 }
    } else {
        PlacementLimits { budget: Duration::from_secs(12), outcome_unknown_max: 3 }
    }
}

const ATTEMPTS_MAX: u32 = 5;
