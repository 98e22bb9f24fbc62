//! Placing the calls of a load at their rate, and counting the notifications of each.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    event::{CallbackResult, LoadEvent, LoadEvents, LoadResult},
    request::LoadRequest,
};
use crate::{
    call::{CallKind, CallOutcome, PlaceError},
    caller,
    context::Context,
    timeline::{CallEnd, CallEvent, CallStep, Timeline, milliseconds},
};

/// Starts to place the calls. It stops when the events are dropped, or all loads are stopped.
pub(crate) fn start(context: &Arc<Context>, request: LoadRequest) -> LoadEvents {
    let (events, receiver) = mpsc::channel(EVENTS_MAX);
    let (held, stops) = (Arc::clone(context), context.load_stops());
    context.spawn(async move {
        place_all(&held, &request, stops, &events).await;
        // Each call that is still alive holds a clone of the sender.
        while events.strong_count() > 1 && !events.is_closed() {
            sleep(TICK).await;
        }
        let _ = events.send(LoadEvent::Done).await;
    });
    LoadEvents(receiver)
}

/// Places calls until all are placed, or until the number of stops is no longer `stops`.
async fn place_all(
    context: &Arc<Context>,
    request: &LoadRequest,
    stops: u64,
    events: &mpsc::Sender<LoadEvent>,
) {
    let began = Instant::now();
    let mut placed = 0;
    let mut reported = Instant::now();
    while placed < request.calls && !events.is_closed() && context.load_stops() == stops {
        let due = due(began.elapsed(), request.rate).min(request.calls);
        while placed < due {
            let call = request.numbered(placed);
            let (kind, duration) = (call.kind, call.duration);
            let placed_ms = milliseconds(began.elapsed());
            match caller::place_unkept(context, call) {
                Ok(timeline) => {
                    let result = result_of(timeline, kind, duration, placed_ms);
                    context.spawn(send_result(result, events.clone()));
                    placed += 1;
                }
                // The platform holds no more calls: the next one waits.
                Err(PlaceError::TooMany) => break,
                // Every other call would fail in the same way.
                Err(PlaceError::Crypto(_) | PlaceError::Member(_)) => return,
            }
        }
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            let _ = events.send(LoadEvent::Placed { calls: placed }).await;
        }
        sleep(TICK).await;
    }
    let _ = events.send(LoadEvent::Placed { calls: placed }).await;
}

/// Returns the number of calls that are due after a time.
fn due(elapsed: Duration, rate: u32) -> u32 {
    let due = elapsed.as_millis().saturating_mul(u128::from(rate)) / 1_000;
    u32::try_from(due).unwrap_or(u32::MAX).saturating_add(1)
}

/// Sends the result of a call once the call is over.
async fn send_result(
    result: impl Future<Output = Option<LoadResult>> + Send,
    events: mpsc::Sender<LoadEvent>,
) {
    if let Some(result) = result.await {
        let _ = events.send(LoadEvent::Result(result)).await;
    }
}

async fn result_of(
    mut timeline: Timeline,
    kind: CallKind,
    duration: Duration,
    placed_ms: f64,
) -> Option<LoadResult> {
    let mut tally = Tally::default();
    while let Some(event) = timeline.next().await {
        match event {
            CallEvent::Call(placed) => tally.call = placed.call,
            CallEvent::Sent(_) => {}
            CallEvent::Step(step) => tally.step(&step),
            CallEvent::End(end) => return Some(tally.end(end, kind, duration, placed_ms)),
        }
    }
    None
}

/// The notifications of one call, counted while it is played.
#[derive(Default)]
struct Tally {
    call: Uuid,
    messages: Vec<TalliedMessage>,
}

/// A notification with all its attempts.
struct TalliedMessage {
    id: Uuid,
    /// The URL of the first attempt.
    url: String,
    /// The status of the last attempt.
    status: Option<u16>,
    /// The start of the first attempt and the end of the last one, in milliseconds since the call was placed.
    from_ms: f64,
    until_ms: f64,
    /// The attempts beyond the first.
    retried: u32,
}

impl Tally {
    fn step(&mut self, step: &CallStep) {
        let Some(id) = step.message_id else { return };
        let until_ms = step.at_ms + step.took_ms;
        match self.messages.iter_mut().find(|message| message.id == id) {
            Some(message) => {
                // The hops of a redirect are not attempts.
                let failed = message.status.is_none_or(|status| status >= 500);
                message.retried += u32::from(step.attempt > 1 && failed);
                (message.status, message.until_ms) = (step.status, until_ms);
            }
            None => self.messages.push(TalliedMessage {
                id,
                url: step.url.clone(),
                status: step.status,
                from_ms: step.at_ms,
                until_ms,
                retried: 0,
            }),
        }
    }

    fn end(self, end: CallEnd, kind: CallKind, duration: Duration, placed_ms: f64) -> LoadResult {
        let count = |holds: fn(Option<u16>) -> bool| {
            let count = self.messages.iter().filter(|message| holds(message.status)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let is_callback = |message: &&TalliedMessage| end.callback_uri.as_ref() == Some(&message.url);
        let callbacks = self.messages.iter().filter(is_callback).map(TalliedMessage::as_callback).collect();
        let lasted_ms = end.answered_ms.map_or(0.0, |answered_ms| end.took_ms - answered_ms);
        let ended_early = match end.outcome.as_str() {
            outcome if outcome == CallOutcome::Completed.label() => lasted_ms < milliseconds(duration),
            // A bot that rejects or redirects a call does not end it early.
            outcome => end.answered_ms.is_some() && outcome == CallOutcome::Lost.label(),
        };
        LoadResult {
            call: self.call,
            kind: kind.label().to_owned(),
            outcome: end.outcome,
            ok: end.ok,
            reason: end.reason,
            placed_ms,
            answered_ms: end.answered_ms,
            took_ms: end.took_ms,
            ended_early,
            callback_uri: end.callback_uri,
            sent: count(|_| true),
            acknowledged: count(|status| matches!(status, Some(200..300))),
            refused: count(|status| matches!(status, Some(300..500))),
            lost: count(|status| !matches!(status, Some(200..500))),
            retried: self.messages.iter().map(|message| message.retried).sum(),
            callbacks,
        }
    }
}

impl TalliedMessage {
    fn as_callback(&self) -> CallbackResult {
        CallbackResult {
            took_ms: self.until_ms - self.from_ms,
            retried: self.retried,
            acknowledged: matches!(self.status, Some(200..300)),
        }
    }
}

const EVENTS_MAX: usize = 1_024;
const TICK: Duration = Duration::from_millis(5);
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_due_at_their_rate() {
        for (ms, rate, expected) in [(0, 200, 1), (5, 200, 2), (1_000, 200, 201), (999, 1, 1), (1_000, 1, 2)]
        {
            assert_eq!(due(Duration::from_millis(ms), rate), expected, "{ms} ms at {rate}/s");
        }
    }
}
