//! How Graph refuses (Graph documentation, "Microsoft Graph error responses and resource types").

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use serde_json::json;

use crate::{
    clock,
    encoding::random_id,
    entra::Permission,
    server::{Body, header_text, json_response, printable},
};

/// Why Graph refuses.
#[derive(Debug)]
pub(super) enum Refusal {
    NotFound,
    /// The token is of another app than the call; Graph shows an app its own calls only.
    OtherApp,
    AlreadyDecided,
    NotAnswered,
    BadCallback,
    BadBody(String),
    NoSuchAction,
    /// A body in a content coding, which the real service refuses too.
    Compressed,
    /// No token, or none that counts.
    Token(&'static str),
    OtherTenant,
    NotPermitted(&'static [Permission]),
    /// A code that a fault asks for.
    Fault(u32),
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::OtherTenant | Self::NotPermitted(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::OtherApp => StatusCode::NOT_FOUND,
            Self::AlreadyDecided | Self::NotAnswered => StatusCode::CONFLICT,
            Self::BadCallback | Self::BadBody(_) | Self::NoSuchAction => StatusCode::BAD_REQUEST,
            Self::Compressed => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Fault(code) => match code {
                7_503..=7_505 => StatusCode::FORBIDDEN,
                8_522 => StatusCode::NOT_FOUND,
                8_529 => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    fn code(&self) -> String {
        match self {
            Self::Token(_) => "InvalidAuthenticationToken".to_owned(),
            Self::OtherTenant => "7505".to_owned(),
            Self::NotPermitted(_) => "7504".to_owned(),
            Self::NotFound | Self::OtherApp => "8522".to_owned(),
            Self::AlreadyDecided | Self::NotAnswered => "Conflict".to_owned(),
            Self::BadCallback | Self::BadBody(_) | Self::NoSuchAction => "BadRequest".to_owned(),
            Self::Compressed => "UnsupportedMediaType".to_owned(),
            Self::Fault(code) => code.to_string(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Token(why) => (*why).to_owned(),
            Self::OtherTenant | Self::Fault(7_505) => {
                "Request authorization tenant mismatch.".to_owned()
            }
            Self::NotPermitted(_) | Self::Fault(7_504) => {
                "Insufficient enterprise tenant permissions, cannot access this API.".to_owned()
            }
            Self::NotFound | Self::OtherApp | Self::Fault(8_522) => "Call not found.".to_owned(),
            // What the real service says to a second answer is not documented.
            Self::AlreadyDecided => "The call was answered, rejected, redirected or ended already.".to_owned(),
            Self::NotAnswered => "The call is not answered yet.".to_owned(),
            Self::BadCallback => {
                "callbackUri must be an absolute https URL, or an http URL of this machine, without credentials and fragment."
                    .to_owned()
            }
            Self::BadBody(what) => format!("The body is not what this action takes: {what}."),
            Self::NoSuchAction => {
                "Resource not found for the segment: this emulator knows answer, reject, redirect, keepAlive and updateRecordingStatus."
                    .to_owned()
            }
            Self::Compressed => "The body must not be compressed.".to_owned(),
            Self::Fault(8_529) => "Application reached the monthly call creation limit.".to_owned(),
            Self::Fault(7_503) => "Bot is not allowed to access this API.".to_owned(),
            Self::Fault(_) => "Internal error. Please retry later.".to_owned(),
        }
    }

    /// What the operator of the emulator is told beyond what the bot is.
    pub(super) fn note(&self) -> String {
        let code = self.code();
        match self {
            Self::NotPermitted(any_of) => {
                let names: Vec<&str> = any_of.iter().map(|permission| permission.label()).collect();
                format!("{code}: the token has no role {}", names.join(" or "))
            }
            Self::OtherApp => format!("{code}: the token is of another app than the call"),
            Self::OtherTenant => format!("{code}: the token is of another tenant than the call"),
            Self::Fault(_) => format!("{code}: the fault that was asked for"),
            Self::NotFound | Self::AlreadyDecided | Self::NotAnswered | Self::BadCallback => {
                format!("{code}: {}", self.message())
            }
            Self::BadBody(_) | Self::NoSuchAction | Self::Compressed | Self::Token(_) => {
                printable(&format!("{code}: {}", self.message()))
            }
        }
    }

    pub(super) fn response(&self, request: &Request<Bytes>, now: SystemTime) -> Response<Body> {
        if matches!(self, Self::Fault(8_529)) {
            // The calls service itself answers so, without the shape of Graph.
            let document = json!({"errorCode": "8529", "message": self.message(), "instanceAnnotations": []});
            return json_response(self.status(), &document);
        }
        let mut response = error(request, self.status(), &self.code(), &self.message(), now);
        if matches!(self, Self::Token(_)) {
            let challenge = HeaderValue::from_static(
                r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="invalid_token""#,
            );
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The shape of every error of Graph.
pub(super) fn error(
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
