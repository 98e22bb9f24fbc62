//! `ResponseCopy`: the copy of a response body while it streams to the first client.

use bytes::BytesMut;

use super::{Leader, shared_response::SharedResponse};

/// Copies the body of a response while it streams to the first client, for the retries.
#[derive(Debug)]
pub(crate) struct ResponseCopy {
    leader: Leader,
    response: SharedResponse,
    body: BytesMut,
}

impl ResponseCopy {
    /// `bytes_min`: the least that the body has. `None` if that is too large to be shared: then the leader
    /// ends, and one of the waiting retries becomes the next leader.
    pub(crate) fn new(leader: Leader, response: SharedResponse, bytes_min: usize) -> Option<Box<Self>> {
        (bytes_min <= RESPONSE_BYTES_MAX).then(|| Box::new(Self { leader, response, body: BytesMut::new() }))
    }

    /// Adds a part of the body. `None` if the body is now too large to be shared.
    pub(crate) fn push(mut self: Box<Self>, data: &[u8]) -> Option<Box<Self>> {
        if self.body.len() + data.len() > RESPONSE_BYTES_MAX {
            return None;
        }
        self.body.extend_from_slice(data);
        Some(self)
    }

    /// Shares the response: its body is complete.
    pub(crate) fn complete(self) {
        self.leader.responded(self.response.with_body(&self.body));
    }
}

/// The largest body that is shared. Bots respond with some hundred bytes to `participantJoiningNotification`,
/// and with no body to most notifications.
pub(super) const RESPONSE_BYTES_MAX: usize = 16 * 1024;
