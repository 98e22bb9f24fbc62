//! The span of a request: the fields of its log event as attributes.

use switchboard_routing::Name;

use super::{Record, RequestEnd};
use crate::{metrics::RequestKind, traces::RequestSpan};

impl Record {
    /// Queues the spans of the request, unless it asks for the health: balancers do that each second.
    pub(super) fn finish_span(&self, span: &RequestSpan, end: &RequestEnd<'_>) {
        if matches!(self.kind, RequestKind::Health | RequestKind::Ready) {
            return;
        }
        let client = self.client.to_string();
        let ids = self.sender.proven().map(|sender| (sender.tenant.to_string(), sender.app.to_string()));
        let (tenant, app) = ids.as_ref().map(|(tenant, app)| (&**tenant, &**app)).unzip();
        let error = end.status.is_none().then(|| end.outcome.label());
        // The names of the log, in a namespace. A call id comes from a body, so it may be any text.
        let attributes = [
            ("client.address", Some(&*client)),
            ("switchboard.outcome", Some(end.outcome.label())),
            ("switchboard.reason", end.reason),
            ("switchboard.call.id", self.call_id.as_deref().filter(|id| is_plain(id))),
            ("switchboard.call.chain_id", end.chain_id),
            ("switchboard.call.state", self.state),
            ("switchboard.item", self.item),
            ("switchboard.message.id", end.message_id),
            ("switchboard.tenant.id", tenant),
            ("switchboard.app.id", app),
            ("switchboard.region", self.region.as_ref().map(Name::as_str)),
            ("switchboard.instance", self.instance.as_ref().map(Name::as_str)),
            ("switchboard.action", self.action.map(|acted| acted.action)),
            ("switchboard.action_result", self.action.map(|acted| acted.result)),
            ("switchboard.retry", self.retry),
        ];
        span.finish(end.duration, self.method, end.status, error, &attributes);
    }
}

/// Returns true for short visible ASCII, as ids are.
fn is_plain(id: &str) -> bool {
    id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Real call ids are GUIDs of 36 characters.
const ID_BYTES_MAX: usize = 128;
