//! The fields of the log event of a request.

use switchboard_routing::Name;

use super::{Record, RequestEnd, attempts::Attempts};
use crate::telemetry::Line;

impl Record {
    /// Writes the fields of the event. `problem` is what is wrong with the body or the token.
    pub(super) fn write_fields(&self, line: &mut Line<'_>, end: &RequestEnd<'_>, problem: Option<&str>) {
        let Attempts { made: attempts, outcome_unknown } = self.attempts;
        let (sender, refused) = (self.sender.proven(), self.sender.refused());
        line.text("http.request.method", self.method);
        // Never the path itself: it may hold a seal, or any text of an unauthenticated sender.
        line.text("http.route", self.kind.label());
        line.number("http.response.status_code", end.status);
        line.address("client.address", self.client);
        line.milliseconds("duration_ms", end.duration);
        line.text("outcome", end.outcome.label());
        line.text("reason", end.reason);
        line.text("error", problem);
        line.text("call.id", self.call_id.as_deref());
        line.text("call.chain_id", end.chain_id);
        line.text("call.state", self.state);
        line.text("item", self.item);
        line.number("items", Some(self.items).filter(|items| *items > 1));
        line.text("message.id", end.message_id);
        if let Some(span) = &self.span {
            line.text("trace_id", &*span.trace_id());
        }
        if let Some(sender) = sender {
            line.id("tenant.id", Some(sender.tenant));
            line.id("app.id", Some(sender.app));
            line.id("caller.id", sender.service);
        }
        // It is unproven for a refused token.
        let trust = sender.map(|sender| &*sender.trust);
        line.text("trust", trust.or_else(|| refused?.error.trust()));
        if let Some(sender) = sender {
            line.text("key.id", &*sender.key_id);
            line.number("key.generation", Some(sender.generation));
        }
        if let Some(token) = self.sender.unproven_token() {
            line.text("token.issuer", token.issuer.as_deref());
            line.text("token.key_id", token.key_id.as_deref());
            line.text("token.audience", token.audience.as_deref());
            line.text("token.tenant", token.tenant.as_deref());
            line.text("token.calling_app", token.calling_app.as_deref());
            line.number("token.age_s", token.age_s);
            line.number("token.expires_in_s", token.expires_in_s);
        }
        line.number("rule", self.rule);
        line.number("shadow.rule", self.shadow.as_ref().map(|(rule, _)| *rule));
        line.text("shadow.region", self.shadow.as_ref().map(|(_, region)| region.as_str()));
        line.text("region", self.region.as_ref().map(Name::as_str));
        line.text("instance", self.instance.as_ref().map(Name::as_str));
        let incarnation = self.incarnation.as_ref().map(Name::as_str);
        line.text("incarnation", incarnation.filter(|name| *name != NO_INCARNATION));
        line.number("attempts", Some(attempts).filter(|attempts| *attempts > 1));
        line.number("outcome_unknown", Some(outcome_unknown).filter(|attempts| *attempts > 0));
        line.text("action", self.action.map(|acted| acted.action));
        line.text("action_result", self.action.map(|acted| acted.result));
        line.text("retry", self.retry);
    }
}

/// The incarnation of instances whose source does not know any.
const NO_INCARNATION: &str = "0";
