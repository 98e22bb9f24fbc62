//! The behaviour of the people whom a bot calls or invites.

use std::time::Duration;

use crate::{call::CallOutcome, faults::Callee, notification::ResultInfo};

/// The end of a call that the callee does not take: the result for the bot, the outcome, and its reason.
pub(super) type NotTaken = (ResultInfo, CallOutcome, &'static str);

/// The time that a callee needs, and the end of the call if the callee does not take it.
pub(super) fn behaviour(callee: Option<Callee>) -> (Duration, Option<NotTaken>) {
    let refuse = |result, outcome, reason| Some((result, outcome, reason));
    match callee {
        None => (ANSWER_TIME, None),
        Some(Callee::Slow(time)) => (time, None),
        Some(Callee::Busy) => {
            let reason = "the callee is busy";
            (ANSWER_TIME, refuse(ResultInfo::CalleeBusy, CallOutcome::Rejected, reason))
        }
        Some(Callee::Reject) => {
            let reason = "the callee rejected the call";
            (ANSWER_TIME, refuse(ResultInfo::CalleeRejected, CallOutcome::Rejected, reason))
        }
        Some(Callee::NoAnswer) => {
            let reason = "the callee did not answer";
            (RING_TIME, refuse(ResultInfo::CalleeSilent, CallOutcome::Unanswered, reason))
        }
        Some(Callee::NotFound) => {
            let reason = "no endpoint of the callee was found";
            (Duration::ZERO, refuse(ResultInfo::CalleeNotFound, CallOutcome::Unanswered, reason))
        }
    }
}

const ANSWER_TIME: Duration = Duration::from_millis(200);
/// Shorter than a person's patience, because developers wait for it.
const RING_TIME: Duration = Duration::from_secs(5);
