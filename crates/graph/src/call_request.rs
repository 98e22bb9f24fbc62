//! `CallRequest`: one request to Graph, and when it may be repeated.

use tokio::time::{Duration, Instant};
use url::Url;

use crate::{
    GraphMethod, GraphRefusalKind, GraphRequest, TransportErrorKind, assertion::random_id,
    refusal::BODY_BYTES_MAX, retry::back_off, token_response::Token, transport::USER_AGENT,
};

/// One request to Graph, for all its attempts.
pub(crate) struct CallRequest {
    method: GraphMethod,
    url: Url,
    body: Vec<u8>,
    /// The same for all attempts, so that Microsoft's support finds them together.
    request_id: Option<String>,
    /// True if repeating the request changes nothing.
    repeatable: bool,
}

impl CallRequest {
    /// Creates a request that is repeated only if Graph has certainly done nothing.
    pub(crate) fn new(method: GraphMethod, url: Url, body: Vec<u8>) -> Self {
        let request_id = random_id().map(|id| id.to_string());
        Self { method, url, body, request_id, repeatable: false }
    }

    /// Returns the same request, to be repeated also if its outcome is unknown.
    pub(crate) fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// Returns the HTTP request of one attempt.
    pub(crate) fn to_graph(&self, token: &Token, deadline: Instant) -> GraphRequest {
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("authorization", format!("Bearer {}", token.secret.expose())),
            ("user-agent", USER_AGENT.to_owned()),
        ];
        if let Some(id) = &self.request_id {
            headers.push(("client-request-id", id.clone()));
        }
        if !self.body.is_empty() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        GraphRequest {
            method: self.method,
            url: self.url.clone(),
            headers,
            body: self.body.clone(),
            deadline,
            body_bytes_max: BODY_BYTES_MAX,
        }
    }

    /// Returns the wait before the next attempt; `None` if repeating the request is not safe or cannot help.
    pub(crate) fn wait_after_refusal(&self, kind: GraphRefusalKind, attempts: u32) -> Option<Duration> {
        match kind {
            GraphRefusalKind::Throttled { retry_after } => {
                Some(retry_after.unwrap_or_else(|| back_off(attempts)))
            }
            GraphRefusalKind::Unavailable { retry_after: Some(wait) } => Some(wait),
            GraphRefusalKind::Unavailable { retry_after: None } | GraphRefusalKind::Server => {
                self.repeatable.then(|| back_off(attempts))
            }
            GraphRefusalKind::CallNotFound
            | GraphRefusalKind::TenantMismatch
            | GraphRefusalKind::MissingPermission
            | GraphRefusalKind::UnregisteredApp
            | GraphRefusalKind::Conflict
            | GraphRefusalKind::MonthlyLimit
            | GraphRefusalKind::BadRequest
            | GraphRefusalKind::Unauthorized
            | GraphRefusalKind::Unexpected => None,
        }
    }

    pub(crate) fn wait_after_transport_error(
        &self,
        kind: TransportErrorKind,
        attempts: u32,
    ) -> Option<Duration> {
        match kind {
            TransportErrorKind::Unreachable => Some(back_off(attempts)),
            // The next attempt would fail in the same way.
            TransportErrorKind::Tls => None,
            TransportErrorKind::Lost | TransportErrorKind::TimedOut => {
                self.repeatable.then(|| back_off(attempts))
            }
        }
    }
}
