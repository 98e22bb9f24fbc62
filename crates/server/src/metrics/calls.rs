//! The metrics of new calls, of attempts at instances, and of actions.

use std::{fmt, sync::atomic::Ordering::Relaxed};

use switchboard_delivery::DeliveryDurations;
use uuid::Uuid;

use super::{
    families::Families,
    recorder::{GRAPH_RESULTS, Metrics},
};
use crate::request::outcome::Outcome;

/// Writes the counters and durations of calls and of what is done with them. `apps` are the configured ones.
pub(super) fn encode(
    metrics: &Metrics,
    apps: &[Uuid],
    delivery: &DeliveryDurations,
    families: &mut Families<'_>,
) -> fmt::Result {
    new_calls(metrics, apps, families)?;
    durations(metrics, delivery, families)?;
    families.counter(
        "outcomes_unknown",
        "Attempts of new calls abandoned after the request was written: two instances may have acted",
        metrics.outcomes_unknown.load(Relaxed),
    )?;
    let retries = metrics.retries.read(RETRY_RESULTS.map(|result| [result]));
    families.counters(
        "retries",
        "Retries that got the response to the first request of their message: shared while that one was in \
         flight, repeated after it; placed_again: of a call whose instance is lost",
        retries.iter().map(|([result], count)| ([("result", &**result)], *count)),
    )?;
    families.counter(
        "responses_forgotten_early",
        "Responses forgotten before three minutes had passed, because their memory was full: a retry of \
         their message would be delivered again",
        metrics.responses_forgotten.load(Relaxed),
    )?;
    let actions = metrics.actions.read(ACTIONS.map(|action| [action, "ok"]));
    families.counters(
        "actions",
        "Actions that instances requested, by result at Graph",
        actions
            .iter()
            .map(|([action, result], count)| ([("action", &**action), ("result", &**result)], *count)),
    )?;
    families.gauge(
        "actions_in_flight",
        "Actions in flight at Graph, lists of actions in progress or waiting, and notices of failed actions \
         in flight to instances",
        &metrics.actions_in_flight.load(Relaxed),
    )
}

fn new_calls(metrics: &Metrics, apps: &[Uuid], families: &mut Families<'_>) -> fmt::Result {
    let apps = metrics.new_calls.read(apps).into_iter();
    let apps: Vec<_> = apps.map(|(app, counts)| (app.to_string(), counts)).collect();
    families.counters(
        "new_calls",
        "New calls of authenticated senders by app and outcome; a retry that gets the response of the first \
         request is none",
        apps.iter().flat_map(|(app, counts)| {
            let labels = |outcome: Outcome| [("app", app.as_str()), ("outcome", outcome.label())];
            Outcome::ALL.map(labels).into_iter().zip(*counts)
        }),
    )?;
    let (other, recorded) = (&metrics.new_calls.seconds, &metrics.new_calls.recorded_seconds);
    families.histograms(
        "new_call_duration_seconds",
        "Seconds from the arrival of a new call that an instance or Graph took to the response, with and \
         without policy-based recording",
        [("false", other), ("true", recorded)]
            .map(|(flag, histogram)| ([("recording", flag)], histogram.read())),
    )?;
    let peers = metrics.peers().clone();
    let redirects = metrics.redirects.read(peers.keys().map(|peer| [&**peer]));
    families.counters(
        "redirects",
        "New calls redirected to another region",
        redirects.iter().map(|([peer], count)| ([("peer", &**peer)], *count)),
    )
}

fn durations(metrics: &Metrics, delivery: &DeliveryDurations, families: &mut Families<'_>) -> fmt::Result {
    families.histograms(
        "attempt_duration_seconds",
        "Seconds from the start of an attempt at an instance to the head of its response, or to its failure",
        [("ok", &delivery.attempts_ok), ("failed", &delivery.attempts_failed)]
            .map(|(result, histogram)| ([("result", result)], histogram.read())),
    )?;
    families.histograms(
        "probe_duration_seconds",
        "Seconds of a probe of an instance: ok with a valid report, missed without",
        [("ok", &delivery.probes_ok), ("missed", &delivery.probes_missed)]
            .map(|(result, histogram)| ([("result", result)], histogram.read())),
    )?;
    families.histograms(
        "graph_request_duration_seconds",
        "Seconds of a request to Graph or to a token endpoint, by the class of its status or its failure",
        GRAPH_RESULTS
            .iter()
            .zip(&metrics.graph_seconds)
            .map(|(result, histogram)| ([("result", *result)], histogram.read())),
    )
}

/// The ways in which a retry gets its response.
const RETRY_RESULTS: [&str; 3] = ["shared", "repeated", "placed_again"];

/// The actions whose result is that of Graph.
const ACTIONS: [&str; 11] = [
    "answer",
    "reject",
    "redirect",
    "reject_as_busy",
    "play",
    "record",
    "tones",
    "transfer",
    "invite",
    "mute",
    "hangup",
];
