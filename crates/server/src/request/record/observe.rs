//! The part of a [`Record`] that the operators' live view shows. Nothing reads it to serve a request.

use super::{Record, RequestEnd};
use crate::{
    observed::{CallSighting, Decision, ObservedRefusal, TERMINATED},
    request::outcome::Outcome,
    wall_clock::unix_ms,
};

impl Record {
    /// Notes the end of the request of an authenticated sender: its call, and the decision on a new call.
    ///
    /// Each callback comes here, so this costs a known call no allocation.
    pub(super) fn observe(&self, end: &RequestEnd<'_>) {
        if !self.is_authenticated() {
            return;
        }
        let now_ms = unix_ms(end.time);
        self.observed.note_notification(now_ms);
        if self.is_decided {
            self.observed.note_decision(self.decision(end, now_ms));
        }
        let (Some(call_id), Some(instance)) = (self.call_id.as_deref(), &self.instance) else { return };
        let is_accepted = end.status.is_some_and(|status| (200..300).contains(&status));
        // The instance refused the call, so it is not there.
        if self.announced.is_some() && !is_accepted {
            return;
        }
        let seen = CallSighting {
            call_id,
            chain_id: end.chain_id,
            message_id: end.message_id,
            instance,
            state: if self.ends_call { Some(TERMINATED) } else { self.state },
            placed: self.announced,
        };
        self.observed.calls().note(&seen, now_ms);
    }

    /// Notes a refusal that the log shows, if the sender or the request is its cause, or a lack of keys.
    pub(super) fn observe_refusal(&self, end: &RequestEnd<'_>, reason: &'static str, problem: Option<&str>) {
        let RequestEnd { status, outcome, .. } = *end;
        let is_of_request = status.is_some_and(|status| (400..500).contains(&status));
        if !is_of_request && !matches!(outcome, Outcome::KeysUnavailable | Outcome::KeyNotFetched) {
            return;
        }
        let trust = self.sender.proven().map(|sender| &*sender.trust);
        self.observed.note_refusal(ObservedRefusal {
            time: unix_ms(end.time),
            outcome: outcome.label(),
            reason,
            trust: trust.or_else(|| self.sender.refused()?.error.trust()).map(Box::from),
            client: self.client.to_string().into(),
            problem: ObservedRefusal::bounded_problem(problem),
        });
    }

    fn decision(&self, end: &RequestEnd<'_>, now_ms: u64) -> Decision {
        let outcome = end.outcome;
        Decision {
            time: now_ms,
            call: self.call_id.clone(),
            chain: end.chain_id.map(Box::from),
            rule: self.rule,
            decision: if outcome == Outcome::Redirected {
                "redirect"
            } else if outcome == Outcome::Overflowed {
                "overflow"
            } else if outcome == Outcome::RejectedAsBusy {
                "reject"
            } else if outcome.is_done() || outcome == Outcome::ClientGone {
                "here"
            } else {
                "refuse"
            },
            region: self.region.as_ref().map(|region| region.as_str().into()),
            instance: self.instance.as_ref().map(|instance| instance.as_str().into()),
            outcome: outcome.label(),
        }
    }
}
