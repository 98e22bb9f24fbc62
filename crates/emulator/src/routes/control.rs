//! The control API below `/emulator`.

mod calls;
mod openapi;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::urls::no_such_path;
use crate::{
    call::PlaceError,
    caller,
    context::Context,
    control::{self, InvalidControlRequest},
    faults::Faults,
    load,
    rotation::{RotateError, rotate},
    server::{Body, empty, error_response, json_response, method_not_allowed},
    timeline::JsonLines,
    token::{MintError, Token},
};

/// The paths below `/emulator`, where `{…}` stands for any segment, and the methods that each takes.
///
/// `openapi.json` documents each of them, which the tests check.
const ROUTES: [(&str, &str); 12] = [
    ("openapi.json", "GET"),
    ("health", "GET"),
    ("events", "GET"),
    ("calls", "GET, POST, DELETE"),
    ("calls/{call}", "GET, DELETE"),
    ("calls/{call}/events", "GET"),
    ("calls/{call}/steps", "POST"),
    ("calls/{call}/recordings/{recording}", "GET"),
    ("load", "POST, DELETE"),
    ("token", "POST"),
    ("rotate", "POST"),
    ("faults", "GET, PATCH, POST, PUT, DELETE"),
];

/// Responds to a request whose path below `/emulator` is `path`.
pub(super) async fn respond(
    context: &Arc<Context>,
    default_app: Option<Uuid>,
    request: &Request<Bytes>,
    path: &[&str],
) -> Response<Body> {
    let Some(methods) = methods_of(path) else { return no_such_path() };
    // The server sends no body in response to HEAD.
    let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    if !methods.split(", ").any(|allowed| allowed == method) {
        return method_not_allowed(methods);
    }
    let response = match (path, method) {
        (["openapi.json"], _) => Ok(openapi::document()),
        (["health"], _) => Ok(calls::health(context)),
        (["events"], _) => Ok(calls::stream_calls(context)),
        (["calls"], "POST") => place_call(context, default_app, request.body()),
        (["calls"], "DELETE") => Ok(calls::delete_all(context)),
        (["calls"], _) => Ok(calls::list(context)),
        (["calls", id], "DELETE") => Ok(calls::delete(context, id)),
        (["calls", id], _) => Ok(calls::show(context, id)),
        (["calls", id, "events"], _) => Ok(calls::stream_events(context, id, request)),
        (["calls", id, "recordings", recording], _) => Ok(calls::recording(context, id, recording, request)),
        (["calls", id, "steps"], _) => calls::step(context, id, request.body()),
        (["load"], "DELETE") => {
            context.stop_loads();
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (["load"], _) => control::parse_load(request.body(), default_app)
            .map(|load| json_lines(load::start(context, load).into_body())),
        (["token"], _) => control::parse_token(request.body(), default_app)
            .map(|request| token_response(context.mint(&request))),
        (["rotate"], _) => rotate_key(context, request.uri().query()).await,
        (["faults"], method) => change_faults(context, method, request.body()),
        _ => Ok(no_such_path()),
    };
    response
        .unwrap_or_else(|invalid| error_response(StatusCode::BAD_REQUEST, "badRequest", &invalid.to_string()))
}

/// Returns the methods that a path takes; `None` if there is no such path.
fn methods_of(path: &[&str]) -> Option<&'static str> {
    let fits = |pattern: &str| {
        let mut segments = path.iter();
        let all = pattern.split('/').all(|expected| {
            segments.next().is_some_and(|segment| expected.starts_with('{') || expected == *segment)
        });
        all && segments.next().is_none()
    };
    ROUTES.iter().find(|(pattern, _)| fits(pattern)).map(|(_, methods)| *methods)
}

fn place_call(
    context: &Arc<Context>,
    default_app: Option<Uuid>,
    body: &[u8],
) -> Result<Response<Body>, InvalidControlRequest> {
    let call = control::parse_call(body, default_app)?;
    Ok(match caller::place(context, call) {
        Ok(timeline) => json_lines(timeline.into_body()),
        Err(error @ PlaceError::Member(_)) => {
            error_response(StatusCode::BAD_REQUEST, error.label(), &error.to_string())
        }
        Err(error) => error_response(StatusCode::SERVICE_UNAVAILABLE, error.label(), &error.to_string()),
    })
}

async fn rotate_key(context: &Context, query: Option<&str>) -> Result<Response<Body>, InvalidControlRequest> {
    let request = control::parse_rotation(query)?;
    let error = match rotate(context, request).await {
        Ok(kid) => {
            let document = json!({"issuer": request.issuer.label(), "overlap": request.overlap, "kid": kid});
            return Ok(json_response(StatusCode::OK, &document));
        }
        Err(error) => error,
    };
    let status = match &error {
        RotateError::TooManyUpcoming(_) => StatusCode::CONFLICT,
        RotateError::Crypto(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Ok(error_response(status, error.label(), &error.to_string()))
}

fn change_faults(
    context: &Context,
    method: &str,
    body: &[u8],
) -> Result<Response<Body>, InvalidControlRequest> {
    let mut faults = context.faults.lock();
    let changed = match method {
        "PATCH" | "POST" => control::parse_faults(body, faults.clone())?,
        "PUT" => control::parse_faults(body, Faults::default())?,
        "DELETE" => Faults::default(),
        _ => faults.clone(),
    };
    *faults = changed;
    Ok(json_response(StatusCode::OK, &control::faults_to_json(&faults)))
}

fn token_response(result: Result<Token, MintError>) -> Response<Body> {
    match result {
        Ok(token) => json_response(
            StatusCode::OK,
            &json!({"token": token.compact, "kid": token.kid, "expires_at": token.expires_at}),
        ),
        Err(error @ (MintError::EntraOnly { .. } | MintError::NothingToMake)) => {
            error_response(StatusCode::BAD_REQUEST, error.label(), &error.to_string())
        }
        Err(error @ MintError::Crypto(_)) => {
            error_response(StatusCode::INTERNAL_SERVER_ERROR, error.label(), &error.to_string())
        }
    }
}

fn json_lines<T: Serialize + Send + 'static>(lines: JsonLines<T>) -> Response<Body> {
    let mut response = Response::new(lines.boxed_unsync());
    let content_type = header::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
