//! The events of a load, in the same process and from a platform in another one.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::timeline::{JsonLines, RemoteLines};

/// An event of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LoadEvent {
    /// Progress: the number of calls that were placed so far.
    Placed {
        /// The number.
        calls: u32,
    },
    /// A call is over.
    Result(LoadResult),
    /// All calls are over. Always the last event.
    Done,
}

/// The result of one call of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// The call id.
    pub call: Uuid,
    /// The kind of the call.
    pub kind: String,
    /// The label of a [`CallOutcome`](crate::CallOutcome).
    pub outcome: String,
    /// True if the outcome is the expected one.
    pub ok: bool,
    /// One line with the reason.
    pub reason: String,
    /// The time when it was placed, in milliseconds since the load started.
    pub placed_ms: f64,
    /// The time that the bot took to answer, in milliseconds since the call was placed.
    pub answered_ms: Option<f64>,
    /// The duration of the whole call, in milliseconds.
    pub took_ms: f64,
    /// True if the call was answered and ended early: the bot hung up, or did not acknowledge a notification.
    pub ended_early: bool,
    /// The callbackUri that the bot gave.
    pub callback_uri: Option<String>,
    /// The number of notifications, each counted once for all its attempts.
    pub sent: u32,
    /// The notifications with a last response of 2xx.
    pub acknowledged: u32,
    /// The notifications with a last response of 3xx or 4xx.
    pub refused: u32,
    /// The notifications without a response, or with 5xx only.
    pub lost: u32,
    /// The attempts beyond the first.
    pub retried: u32,
    /// The notifications to the callbackUri, in order.
    pub callbacks: Vec<CallbackResult>,
}

/// The result of one notification to a callbackUri.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallbackResult {
    /// The time from the start of the first attempt to the end of the last one, in milliseconds.
    pub took_ms: f64,
    /// The attempts beyond the first.
    pub retried: u32,
    /// True if the last response was a 2xx.
    pub acknowledged: bool,
}

/// The events of a load in the same process.
#[derive(Debug)]
pub struct LoadEvents(pub(super) mpsc::Receiver<LoadEvent>);

impl LoadEvents {
    /// Returns the next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<LoadEvent> {
        self.0.recv().await
    }

    pub(crate) fn into_body(self) -> JsonLines<LoadEvent> {
        JsonLines(self.0)
    }
}

/// The events of a load on a platform in another process.
#[derive(Debug)]
pub struct RemoteLoad(pub(crate) RemoteLines);

impl RemoteLoad {
    /// Returns the next event; `None` when the stream ends. A load without [`LoadEvent::Done`] was cut off.
    pub async fn next(&mut self) -> Option<LoadEvent> {
        self.0.next().await
    }
}
