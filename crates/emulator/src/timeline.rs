//! The timeline of a call: its events as they happen, and their form as JSON lines.

use std::{pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::exchange::{RecordedRequest, RecordedResponse};

/// An event of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum CallEvent {
    /// The call was placed. Always the first event.
    Call(PlacedCall),
    /// A request was sent. Its [`CallStep`] follows when it is over, possibly after other events.
    Sent(SentRequest),
    /// A sent request is over, or a request was received.
    Step(Box<CallStep>),
    /// The call is over. Always the last event.
    End(CallEnd),
}

impl CallEvent {
    /// Returns the event of a step.
    pub(crate) fn step(step: CallStep) -> Self {
        Self::Step(Box::new(step))
    }
}

/// The ids of a call that was placed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlacedCall {
    /// The call id, in every resource path.
    pub call: Uuid,
    /// The chain id: `callChainId` and `X-Microsoft-Skype-Chain-ID`.
    pub chain: Uuid,
    /// The tenant of the call.
    pub tenant: Uuid,
    /// `p2p`, `group`, `meeting`, `recording` or `pstn`.
    pub kind: String,
}

/// A request of the platform to the bot that is in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentRequest {
    /// The time when it was sent, in milliseconds since the call was placed. Its [`CallStep`] has the same
    /// time.
    pub at_ms: f64,
    /// The name of the notification.
    pub what: String,
    /// The URL that it is sent to.
    pub url: String,
    /// 1, 2, …
    pub attempt: u32,
    /// `X-Microsoft-Skype-Message-ID`.
    pub message_id: Uuid,
}

/// A request of the platform to the bot, or of the bot to the platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallStep {
    /// The time when it started, in milliseconds since the call was placed.
    pub at_ms: f64,
    /// The notification (`incoming`, `established`, …) or the action (`answer`, `reject`, `hang up`).
    pub what: String,
    /// True if the platform received the request, false if it sent it.
    pub received: bool,
    /// The URL that it was sent to. For a request of the bot, the callbackUri that it names.
    pub url: String,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// The duration, in milliseconds.
    pub took_ms: f64,
    /// 1, 2, …: the attempts of one message share the message id.
    pub attempt: u32,
    /// `X-Microsoft-Skype-Message-ID`.
    pub message_id: Option<Uuid>,
    /// A note: why it failed, or the target of a redirect.
    pub note: Option<String>,
    /// The request; `None` if the step is not one, or requests are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RecordedRequest>,
    /// The response; `None` if there was none, or responses are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<RecordedResponse>,
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallEnd {
    /// The label of a [`CallOutcome`](crate::CallOutcome).
    pub outcome: String,
    /// True if the outcome is the expected one.
    pub ok: bool,
    /// One line with the reason.
    pub reason: String,
    /// The status that refused the call, if one did.
    pub status: Option<u16>,
    /// The time when the bot answered, in milliseconds since the call was placed.
    pub answered_ms: Option<f64>,
    /// The callbackUri that the bot gave.
    pub callback_uri: Option<String>,
    /// The duration of the whole call, in milliseconds.
    pub took_ms: f64,
}

impl CallEvent {
    /// Returns one line of JSON, with its line end.
    pub fn to_json_line(&self) -> String {
        json_line(self)
    }
}

/// Returns an event as JSON.
pub(crate) fn json_text(event: &impl Serialize) -> String {
    // Serialising a struct of strings and numbers into memory cannot fail; an empty line would end the
    // reader.
    serde_json::to_string(event).unwrap_or_default()
}

fn json_line(event: &impl Serialize) -> String {
    let mut line = json_text(event);
    line.push('\n');
    line
}

/// The events of one call, in order.
#[derive(Debug)]
pub struct Timeline {
    events: mpsc::Receiver<CallEvent>,
}

impl Timeline {
    pub(crate) fn new(events: mpsc::Receiver<CallEvent>) -> Self {
        Self { events }
    }

    /// Returns the next event; `None` after the end.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }

    /// Waits for the end, and returns all events.
    pub async fn all(mut self) -> Vec<CallEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Returns the events as a response body of JSON lines.
    pub(crate) fn into_body(self) -> JsonLines<CallEvent> {
        JsonLines(self.events)
    }
}

/// A response body of JSON lines, each sent as soon as it is there.
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

/// The events of a call on a platform in another process.
#[derive(Debug)]
pub struct RemoteTimeline(pub(crate) RemoteLines);

impl RemoteTimeline {
    /// Returns the next event; `None` when the stream ends. A timeline without [`CallEvent::End`] was cut
    /// off.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.0.next().await
    }
}

/// A reader of JSON lines from a response.
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

/// Returns a duration in milliseconds, rounded to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// Longer than any event: a callbackUri may fill a whole request.
const LINE_BYTES_MAX: usize = 1 << 20;
