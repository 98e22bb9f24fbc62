//! The data of the event `overview`.

use std::collections::BTreeMap;

use serde::Serialize;
use switchboard_auth::TrustStatus;
use switchboard_delivery::InstanceState;
use switchboard_routing::{Policy, RuleEffect};

use super::{
    fleet_rows::FleetSums,
    headline::{Headline, Situation, headline},
    moment::{FrameTime, Moment},
};
use crate::{
    admin::{frame_context::FrameContext, instance_json::whole_ms},
    metrics::OverviewNumbers,
    observed::{Decision, LastReload, ObservedRefusal},
};

/// The state of the gateway without its instances. Times are Unix milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct OverviewJson<'a> {
    headline: Headline,
    /// The time of the last notification with a valid token.
    last_notification: Option<u64>,
    instances: InstancesJson<'a>,
    calls: LoadJson,
    requests: RequestsJson,
    /// The latest new calls.
    decisions: Vec<Decision>,
    /// The rules of the regions, in their order; last, the calls that no rule matched. Empty without rules.
    rules: Vec<RuleJson<'a>>,
    /// The redirected new calls of each region.
    redirects: BTreeMap<Box<str>, u64>,
    peers: Vec<PeerJson<'a>>,
    refusals: RefusalsJson,
    trusts: &'a [TrustJson],
    certificate: Option<CertificateJson>,
    configuration: ConfigurationJson<'a>,
    log: LogJson,
    draining: bool,
}

#[derive(Debug, Serialize)]
struct InstancesJson<'a> {
    total: usize,
    ready: usize,
    by_state: &'a BTreeMap<&'static str, usize>,
}

#[derive(Debug, Serialize)]
struct LoadJson {
    calls: u64,
    capacity: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RequestsJson {
    in_flight: usize,
    outcomes: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct RuleJson<'a> {
    /// The path in the configuration; `None` for the calls that no rule matched.
    rule: Option<String>,
    region: &'a str,
    share: Option<f64>,
    dry_run: bool,
    /// The new calls since the start that it decided, or that it matched in a dry run.
    calls: u64,
}

#[derive(Debug, Serialize)]
struct PeerJson<'a> {
    name: &'a str,
    healthy: bool,
}

#[derive(Debug, Serialize)]
struct RefusalsJson {
    counts: Vec<RefusalCountJson>,
    latest: Vec<ObservedRefusal>,
}

#[derive(Debug, Serialize)]
struct RefusalCountJson {
    /// Empty if the token names no trust.
    trust: Box<str>,
    reason: Box<str>,
    count: u64,
}

/// The keys of one trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TrustJson {
    name: String,
    keys: usize,
    generation: u64,
    fetched: Option<Moment>,
    next_refresh: Option<Moment>,
    last_error: Option<KeyErrorJson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct KeyErrorJson {
    time: Moment,
    /// One harmless line.
    text: String,
}

#[derive(Debug, Serialize)]
struct CertificateJson {
    not_after: u64,
}

#[derive(Debug, Serialize)]
struct ConfigurationJson<'a> {
    hash: &'a str,
    /// The time from which it applies.
    loaded: u64,
    reloads_ok: u64,
    reloads_failed: u64,
    last_reload: Option<LastReload>,
}

#[derive(Debug, Serialize)]
struct LogJson {
    dropped: u64,
    panics: u64,
}

impl<'a> OverviewJson<'a> {
    /// Reads the state. `trusts` are those of the last frame, and become those of this one.
    pub(super) fn new(
        context: &FrameContext<'a>,
        now: FrameTime,
        fleet: &'a FleetSums,
        trusts: &'a mut Vec<TrustJson>,
    ) -> Self {
        let state = context.state;
        let statuses = state.authenticator.trusts();
        *trusts = statuses.iter().map(|status| TrustJson::new(status, trusts, now)).collect();
        let numbers = context.metrics.overview_numbers();
        let without_keys = statuses.iter().filter(|trust| trust.keys == 0);
        let situation = Situation {
            region: state.region.as_str(),
            now: now.unix_ms,
            started: state.observed.started_ms(),
            is_draining: context.draining,
            workers: numbers.workers,
            trusts_without_keys: without_keys.map(|trust| &*trust.name).collect(),
            trusts: statuses.len(),
            had_keys: statuses.iter().any(|trust| trust.age.is_some()),
            certificate_not_after: numbers.certificate_not_after,
            awaited: state.delivery.awaited(),
            is_fleet_known: state.delivery.is_known(),
            fleet,
        };
        let OverviewNumbers {
            in_flight,
            outcomes,
            redirects,
            refusals,
            workers: _, // the headline has them
            reloads: (reloads_ok, reloads_failed),
            certificate_not_after,
            log_dropped,
            panics,
        } = numbers;
        let count =
            |([trust, reason], count): ([Box<str>; 2], u64)| RefusalCountJson { trust, reason, count };
        let peer = |(name, healthy): (&'a switchboard_routing::Name, bool)| PeerJson {
            name: name.as_str(),
            healthy,
        };
        Self {
            headline: headline(&situation),
            last_notification: state.observed.last_notification_ms(),
            instances: InstancesJson {
                total: fleet.total,
                ready: fleet.of(InstanceState::Ready),
                by_state: &fleet.by_state,
            },
            calls: LoadJson { calls: fleet.calls, capacity: fleet.capacity },
            requests: RequestsJson { in_flight, outcomes: outcomes.into_iter().collect() },
            decisions: state.observed.decisions(),
            rules: rules(&state.policy, context.metrics.rules.by_rule(&state.policy)),
            redirects: redirects.into_iter().collect(),
            peers: state.peers.healths().map(peer).collect(),
            refusals: RefusalsJson {
                counts: refusals.into_iter().map(count).collect(),
                latest: state.observed.refusals(),
            },
            trusts,
            certificate: certificate_not_after.map(|not_after| CertificateJson { not_after }),
            configuration: ConfigurationJson {
                hash: &state.config.hash,
                loaded: state.config_loaded_ms,
                reloads_ok,
                reloads_failed,
                last_reload: state.observed.last_reload(),
            },
            log: LogJson { dropped: log_dropped, panics },
            draining: context.draining,
        }
    }
}

