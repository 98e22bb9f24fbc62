//! The span of a request: the fields of its log event as attributes.

use std::time::Duration;

use switchboard_routing::Name;

use super::{Record, as_text};
use crate::{metrics::RequestKind, request::outcome::Outcome, traces::RequestSpan};

impl Record {
    /// Queues the spans of the request, unless it asks for the health: balancers do that each second.
    pub(super) fn finish_span(
        &self,
        span: &RequestSpan,
        duration: Duration,
        status: Option<u16>,
        outcome: Outcome,
        reason: Option<&'static str>,
    ) {
        if matches!(self.kind, RequestKind::Health | RequestKind::Ready) {
            return;
        }
        let client = self.client.to_string();
        let ids = self.sender.proven().map(|sender| (sender.tenant.to_string(), sender.app.to_string()));
        let (tenant, app) = ids.as_ref().map(|(tenant, app)| (&**tenant, &**app)).unzip();
        let error = status.is_none().then(|| outcome.label());
        // The names of the log, in a namespace. A call id comes from a body, so it may be any text.
        let attributes = [
            ("client.address", Some(&*client)),
            ("switchboard.outcome", Some(outcome.label())),
            ("switchboard.reason", reason),
            ("switchboard.call.id", self.call_id.as_deref().filter(|id| is_plain(id))),
            ("switchboard.call.chain_id", as_text(&self.chain_id)),
            ("switchboard.call.state", self.state),
            ("switchboard.item", self.item),
            ("switchboard.message.id", as_text(&self.message_id)),
            ("switchboard.tenant.id", tenant),
            ("switchboard.app.id", app),
            ("switchboard.region", self.region.as_ref().map(Name::as_str)),
            ("switchboard.instance", self.instance.as_ref().map(Name::as_str)),
            ("switchboard.action", self.action.map(|acted| acted.action)),
            ("switchboard.action_result", self.action.map(|acted| acted.result)),
            ("switchboard.retry", self.retry),
        ];
        span.finish(duration, self.method, status, error, &attributes);
    }
}

/// Returns true for short visible ASCII, as ids are.
fn is_plain(id: &str) -> bool {
    id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Real call ids are GUIDs of 36 characters.
const ID_BYTES_MAX: usize = 128;
