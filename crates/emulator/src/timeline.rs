//! What happened to a call, as it happens: events, and their form as JSON lines.

use std::{pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Something that happened to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum CallEvent {
    /// The call exists. Always the first.
    Call(PlacedCall),
    /// A request was sent; its [`CallStep`] follows when it is over, perhaps after others.
    Sent(SentRequest),
    /// A request that was sent is over, or one was received.
    Step(CallStep),
    /// The call is over. Always the last.
    End(CallEnd),
}

/// The ids of a call that was placed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlacedCall {
    /// The call id, in every resource path.
    pub call: Uuid,
    /// The chain id: `callChainId` and `X-Microsoft-Skype-Chain-ID`.
    pub chain: Uuid,
    /// The tenant.
    pub tenant: Uuid,
    /// `p2p`, `group`, `meeting`, `recording` or `pstn`.
    pub kind: String,
}

/// A request of the platform to the bot that is on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentRequest {
    /// When it began, in milliseconds since the call was placed. Its [`CallStep`] says the same.
    pub at_ms: f64,
    /// What is posted.
    pub what: String,
    /// Where it goes.
    pub url: String,
    /// 1, 2, …
    pub attempt: u32,
    /// `X-Microsoft-Skype-Message-ID`.
    pub message_id: Uuid,
}

/// One request, of the platform to the bot or of the bot to the platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallStep {
    /// When it began, in milliseconds since the call was placed.
    pub at_ms: f64,
    /// What was posted (`incoming`, `established`, …) or asked for (`answer`, `reject`, `hang up`).
    pub what: String,
    /// Whether the platform received it; otherwise it sent it.
    pub received: bool,
    /// Where it went; for a request of the bot, the callbackUri it named.
    pub url: String,
    /// The status of its answer, if there was one.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// 1, 2, …: the tries of one message share the message id.
    pub attempt: u32,
    /// `X-Microsoft-Skype-Message-ID`.
    pub message_id: Option<Uuid>,
    /// What else is to be said: why it failed, where it is redirected to.
    pub note: Option<String>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallEnd {
    /// A word of [`CallOutcome`](crate::CallOutcome).
    pub outcome: String,
    /// Whether that is what was expected.
    pub ok: bool,
    /// One line that says why.
    pub reason: String,
    /// The status that refused the call, where one did.
    pub status: Option<u16>,
    /// When the bot answered, in milliseconds since the call was placed.
    pub answered_ms: Option<f64>,
    /// The callbackUri that the bot handed back.
    pub callback_uri: Option<String>,
    /// How long all of it took, in milliseconds.
    pub took_ms: f64,
}

impl CallEvent {
    /// One line of JSON, with its line end.
    pub fn to_json_line(&self) -> String {
        json_line(self)
    }
}

fn json_line(event: &impl Serialize) -> String {
    // Serialising a struct of strings and numbers into memory cannot fail; an empty line would end the reading.
    let mut line = serde_json::to_string(event).unwrap_or_default();
    line.push('\n');
    line
}

/// The events of one call, in order.
#[derive(Debug)]
pub struct Timeline {
    events: mpsc::Receiver<CallEvent>,
}

impl Timeline {
    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }

    /// Waits for the end, and gives all events up to it.
    pub async fn all(mut self) -> Vec<CallEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// As a response body: JSON lines, as they happen.
    pub(crate) fn into_body(self) -> JsonLines<CallEvent> {
        JsonLines(self.events)
    }
}

/// A response body of JSON lines, each sent when it happens.
#[derive(Debug)]
pub(crate) struct JsonLines<T>(pub(crate) mpsc::Receiver<T>);

impl<T: Serialize> hyper::body::Body for JsonLines<T> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|event| event.map(|event| Ok(hyper::body::Frame::data(Bytes::from(json_line(&event))))))
    }
}

/// The events of a call on a platform elsewhere.
#[derive(Debug)]
pub struct RemoteTimeline(pub(crate) RemoteLines);

impl RemoteTimeline {
    /// The next event; `None` where the stream ends, whatever the reason: a timeline without [`CallEvent::End`] was cut.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.0.next().await
    }
}

/// Reads JSON lines back from a response.
#[derive(Debug)]
pub(crate) struct RemoteLines {
    body: Incoming,
    unread: Vec<u8>,
}

impl RemoteLines {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, unread: Vec::new() }
    }

    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.unread.extend_from_slice(&data);
            }
        }
    }
}

/// The sending side. Never waits for the reader: what a slow reader cannot hold is left out, except the end.
#[derive(Debug)]
pub(crate) struct Recorder {
    events: mpsc::Sender<CallEvent>,
    end: Option<mpsc::OwnedPermit<CallEvent>>,
}

impl Recorder {
    pub(crate) fn new() -> (Self, Timeline) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let end = events.clone().try_reserve_owned().ok();
        (Self { events, end }, Timeline { events: receiver })
    }

    /// A handle that others can record steps with.
    pub(crate) fn sender(&self) -> EventSender {
        EventSender(self.events.downgrade())
    }

    pub(crate) fn record(&self, event: CallEvent) {
        let _ = self.events.try_send(event);
    }

    pub(crate) fn end(mut self, end: CallEnd) {
        if let Some(permit) = self.end.take() {
            permit.send(CallEvent::End(end));
        }
    }
}

/// Records steps of a call that somebody else plays; does not keep its timeline open.
#[derive(Clone, Debug)]
pub(crate) struct EventSender(mpsc::WeakSender<CallEvent>);

impl EventSender {
    pub(crate) fn record(&self, event: CallEvent) {
        if let Some(events) = self.0.upgrade() {
            let _ = events.try_send(event);
        }
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// A whole call with every retry and redirect has fewer than 400; a bot that floods the platform loses rows, not memory.
const EVENTS_MAX: usize = 1_024;

/// Longer than any event: a callbackUri may fill a request of its own.
const LINE_BYTES_MAX: usize = 1 << 20;
