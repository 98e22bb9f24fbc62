//! Many calls at once: placed at a rate, each played like any other, one result a call.

mod report;
mod watch;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use uuid::Uuid;

pub(crate) use self::watch::{BotIdentity, LedgerSummary};
pub use self::{
    report::{AnswerTimes, LoadProblem, LoadReport},
    watch::{BotReport, BotWatcher, WatchError},
};
use crate::{
    call::{CallKind, CallOutcome, CallRequest},
    platform::{PlaceError, Shared},
    timeline::{CallEnd, CallEvent, CallStep, JsonLines, RemoteLines, Timeline, milliseconds},
};

/// Calls to be placed.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// What each of them is; its kind is replaced where there is a mix.
    pub call: CallRequest,
    /// How many, 1 to [`CALLS_MAX`].
    pub calls: u32,
    /// How many a second, 1 to [`RATE_MAX`].
    pub rate: u32,
    /// Which kinds; the call's own if `None`.
    pub kinds: Option<KindMix>,
}

impl LoadRequest {
    fn kind(&self, number: u32) -> CallKind {
        self.kinds.as_ref().map_or(self.call.kind, |mix| mix.at(number))
    }

    fn call(&self, number: u32) -> CallRequest {
        let kind = self.kind(number);
        let call = self.call.clone();
        // A mix gives each kind its own time to answer, unless the call has one that is not its kind's.
        if call.answer_within == call.kind.answer_within() {
            call.with_kind(kind)
        } else {
            CallRequest { kind, ..call }
        }
    }
}

/// Kinds of calls and how often each comes: `p2p=6,meeting=3,recording=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindMix(Vec<(CallKind, u32)>);

impl KindMix {
    /// The kind of a call by its number: the shares hold in each run of as many calls as they sum up to.
    fn at(&self, number: u32) -> CallKind {
        let sum: u32 = self.0.iter().map(|(_, share)| share).sum();
        let mut place = number % sum.max(1);
        for (kind, share) in &self.0 {
            if place < *share {
                return *kind;
            }
            place -= share;
        }
        CallKind::P2p
    }
}

impl fmt::Display for KindMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (kind, share)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{kind}={share}")?;
        }
        Ok(())
    }
}

impl FromStr for KindMix {
    type Err = InvalidKindMix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |part: &str| {
            let (kind, share) = part.split_once('=')?;
            let share = share.parse().ok().filter(|share| (1..=1_000).contains(share))?;
            Some((kind.parse().ok()?, share))
        };
        let mix: Option<Vec<(CallKind, u32)>> = text.split(',').map(read).collect();
        mix.filter(|mix| mix.len() <= CallKind::WORDS.len()).map(Self).ok_or(InvalidKindMix)
    }
}

/// The text is not a mix of kinds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a mix: kinds ({}) with a share of 1 to 1000 each, like p2p=6,meeting=3,recording=1",
    CallKind::WORDS.join(", ")
)]
pub struct InvalidKindMix;

/// Something that happened to a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LoadEvent {
    /// So many calls were placed until now.
    Placed {
        /// The number.
        calls: u32,
    },
    /// A call is over.
    Result(LoadResult),
    /// All calls are over. Always the last.
    Done,
}

/// What became of one call of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// The call id.
    pub call: Uuid,
    /// Its kind.
    pub kind: String,
    /// A word of [`CallOutcome`](crate::CallOutcome).
    pub outcome: String,
    /// Whether that is what was expected.
    pub ok: bool,
    /// One line that says why.
    pub reason: String,
    /// When it was placed, in milliseconds since the load began.
    pub placed_ms: f64,
    /// How long the bot took to answer, in milliseconds since the call was placed.
    pub answered_ms: Option<f64>,
    /// How long all of it took, in milliseconds.
    pub took_ms: f64,
    /// Whether it was answered and ended before its time: the bot hung up, or the platform, which was not heard.
    pub ended_early: bool,
    /// The callbackUri that the bot handed back.
    pub callback_uri: Option<String>,
    /// Notifications, each counted once however often it was tried.
    pub sent: u32,
    /// Those that were answered with 2xx in the end.
    pub acknowledged: u32,
    /// Those that were refused: answered with 3xx or 4xx in the end.
    pub refused: u32,
    /// Those that were neither: nobody answered, or with 5xx only.
    pub lost: u32,
    /// Tries beyond the first.
    pub retried: u32,
}

/// The events of a load in the same process.
#[derive(Debug)]
pub struct LoadEvents(mpsc::Receiver<LoadEvent>);

impl LoadEvents {
    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<LoadEvent> {
        self.0.recv().await
    }

    pub(crate) fn into_body(self) -> JsonLines<LoadEvent> {
        JsonLines(self.0)
    }
}

/// The events of a load on a platform elsewhere.
#[derive(Debug)]
pub struct RemoteLoad(pub(crate) RemoteLines);

impl RemoteLoad {
    /// The next event; `None` where the stream ends, whatever the reason: one without [`LoadEvent::Done`] was cut.
    pub async fn next(&mut self) -> Option<LoadEvent> {
        self.0.next().await
    }
}

