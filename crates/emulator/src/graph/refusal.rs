//! The error responses of Graph (Graph documentation, "Microsoft Graph error responses and resource types").

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use serde_json::json;

use crate::{
    clock,
    encoding::random_id,
    entra::Permission,
    server::{Body, header_text, json_response, printable},
};

/// The reason why Graph refuses a request.
#[derive(Debug)]
pub(crate) enum GraphRefusal {
    NotFound,
    /// The token belongs to another app than the call. Graph shows an app its own calls only.
    OtherApp,
    AlreadyDecided,
    NotAnswered,
    BadCallback,
    BadBody(String),
    NoSuchAction,
    /// The call has no such operation or other resource.
    NoSuchResource,
    /// More operations of the call go on than the platform plays.
    TooManyOperations,
    /// The platform plays as many calls as it can hold.
    TooManyCalls,
    /// The body has a content coding. The real service refuses it too.
    Compressed,
    /// There is no token, or it is not accepted.
    Token(&'static str),
    OtherTenant,
    NotPermitted(&'static [Permission]),
    /// A fault asks for this code.
    Fault(u32),
}

/// The variable parts of an error response.
struct GraphErrorParts {
    status: StatusCode,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
}

impl GraphErrorParts {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// The parts of an error with a numeric code of the calls API.
    fn coded(code: u32) -> Self {
        let (status, message) = match code {
            7_503 => (StatusCode::FORBIDDEN, "Bot is not allowed to access this API."),
            7_504 => {
                let message = "Insufficient enterprise tenant permissions, cannot access this API.";
                (StatusCode::FORBIDDEN, message)
            }
            7_505 => (StatusCode::FORBIDDEN, "Request authorization tenant mismatch."),
            8_522 => (StatusCode::NOT_FOUND, "Call not found."),
            8_529 => (StatusCode::TOO_MANY_REQUESTS, "Application reached the monthly call creation limit."),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error. Please retry later."),
        };
        Self { status, code: code.to_string().into(), message: message.into() }
    }
}

impl GraphRefusal {
    fn parts(&self) -> GraphErrorParts {
        match self {
            Self::Token(why) => {
                GraphErrorParts::new(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", *why)
            }
            Self::OtherTenant => GraphErrorParts::coded(7_505),
            Self::NotPermitted(_) => GraphErrorParts::coded(7_504),
            Self::NotFound | Self::OtherApp => GraphErrorParts::coded(8_522),
            Self::Fault(code) => GraphErrorParts::coded(*code),
            // The message of the real service for a second answer is not documented.
            Self::AlreadyDecided => {
                let message = "The call is already answered, rejected, redirected or ended.";
                GraphErrorParts::new(StatusCode::CONFLICT, "Conflict", message)
            }
            Self::NotAnswered => {
                GraphErrorParts::new(StatusCode::CONFLICT, "Conflict", "The call is not answered yet.")
            }
            Self::BadCallback => {
                let message = "callbackUri must be an absolute https URL, or an http URL of this machine, \
                               without credentials and fragment.";
                GraphErrorParts::new(StatusCode::BAD_REQUEST, "BadRequest", message)
            }
            Self::BadBody(what) => {
                let message = format!("The body does not fit this action: {what}.");
                GraphErrorParts::new(StatusCode::BAD_REQUEST, "BadRequest", message)
            }
            Self::NoSuchAction => {
                let message = "Resource not found for the segment: this emulator does not serve it. \
                               docs/emulator.md lists all that it serves.";
                GraphErrorParts::new(StatusCode::BAD_REQUEST, "BadRequest", message)
            }
            Self::NoSuchResource => {
                GraphErrorParts::new(StatusCode::NOT_FOUND, "NotFound", "Resource not found.")
            }
            Self::TooManyOperations => {
                let message = "Too many operations of this call go on.";
                GraphErrorParts::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
            }
            Self::TooManyCalls => {
                let message = "The emulator plays as many calls as it can hold.";
                GraphErrorParts::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
            }
            Self::Compressed => {
                let message = "The body must not be compressed.";
                GraphErrorParts::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
            }
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.parts().status
    }

    /// The note in the timeline of the call, which tells more than the response.
    pub(super) fn note(&self) -> String {
        let GraphErrorParts { code, message, .. } = self.parts();
        match self {
            Self::NotPermitted(any_of) => {
                let names: Vec<&str> = any_of.iter().map(|permission| permission.label()).collect();
                format!("{code}: the token has no role {}", names.join(" or "))
            }
            Self::OtherApp => format!("{code}: the token belongs to another app than the call"),
            Self::OtherTenant => format!("{code}: the token belongs to another tenant than the call"),
            Self::Fault(_) => format!("{code}: a fault asks for this code"),
            Self::NotFound
            | Self::AlreadyDecided
            | Self::NotAnswered
            | Self::BadCallback
            | Self::BadBody(_)
            | Self::NoSuchAction
            | Self::NoSuchResource
            | Self::TooManyOperations
            | Self::TooManyCalls
            | Self::Compressed
            | Self::Token(_) => printable(&format!("{code}: {message}")),
        }
    }

    pub(crate) fn response(&self, request: &Request<Bytes>, now: SystemTime) -> Response<Body> {
        let GraphErrorParts { status, code, message } = self.parts();
        if matches!(self, Self::Fault(8_529)) {
            // The calls service itself sends this one, without the shape of Graph.
            let document = json!({"errorCode": code, "message": message, "instanceAnnotations": []});
            return json_response(status, &document);
        }
        let mut response = graph_error(request, status, &code, &message, now);
        if matches!(self, Self::Token(_)) {
            let challenge = HeaderValue::from_static(
                "Bearer realm=\"\", \
                 authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
                 error=\"invalid_token\"",
            );
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The response with a status that a fault asks for, with the code that the calls API gives it.
pub(super) fn of_status(request: &Request<Bytes>, status: StatusCode, now: SystemTime) -> Response<Body> {
    let refusal = match status {
        StatusCode::UNAUTHORIZED => GraphRefusal::Token("Access token is invalid."),
        StatusCode::FORBIDDEN => GraphRefusal::Fault(7_504),
        StatusCode::NOT_FOUND => GraphRefusal::Fault(8_522),
        StatusCode::CONFLICT => GraphRefusal::AlreadyDecided,
        StatusCode::INTERNAL_SERVER_ERROR => GraphRefusal::Fault(9_999),
        StatusCode::SERVICE_UNAVAILABLE => {
            let message = "The service is temporarily unavailable.";
            return graph_error(request, status, "ServiceNotAvailable", message, now);
        }
        // For the others Graph takes the reason phrase of HTTP without spaces, like TooManyRequests.
        _ => {
            let reason = status.canonical_reason().unwrap_or("Unknown Error");
            let code: String = reason.split([' ', '-']).collect();
            return graph_error(request, status, &code, &format!("{reason}."), now);
        }
    };
    refusal.response(request, now)
}

/// The response to a path that this emulator does not serve.
pub(crate) fn unknown_segment(request: &Request<Bytes>, segment: &str, now: SystemTime) -> Response<Body> {
    let message = format!("Resource not found for the segment '{}'.", printable(segment));
    graph_error(request, StatusCode::BAD_REQUEST, "BadRequest", &message, now)
}

/// The response to a method that a path does not take.
pub(crate) fn wrong_method(
    request: &Request<Bytes>,
    allowed: &'static str,
    now: SystemTime,
) -> Response<Body> {
    let message =
        format!("Specified HTTP method is not allowed for the request target, which takes {allowed}.");
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = graph_error(request, status, "Request_BadRequest", &message, now);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An error in the shape of Graph.
pub(super) fn graph_error(
    request: &Request<Bytes>,
    status: StatusCode,
    code: &str,
    message: &str,
    now: SystemTime,
) -> Response<Body> {
    let request_id = random_id().unwrap_or_default().to_string();
    let client_request_id = header_text(request.headers(), &HeaderName::from_static("client-request-id"))
        .map_or_else(|| request_id.clone(), printable);
    let document = json!({"error": {
        "code": code,
        "message": message,
        "innerError": {
            "date": clock::graph_date(now),
            "request-id": request_id,
            "client-request-id": client_request_id,
        },
    }});
    let mut response = json_response(status, &document);
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), id);
    }
    response
}

/// The codes of the calls API that a fault may ask for.
pub(crate) const CODES: [u32; 6] = [7_503, 7_504, 7_505, 8_522, 8_529, 9_999];
