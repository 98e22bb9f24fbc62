//! A notification on its way to an instance.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;
use uuid::Uuid;

use crate::trace::RequestTrace;

/// A notification on its way to an instance: the request as received, and what the gateway knows about it.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The header fields as received. Delivery drops hop-by-hop fields and all `Switchboard-*` fields.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The app of the token.
    pub app: Uuid,
    /// The tenant of the token.
    pub tenant: Uuid,
    /// The id of the call, if it is known.
    pub call_id: Option<Box<str>>,
    /// Unix milliseconds by which a new call must be answered (`Switchboard-Deadline`); `None` for anything
    /// else.
    pub deadline_unix_ms: Option<u64>,
    /// The time at which the request arrived. Patience and budget count from here.
    pub arrived: Instant,
    /// The trace of the request; `None` if the caller makes no spans.
    pub trace: Option<Arc<RequestTrace>>,
}
