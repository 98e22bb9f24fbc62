//! `SharedResponse`: a response that several requests of one message get.

use std::iter;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use switchboard_routing::Name;

use crate::request::outcome::Outcome;

/// A response that the retries of a request get, too.
///
/// Its bytes are copies. A name of ten bytes that shared memory with the connection would hold a buffer of 16
/// KiB.
#[derive(Debug)]
pub(crate) struct SharedResponse {
    status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The outcome of the first request.
    pub(crate) outcome: Outcome,
    /// The reason, if the first request was refused.
    pub(crate) reason: Option<&'static str>,
    /// The instance that responded.
    pub(crate) instance: Option<Name>,
    /// The action that the gateway asked Graph for, and its result.
    pub(crate) action: Option<ActionResult>,
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
        instance: Option<Name>,
    ) -> Self {
        let copied = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
        let headers = response.headers().iter();
        Self {
            status: response.status(),
            headers: headers.filter_map(|(name, value)| Some((name.clone(), copied(value)?))).collect(),
            body: Bytes::new(),
            outcome,
            reason,
            instance,
            action: None,
        }
    }

    pub(crate) fn with_action(self, action: ActionResult) -> Self {
        Self { action: Some(action), ..self }
    }

    pub(crate) fn with_body(mut self, body: &[u8]) -> Self {
        self.body = Bytes::copy_from_slice(body);
        self
    }

    /// The response for one more request.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
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

    /// The bytes that the instance chose: of the body and the headers.
    pub(super) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        iter::once(self.body.len()).chain(headers).sum()
    }
}
