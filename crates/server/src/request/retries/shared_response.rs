//! `SharedResponse`: a response that several requests of one message get.

use bytes::Bytes;
use http::{Response, StatusCode};
use switchboard_routing::Name;

use super::packed_content::PackedContent;
use crate::request::outcome::Outcome;

/// A response that the retries of a request get, too.
///
/// It is small, since hundreds of thousands of them are remembered: the names are shared with the fleet, and
/// all else that the instance sent is packed.
#[derive(Clone, Debug)]
pub(crate) struct SharedResponse {
    status: StatusCode,
    /// The outcome of the first request.
    pub(crate) outcome: Outcome,
    /// The instance that responded, and its incarnation.
    pub(crate) instance: Option<(Name, Name)>,
    content: PackedContent,
    /// Boxed, since nearly no remembered response has any.
    details: Option<Box<Details>>,
}

/// The rare parts of a shared response.
#[derive(Clone, Copy, Debug, Default)]
struct Details {
    reason: Option<&'static str>,
    action: Option<ActionResult>,
}

/// The name of an action, and `ok` or the label of its error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActionResult {
    pub(crate) action: &'static str,
    pub(crate) result: &'static str,
}

impl SharedResponse {
    /// Copies the head of a response.
    pub(crate) fn new<B>(
        response: &Response<B>,
        outcome: Outcome,
        reason: Option<&'static str>,
        instance: Option<(Name, Name)>,
    ) -> Self {
        Self {
            status: response.status(),
            outcome,
            instance,
            content: PackedContent::of_headers(response.headers()),
            details: reason.map(|reason| Box::new(Details { reason: Some(reason), action: None })),
        }
    }

    pub(crate) fn with_action(mut self, action: ActionResult) -> Self {
        self.details.get_or_insert_default().action = Some(action);
        self
    }

    pub(crate) fn with_body(self, body: &[u8]) -> Self {
        Self { content: self.content.with_body(body), ..self }
    }

    /// The response for one more request.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let (headers, body) = self.content.unpack();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    /// The name of the instance that responded.
    pub(crate) fn instance_name(&self) -> Option<&Name> {
        self.instance.as_ref().map(|(name, _)| name)
    }

    /// The reason, if the first request was refused.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        self.details.as_ref().and_then(|details| details.reason)
    }

    /// The action that the gateway asked Graph for, and its result.
    pub(crate) fn action(&self) -> Option<ActionResult> {
        self.details.as_ref().and_then(|details| details.action)
    }

    /// True if the response tells the platform that its message was accepted.
    pub(crate) fn is_accepted(&self) -> bool {
        self.status.is_success()
    }

    /// True if the response is repeated after the first request has ended: an instance or Graph has acted and
    /// confirmed it.
    pub(super) fn is_remembered(&self) -> bool {
        self.is_accepted() && self.outcome.is_done()
    }

    /// The bytes that it takes besides its own size. Its names are those of the fleet.
    pub(super) fn allocated_bytes(&self) -> usize {
        let details = if self.details.is_some() { DETAILS_BYTES } else { 0 };
        self.content.allocated_bytes() + details
    }
}

/// The allocation of [`Details`], rounded up.
const DETAILS_BYTES: usize = size_of::<Details>() + 16;