fn rules<'p>(policy: &'p Policy, (by_rule, unmatched): (Vec<u64>, u64)) -> Vec<RuleJson<'p>> {
    if !policy.has_rules() {
        return Vec::new();
    }
    let of_rule = |(index, (rule, calls)): (usize, (RuleEffect<'p>, u64))| RuleJson {
        rule: Some(format!("affinity.rule[{index}]")),
        region: rule.serve_in.as_str(),
        share: Some(rule.share),
        dry_run: rule.dry_run,
        calls,
    };
    let here = policy.here().as_str();
    let none = RuleJson { rule: None, region: here, share: None, dry_run: false, calls: unmatched };
    policy.rules().zip(by_rule).enumerate().map(of_rule).chain([none]).collect()
}

impl TrustJson {
    fn new(status: &TrustStatus, last: &[Self], now: FrameTime) -> Self {
        // Without `..`: a new member of the status must be shown, or refused here.
        let TrustStatus {
            name,
            keys,
            generation,
            age,
            fetches_ok: _,
            fetches_failed: _,
            fetches_held_back: _,
            next_fetch,
            last_failure,
        } = status;
        let last = last.iter().find(|last| last.name == **name);
        let before = |age, last| Moment::before(now, whole_ms(age), last);
        let last_error = last_failure.as_ref().map(|failure| KeyErrorJson {
            time: before(failure.age, last.and_then(|last| Some(last.last_error.as_ref()?.time))),
            text: failure.error.to_string(),
        });
        Self {
            name: name.to_string(),
            keys: *keys,
            generation: *generation,
            fetched: age.map(|age| before(age, last.and_then(|last| last.fetched))),
            next_refresh: next_fetch
                .map(|time| Moment::after(now, whole_ms(time), last.and_then(|last| last.next_refresh))),
            last_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use switchboard_auth::KeyFetchFailure;

    use super::*;
    use crate::metrics::tests::trust;

    const NOW: u64 = 1_000_000;

    /// The time of a frame so long after the first one.
    fn after(elapsed_ms: u64) -> FrameTime {
        FrameTime { unix_ms: NOW + elapsed_ms, elapsed_ms }
    }

    #[test]
    fn the_times_of_a_trust_are_those_of_the_wall_clock_and_stay() {
        let failure = KeyFetchFailure { age: Duration::from_secs(7), error: "fetch failed: 500".into() };
        let status = TrustStatus {
            next_fetch: Some(Duration::from_secs(90)),
            last_failure: Some(failure),
            ..trust("skype")
        };
        let first = TrustJson::new(&status, &[], after(0));
        assert_eq!(
            json!(first),
            json!({
                "name": "skype", "keys": 3, "generation": 7, "fetched": NOW - 1500,
                "next_refresh": NOW + 90_000,
                "last_error": {"time": NOW - 7000, "text": "fetch failed: 500"},
            })
        );
        assert_eq!(TrustJson::new(&status, std::slice::from_ref(&first), after(3)), first);
        let refreshed = TrustStatus { age: Some(Duration::ZERO), ..status };
        assert_eq!(TrustJson::new(&refreshed, &[first], after(0)).fetched.map(u64::from), Some(NOW));
        let unknown = TrustStatus { age: None, ..trust("other") };
        let unknown = TrustJson::new(&unknown, &[], after(0));
        assert_eq!((unknown.fetched, unknown.next_refresh, unknown.last_error), (None, None, None));
    }
}