/// Starts placing the calls. It stops placing when nobody reads the events any more.
pub(crate) fn start(platform: &Arc<Shared>, request: LoadRequest) -> LoadEvents {
    let (events, receiver) = mpsc::channel(EVENTS_MAX);
    let (shared, enough) = (Arc::clone(platform), platform.enough());
    platform.spawn(async move {
        place_all(&shared, &request, enough, &events).await;
        // The results of calls that still live come by clones of the sender, so the end waits for them.
        while events.strong_count() > 1 && !events.is_closed() {
            sleep(TICK).await;
        }
        let _ = events.send(LoadEvent::Done).await;
    });
    LoadEvents(receiver)
}

async fn place_all(
    platform: &Arc<Shared>,
    request: &LoadRequest,
    enough: u64,
    events: &mpsc::Sender<LoadEvent>,
) {
    let began = Instant::now();
    let mut placed = 0;
    let mut told = Instant::now();
    while placed < request.calls && !events.is_closed() && platform.enough() == enough {
        let due = due(began.elapsed(), request.rate).min(request.calls);
        while placed < due {
            let call = request.call(placed);
            let (kind, duration) = (call.kind, call.duration);
            let placed_ms = milliseconds(began.elapsed());
            match platform.place(call) {
                Ok(timeline) => {
                    let events = events.clone();
                    platform.spawn(async move {
                        if let Some(result) = result_of(timeline, kind, duration, placed_ms).await {
                            let _ = events.send(LoadEvent::Result(result)).await;
                        }
                    });
                    placed += 1;
                }
                // So many are alive that the next one has to wait.
                Err(PlaceError::TooMany) => break,
                Err(PlaceError::Crypto(_)) => return,
            }
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let _ = events.send(LoadEvent::Placed { calls: placed }).await;
        }
        sleep(TICK).await;
    }
    let _ = events.send(LoadEvent::Placed { calls: placed }).await;
}

/// How many calls are due after a time.
fn due(elapsed: Duration, rate: u32) -> u32 {
    let due = elapsed.as_millis().saturating_mul(u128::from(rate)) / 1_000;
    u32::try_from(due).unwrap_or(u32::MAX).saturating_add(1)
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

/// What is counted while a call is played.
#[derive(Default)]
struct Tally {
    call: Uuid,
    /// The status of the last try of each message.
    messages: Vec<(Uuid, Option<u16>)>,
    retried: u32,
}

impl Tally {
    fn step(&mut self, step: &CallStep) {
        let Some(id) = step.message_id else { return };
        match self.messages.iter_mut().find(|(message, _)| *message == id) {
            Some((_, status)) => {
                // The hops of a redirect are no tries.
                self.retried += u32::from(step.attempt > 1 && status.is_none_or(|status| status >= 500));
                *status = step.status;
            }
            None => self.messages.push((id, step.status)),
        }
    }

    fn end(self, end: CallEnd, kind: CallKind, duration: Duration, placed_ms: f64) -> LoadResult {
        let count = |holds: fn(Option<u16>) -> bool| {
            let count = self.messages.iter().filter(|(_, status)| holds(*status)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let lasted_ms = end.answered_ms.map_or(0.0, |answered_ms| end.took_ms - answered_ms);
        let ended_early = match end.outcome.as_str() {
            outcome if outcome == CallOutcome::Completed.label() => lasted_ms < milliseconds(duration),
            // Whoever rejects or redirects a call ends nothing.
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
            retried: self.retried,
        }
    }
}

/// Each is remembered for the report: about 300 bytes.
pub const CALLS_MAX: u32 = 100_000;

/// More than one process can place.
pub const RATE_MAX: u32 = 10_000;

const EVENTS_MAX: usize = 1_024;
const TICK: Duration = Duration::from_millis(5);
const TOLD_EVERY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_keeps_its_shares() {
        let mix: KindMix = "p2p=2,meeting=1".parse().unwrap();
        let kinds: Vec<&str> = (0..6).map(|number| mix.at(number).label()).collect();
        assert_eq!(kinds, ["p2p", "p2p", "meeting", "p2p", "p2p", "meeting"]);
        assert_eq!(mix.to_string().parse::<KindMix>().unwrap(), mix);
        for text in ["", "p2p", "p2p=", "p2p=0", "fax=1", "p2p=1,", "p2p=1001", "p2p=1;meeting=1"] {
            let error = text.parse::<KindMix>().expect_err(text).to_string();
            assert!(error.contains("like p2p=6,meeting=3,recording=1"), "{error}");
        }
    }

    #[test]
    fn calls_are_due_at_their_rate() {
        for (ms, rate, expected) in [(0, 200, 1), (5, 200, 2), (1_000, 200, 201), (999, 1, 1), (1_000, 1, 2)]
        {
            assert_eq!(due(Duration::from_millis(ms), rate), expected, "{ms} ms at {rate}/s");
        }
    }
}
