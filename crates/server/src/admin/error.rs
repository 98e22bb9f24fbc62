//! The refusals of the admin listener.

use std::borrow::Cow;

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::admin::response::{AdminResponse, json};

/// A request that is refused: its status, and what would be right.
#[derive(Debug)]
pub(super) struct AdminError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl AdminError {
    /// The token is missing or wrong.
    pub(super) const UNAUTHENTICATED: Self = Self {
        status: StatusCode::UNAUTHORIZED,
        code: "unauthenticated",
        message: Cow::Borrowed("send the configured admin.token as: Authorization: Bearer {token}"),
        header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
    };

    /// The path has no route.
    pub(super) const NOT_FOUND: Self = Self {
        status: StatusCode::NOT_FOUND,
        code: "not_found",
        message: Cow::Borrowed(
            "the paths are GET / for a browser, /healthz, /readyz, /metrics, /fleet, \
             /fleet/{instance}/callback?app={id}, /events, /calls, /calls/{id}, /config and \
             POST /fleet/{instance}/drain, /fleet/{instance}/resume",
        ),
        header: None,
    };

    /// Any other refusal. `message` says what would be right.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    /// A method that the path does not take; `allow` lists those it takes.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            header: Some((ALLOW, HeaderValue::from_static(allow))),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("this path takes {allow}"),
            )
        }
    }

    /// A refusal that is over soon.
    pub(super) fn busy(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            header: Some((RETRY_AFTER, HeaderValue::from_static("5"))),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    pub(super) fn into_response(self) -> AdminResponse {
        let body = ErrorBody { error: ErrorDetail { code: self.code, message: &self.message } };
        let mut response = json(self.status, &body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorDetail<'a>,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    code: &'static str,
    message: &'a str,
}
