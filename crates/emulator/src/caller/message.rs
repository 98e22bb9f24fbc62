//! One notification, and the request that posts it.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, StatusCode,
    header::{self, InvalidHeaderValue},
};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::{call::CallRequest, notification::CallIds, token::Token};

/// One notification. Its message id stays the same in every attempt.
#[derive(Clone)]
pub(super) struct Message {
    /// The name in the timeline.
    pub(super) what: String,
    pub(super) to: Url,
    pub(super) body: Bytes,
    pub(super) id: Uuid,
    pub(super) stage: Stage,
}

/// The stage of a call that a notification belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The first notification, which may be redirected and names the caller's region.
    First { until: Option<Instant> },
    /// A notification to the callbackUri, which names the scenario.
    Later,
}

/// The response to a notification.
pub(super) struct Delivered {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Message {
    /// Returns the request with the headers of the real platform; its URI is set when it is sent. `scenario`
    /// is the one that the bot named.
    pub(super) fn request(
        &self,
        call: &CallRequest,
        ids: &CallIds,
        scenario: Option<&HeaderValue>,
        token: Option<&Token>,
    ) -> Result<Request<Bytes>, InvalidHeaderValue> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = http::Method::POST;
        let headers = request.headers_mut();
        let id = |id: Uuid| HeaderValue::from_str(&id.to_string());
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.compact))?;
            headers.insert(header::AUTHORIZATION, value);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("Microsoft-Skype/3.0,(Calling/1.0)"));
        headers.insert(HeaderName::from_static("x-microsoft-skype-chain-id"), id(ids.chain)?);
        headers.insert(HeaderName::from_static("x-microsoft-skype-message-id"), id(self.id)?);
        let region = HeaderValue::from_static(call.region.label());
        // Only the names of these three are known. A gateway must forward them all the same.
        headers.insert(HeaderName::from_static("ms-teams-ring"), HeaderValue::from_static("general"));
        headers.insert(HeaderName::from_static("ms-teams-partition"), region.clone());
        headers.insert(HeaderName::from_static("ms-teams-region"), region.clone());
        match self.stage {
            Stage::First { .. } => {
                headers.insert(HeaderName::from_static("x-microsoft-skype-caller-region"), region);
            }
            Stage::Later => {
                let scenario = scenario.cloned().map_or_else(|| id(ids.scenario), Ok)?;
                headers.insert(HeaderName::from_static("scenario-id"), scenario);
                headers.insert(HeaderName::from_static("client-request-id"), id(self.id)?);
            }
        }
        Ok(request)
    }
}
