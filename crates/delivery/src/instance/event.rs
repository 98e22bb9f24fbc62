//! The events from which the health of an instance is learned.

use std::time::Duration;

use super::placed_calls::CallKey;
use crate::{cause::Cause, member::SourceState};

/// An event that says something about the health of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A probe is about to be sent.
    ProbeSent,
    /// The instance responded to a probe with a valid report.
    Reported(Report),
    /// The instance did not respond to a probe, or not with a valid report.
    ProbeMissed(Cause),
    /// A new call is about to be sent to the instance.
    AttemptStarted,
    /// The instance failed a new call, or has not responded to it for `placement.attempt`.
    CallFailed(Cause),
    /// The instance responded to a new call, and took part in the decision about it.
    CallResponded,
    /// Another instance accepted a new call before this one responded.
    RaceLost,
    /// The instance failed a callback that was sent to it after its last ejection started.
    CallbackFailed(Cause),
    /// The instance responded with 429, and asks for no request for this time.
    RateLimited(Duration),
    /// The operator drains the instance.
    Drained,
    /// The operator ends the drain.
    Resumed,
    /// New settings apply: with a probe (true) or without.
    ProbeConfigured(bool),
    /// The source was read, and says this about the instance.
    SourceChanged(SourceState),
    /// The instance accepted a new call, or may have accepted it: then, or without a call id, it has no key.
    CallAccepted(Option<CallKey>),
    /// The instance did not accept a new call.
    CallNotAccepted,
    /// A call has ended.
    CallEnded(CallKey),
}

/// The response of an instance to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) state: ReportedState,
    pub(crate) calls: Option<u32>,
    pub(crate) capacity: Option<u32>,
}

/// The states that an instance can report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportedState {
    Ready,
    Full,
    Draining,
}
