//! One call as Graph and the control API see it: its facts, its state, and its events.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, watch};
use url::Url;
use uuid::Uuid;

use crate::{
    audio_routing::AudioRoutingGroups,
    call::{CallKind, Region},
    clock,
    operation::{Operation, OperationEnd, OperationLog, OperationResponses, Recording},
    participant::Participant,
    timeline::{CallEnd, CallEvent, json_text},
    words::words,
};

/// The facts about a call that never change.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: Uuid,
    pub(crate) chain: Uuid,
    pub(crate) app: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) kind: CallKind,
    pub(crate) direction: Direction,
    /// The webhook or, for a call of the bot, its callbackUri.
    pub(crate) to: Url,
    pub(crate) placed_at: SystemTime,
    pub(crate) region: Region,
    /// The resource of the call as it is when it begins.
    pub(crate) document: Map<String, Value>,
    pub(crate) operations: OperationResponses,
}

impl Facts {
    /// Returns the id of the bot among the participants.
    pub(crate) fn bot_participant(&self) -> Option<Uuid> {
        self.document.get("myParticipantId").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok())
    }
}

words! {
    /// The direction of a call, as the bot sees it.
    pub(crate) enum Direction {
        /// A person calls the bot.
        Incoming = "incoming",
        /// The bot calls a person or a number, or joins a meeting.
        Outgoing = "outgoing",
    }
}

words! {
    /// The state of a call (Graph reference, "callState").
    pub(crate) enum CallStage {
        /// The bot has not decided.
        Incoming = "incoming",
        /// The bot answered, or the callee has not answered the bot.
        Establishing = "establishing",
        /// People and the bot hear each other.
        Established = "established",
        /// The other side holds the call.
        Hold = "hold",
        /// The bot hands the call to another callee.
        Transferring = "transferring",
        /// The last notification is on its way.
        Terminating = "terminating",
        /// The call is over.
        Terminated = "terminated",
    }
}

impl CallStage {
    /// Returns true once the call ends or has ended.
    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Self::Terminating | Self::Terminated)
    }

    /// Returns true from the answer to the end.
    pub(crate) fn is_answered(self) -> bool {
        !self.is_ending() && self != Self::Incoming
    }
}

/// The state of a call, which the bot's requests and the platform change.
#[derive(Debug)]
pub(crate) struct CallState {
    stage: CallStage,
    end: Option<CallEnd>,
    pub(crate) operations: OperationLog,
    pub(crate) audio_routing: AudioRoutingGroups,
    /// The participants: the other side, the bot, and the people who joined later.
    pub(crate) participants: Vec<Participant>,
}

impl CallState {
    pub(crate) fn stage(&self) -> CallStage {
        self.stage
    }

    /// Enters a stage. A call that ends does not return to an earlier one.
    pub(crate) fn enter(&mut self, stage: CallStage) {
        if !self.stage.is_ending() || stage == CallStage::Terminated {
            self.stage = stage;
        }
    }
}

/// One call.
#[derive(Debug)]
pub(crate) struct CallRecord {
    pub(crate) facts: Facts,
    state: Mutex<CallState>,
    /// The events as JSON; `None` in a load, whose calls are not shown.
    kept: Option<Mutex<KeptEvents>>,
    /// The number of kept events.
    count: watch::Sender<usize>,
    changes: broadcast::Sender<Uuid>,
}

#[derive(Debug, Default)]
struct KeptEvents {
    events: Vec<Bytes>,
    bytes: usize,
}

impl KeptEvents {
    /// Adds an event and returns their number; `None` if there is no place. The end always has one.
    fn add(&mut self, event: &CallEvent) -> Option<usize> {
        let full = self.events.len() >= EVENTS_MAX || self.bytes >= EVENT_BYTES_MAX;
        if full && !matches!(event, CallEvent::End(_)) {
            return None;
        }
        let text = Bytes::from(json_text(event));
        self.bytes += text.len();
        self.events.push(text);
        Some(self.events.len())
    }
}

impl CallRecord {
    /// The record of a call that begins. `changes` receives its id at each change. With `keeps_events` the
    /// events can be read later.
    pub(crate) fn new(facts: Facts, changes: broadcast::Sender<Uuid>, keeps_events: bool) -> Self {
        let stage = match facts.direction {
            Direction::Incoming => CallStage::Incoming,
            Direction::Outgoing => CallStage::Establishing,
        };
        Self {
            facts,
            state: Mutex::new(CallState {
                stage,
                end: None,
                operations: OperationLog::default(),
                audio_routing: AudioRoutingGroups::default(),
                participants: Vec::new(),
            }),
            kept: keeps_events.then(Mutex::default),
            count: watch::Sender::new(0),
            changes,
        }
    }

    /// Returns the state, locked. Hold it shortly.
    pub(crate) fn state(&self) -> MutexGuard<'_, CallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a stage, and announces the change to the readers of the control API.
    pub(crate) fn enter(&self, stage: CallStage) {
        self.state().enter(stage);
        self.announce();
    }

    /// Ends an operation and returns it; `None` if it has ended before.
    pub(crate) fn end_operation(&self, id: Uuid, end: OperationEnd) -> Option<Operation> {
        self.state().operations.end(id, end)
    }

    /// Returns true if the control API shows the call: it is not one of a load.
    pub(crate) fn is_shown(&self) -> bool {
        self.kept.is_some()
    }

