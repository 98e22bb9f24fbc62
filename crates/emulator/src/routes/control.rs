//! The control API below `/emulator`.

mod calls;

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
    server::{Body, empty, error_response, json_response, method_not_allowed, reads},
    timeline::JsonLines,
    token::{MintError, Token},
};

/// Responds to a request whose path below `/emulator` is `path`.
pub(super) async fn respond(
    context: &Arc<Context>,
    default_app: Option<Uuid>,
    request: &Request<Bytes>,
    path: &[&str],
) -> Response<Body> {
    let response = match (path, request.method()) {
        (["health"], method) if reads(method) => Ok(calls::health(context)),
        (["events"], &Method::GET) => Ok(calls::stream_calls(context)),
        (["calls"], &Method::POST) => place_call(context, default_app, request.body()),
        (["calls"], method) if reads(method) => Ok(calls::list(context)),
        (["calls"], &Method::DELETE) => Ok(calls::delete_all(context)),
        (["calls", id], method) if reads(method) => Ok(calls::show(context, id)),
        (["calls", id], &Method::DELETE) => Ok(calls::delete(context, id)),
        (["calls", id, "events"], &Method::GET) => Ok(calls::stream_events(context, id, request)),
        (["calls", id, "recordings", recording], &Method::GET) => {
            Ok(calls::recording(context, id, recording, request))
        }
        (["calls", id, "steps"], &Method::POST) => calls::step(context, id, request.body()),
        (["load"], &Method::POST) => control::parse_load(request.body(), default_app)
            .map(|load| json_lines(load::start(context, load).into_body())),
        (["load"], &Method::DELETE) => {
            context.stop_loads();
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (["token"], &Method::POST) => control::parse_token(request.body(), default_app)
            .map(|request| token_response(context.mint(&request))),
        (["rotate"], &Method::POST) => rotate_key(context, request.uri().query()).await,
        (["faults"], method) => change_faults(context, method, request.body()),
        (["load"], _) => Ok(method_not_allowed("POST, DELETE")),
        (["token" | "rotate"] | ["calls", _, "steps"], _) => Ok(method_not_allowed("POST")),
        (["health" | "events"] | ["calls", _, "events"] | ["calls", _, "recordings", _], _) => {
            Ok(method_not_allowed("GET"))
        }
        (["calls"], _) => Ok(method_not_allowed("GET, POST, DELETE")),
        (["calls", _], _) => Ok(method_not_allowed("GET, DELETE")),
        _ => Ok(no_such_path()),
    };
    response
        .unwrap_or_else(|invalid| error_response(StatusCode::BAD_REQUEST, "badRequest", &invalid.to_string()))
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
    method: &Method,
    body: &[u8],
) -> Result<Response<Body>, InvalidControlRequest> {
    let mut faults = context.faults.lock();
    let changed = match *method {
        Method::GET | Method::HEAD => faults.clone(),
        Method::PATCH | Method::POST => control::parse_faults(body, faults.clone())?,
        Method::PUT => control::parse_faults(body, Faults::default())?,
        Method::DELETE => Faults::default(),
        _ => return Ok(method_not_allowed("GET, PATCH, POST, PUT, DELETE")),
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