    /// Returns true if requests and responses are to be recorded whole.
    pub(crate) fn keeps_exchanges(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| lock(kept).bytes < EXCHANGE_BYTES_MAX)
    }

    /// Adds an event.
    pub(crate) fn add(&self, event: &CallEvent) {
        let count = self.kept.as_ref().and_then(|kept| lock(kept).add(event));
        // A reader that finds the call over finds the end among its events.
        if let CallEvent::End(end) = event {
            let mut state = self.state();
            state.end = Some(end.clone());
            state.enter(CallStage::Terminated);
        }
        let Some(count) = count else { return };
        self.count.send_replace(count);
        if matches!(event, CallEvent::End(_)) {
            self.announce();
        }
    }

    /// Returns the events from a number on, as JSON, and true if no event follows them.
    pub(crate) fn events_from(&self, first: usize) -> (Vec<Bytes>, bool) {
        let Some(kept) = &self.kept else { return (Vec::new(), true) };
        let over = self.state().end.is_some();
        let kept = lock(kept);
        (kept.events.get(first..).unwrap_or_default().to_vec(), over)
    }

    /// Returns a receiver that is told of each new event.
    pub(crate) fn follow(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Returns the size of the kept events.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| lock(kept).bytes)
    }

    /// Announces a change to the readers of the control API.
    pub(crate) fn announce(&self) {
        if !self.is_shown() {
            return;
        }
        // There may be no reader.
        let _ = self.changes.send(self.facts.id);
    }

    /// Returns the summary of the call for the control API.
    pub(crate) fn summary(&self) -> Value {
        let Facts { id, chain, app, tenant, kind, direction, to, placed_at, .. } = &self.facts;
        let state = self.state();
        let end = state.end.as_ref();
        json!({
            "call": id.to_string(),
            "chain": chain.to_string(),
            "direction": direction.label(),
            "kind": kind.label(),
            "app": app.to_string(),
            "tenant": tenant.to_string(),
            "to": to.as_str(),
            "state": state.stage.label(),
            "placed_at": format!("{}Z", clock::graph_date(*placed_at)),
            "outcome": end.map(|end| end.outcome.as_str()),
            "reason": end.map(|end| end.reason.as_str()),
            "ok": end.map(|end| end.ok),
        })
    }

    /// Returns the summary and the state of the call for the control API.
    pub(crate) fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        details.insert("call".to_owned(), self.summary());
        let state = self.state();
        let operations: Vec<Value> = state.operations.iter().map(Operation::summary).collect();
        details.insert("operations".to_owned(), operations.into());
        let participants: Vec<Value> = state.participants.iter().map(Participant::summary).collect();
        details.insert("participants".to_owned(), participants.into());
        let recordings = state.operations.iter().filter_map(|operation| operation.recording.as_ref());
        let recordings: Vec<Value> = recordings.map(Recording::summary).collect();
        details.insert("recordings".to_owned(), recordings.into());
        details
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A whole call with every retry and redirect has fewer events than this.
const EVENTS_MAX: usize = 1_024;
/// A URL or a note may be as long as a bot makes it.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Beyond this, the events of a call are kept without requests and responses.
const EXCHANGE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
pub(crate) mod tests {
    use std::{sync::Arc, thread};

    use super::*;
    use crate::timeline::SentRequest;

    /// The facts about a call with this id.
    pub(crate) fn facts(id: Uuid) -> Facts {
        Facts {
            id,
            chain: Uuid::nil(),
            app: Uuid::nil(),
            tenant: Uuid::nil(),
            kind: CallKind::P2p,
            direction: Direction::Incoming,
            to: Url::parse("http://127.0.0.1/").unwrap(),
            placed_at: SystemTime::UNIX_EPOCH,
            region: Region::Emea,
            document: Map::new(),
            operations: OperationResponses::Notified,
        }
    }

    fn end() -> CallEvent {
        CallEvent::End(CallEnd {
            outcome: "completed".to_owned(),
            ok: true,
            reason: String::new(),
            status: None,
            answered_ms: None,
            callback_uri: None,
            took_ms: 1.0,
        })
    }

    #[test]
    fn a_call_with_long_events_keeps_few_and_its_end() {
        let record = CallRecord::new(facts(Uuid::nil()), broadcast::Sender::new(1), true);
        let sent = CallEvent::Sent(SentRequest {
            at_ms: 0.0,
            what: String::new(),
            url: "x".repeat(1 << 20),
            attempt: 1,
            message_id: Uuid::nil(),
        });
        for _ in 0..20 {
            record.add(&sent);
        }
        record.add(&end());
        let (events, over) = record.events_from(0);
        assert_eq!((events.len(), over), (5, true));
        assert!(events.last().is_some_and(|last| last.starts_with(br#"{"event":"end""#)));
    }

    #[test]
    fn a_reader_never_misses_the_end() {
        let end = end();
        for _ in 0..5_000 {
            let record = Arc::new(CallRecord::new(facts(Uuid::nil()), broadcast::Sender::new(1), true));
            let reading = Arc::clone(&record);
            let reader = thread::spawn(move || {
                loop {
                    let (events, over) = reading.events_from(0);
                    if over {
                        return events.len();
                    }
                }
            });
            record.add(&end);
            assert_eq!(reader.join().unwrap(), 1);
        }
    }
}
