//! The paths of the platform: those of the real hosts, all on one origin, and those of the control API.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    call::parse_http_url,
    control::{self, Wrong},
    entra,
    faults::{FaultName, Faults, Trouble},
    graph::{Calls, Gate},
    issuer::{self, Authority},
    load,
    platform::{NamedUrl, RotateError, Shared},
    server::{Body, Handle, empty, error_response, header_text, json_response, method_not_allowed, reads},
    timeline::JsonLines,
    token::{MintError, Token},
    trouble::{self, Refuse},
};

impl Handle for Shared {
    async fn handle(self: Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["" | "emulator"] => document(&request, || self.index(&self.origin_of(&request))),
            ["emulator", rest @ ..] => self.control(&request, rest).await,
            ["v1", ".well-known", "OpenIdConfiguration" | "openidconfiguration"] => {
                let make = || issuer::skype_configuration(&self.origin_of(&request));
                self.issuer_document(&request, FaultName::Skype, false, make).await
            }
            ["v1", "keys"] => {
                let make = || issuer::skype_keys(&self.keys());
                self.issuer_document(&request, FaultName::Skype, true, make).await
            }
            ["v1.0" | "beta", "communications" | "app", "calls", id] => self.graph(&request, id, None).await,
            ["v1.0" | "beta", "communications" | "app", "calls", id, action] => {
                self.graph(&request, id, Some(action)).await
            }
            [authority, rest @ ..] => match self.entra(&request, authority, rest).await {
                Some(response) => response,
                None => no_such_path(),
            },
            [] => no_such_path(),
        }
    }
}

impl Shared {
    /// The paths below `/{tenant}`; `None` where there are none.
    async fn entra(&self, request: &Request<Bytes>, name: &str, rest: &[&str]) -> Option<Response<Body>> {
        let origin = self.origin_of(request);
        let good: Box<dyn FnOnce(Authority) -> Value + Send + '_> = match rest {
            ["oauth2", "v2.0", "token"] => return Some(self.login(request, name).await),
            ["discovery", "instance"] => {
                let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host);
                return Some(cached(request, || issuer::instance_discovery(&origin, host)));
            }
            ["v2.0", ".well-known", "openid-configuration"] => {
                Box::new(|authority| issuer::entra_configuration(&origin, authority))
            }
            [".well-known", "openid-configuration"] => {
                Box::new(|authority| issuer::entra_v1_configuration(&origin, authority))
            }
            ["discovery", "v2.0", "keys"] | ["discovery", "keys"] => {
                Box::new(|authority| issuer::entra_keys(&self.keys(), authority))
            }
            _ => return None,
        };
        let keys = rest.last() == Some(&"keys");
        Some(match self.directory().authority(name) {
            Some(authority) => {
                self.issuer_document(request, FaultName::Entra, keys, || good(authority)).await
            }
            None => entra::no_such_tenant(name, self.now()),
        })
    }

    /// Metadata or a key set, unless a fault strikes.
    async fn issuer_document(
        &self,
        request: &Request<Bytes>,
        name: FaultName,
        keys: bool,
        make: impl FnOnce() -> Value,
    ) -> Response<Body> {
        let spared = !keys && self.faults().lock().is_of_keys(name);
        let trouble = if spared { None } else { self.faults().strike(name) };
        let lies = trouble == Some(Trouble::WrongKeys);
        let good = async { cached(request, || if lies { self.with_other_keys(make()) } else { make() }) };
        trouble::answer(trouble, good, Plain).await
    }

    /// The same key ids with a key that signs nothing.
    fn with_other_keys(&self, mut set: Value) -> Value {
        let other = self.keys().unpublished().to_jwk();
        for key in set.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
            for member in ["n", "e", "x5c"] {
                if let (Some(key), Some(value)) = (key.as_object_mut(), other.get(member)) {
                    key.insert(member.to_owned(), value.clone());
                }
            }
        }
        set
    }

    async fn login(&self, request: &Request<Bytes>, authority: &str) -> Response<Body> {
        if request.method() != Method::POST {
            return method_not_allowed("POST");
        }
        let now = self.now();
        let good = async {
            let (response, token) = self.directory().token(request, authority, &self.keys(), now);
            if let (Some(issued), Some(token)) = (self.issued(), token) {
                issued.remember(&token);
            }
            response
        };
        trouble::answer(self.faults().strike(FaultName::Login), good, Login { now }).await
    }

    async fn graph(&self, request: &Request<Bytes>, id: &str, action: Option<&str>) -> Response<Body> {
        let now = self.now();
        let gate = Gate { issued: self.issued(), now };
        let good = async { self.calls().handle(request, id, action, gate) };
        let trouble = self.faults().strike(FaultName::Graph);
        if let Some(trouble) = &trouble {
            let status = match trouble {
                Trouble::Status { status, .. } => Some(*status),
                Trouble::Code(code) => Some(Calls::status_of(*code).as_u16()),
                Trouble::Html | Trouble::Empty => Some(200),
                Trouble::Down | Trouble::Hang | Trouble::Lost | Trouble::Slow(_) | Trouble::Truncated => None,
                Trouble::Huge | Trouble::Drip => None,
                Trouble::NoKeys | Trouble::WrongKeys | Trouble::Redirect => None,
            };
            self.calls().struck(request.method(), id, action, &trouble.to_string(), status);
        }
        trouble::answer(trouble, good, Graph { request, now }).await
    }

    async fn control(self: &Arc<Self>, request: &Request<Bytes>, rest: &[&str]) -> Response<Body> {
        let wrong = |wrong: Wrong| error_response(StatusCode::BAD_REQUEST, "badRequest", &wrong.to_string());
        match (rest, request.method()) {
            (["calls"], &Method::POST) => match control::parse_call(request.body(), self.default_app()) {
                Ok(call) => match self.place(call) {
                    Ok(timeline) => json_lines(timeline.into_body()),
                    Err(error) => {
                        error_response(StatusCode::SERVICE_UNAVAILABLE, error.label(), &error.to_string())
                    }
                },
                Err(error) => wrong(error),
            },
            (["load"], &Method::POST) => match control::parse_load(request.body(), self.default_app()) {
                Ok(wanted) => json_lines(load::start(self, wanted).into_body()),
                Err(error) => wrong(error),
            },
            (["load"], &Method::DELETE) => {
                self.end_loads();
                empty(StatusCode::NO_CONTENT)
            }
            (["token"], &Method::POST) => match control::parse_token(request.body(), self.default_app()) {
                Ok(wanted) => token_response(self.mint(&wanted)),
                Err(error) => wrong(error),
            },
            (["rotate"], &Method::POST) => match control::parse_rotation(request.uri().query()) {
                Ok(wanted) => match self.rotate(wanted).await {
                    Ok(kid) => json_response(
                        StatusCode::OK,
                        &json!({"issuer": wanted.issuer.label(), "overlap": wanted.overlap, "kid": kid}),
                    ),
                    Err(error @ RotateError::TooManyUpcoming(_)) => {
                        error_response(StatusCode::CONFLICT, error.label(), &error.to_string())
                    }
                    Err(error @ RotateError::Crypto(_)) => {
                        error_response(StatusCode::INTERNAL_SERVER_ERROR, error.label(), &error.to_string())
                    }
                },
                Err(error) => wrong(error),
            },
            (["faults"], method) => match self.change_faults(method, request.body()) {
                Some(Ok(())) => {
                    json_response(StatusCode::OK, &control::faults_to_json(&self.faults().lock()))
                }
                Some(Err(error)) => wrong(error),
                None => method_not_allowed("GET, PATCH, POST, PUT, DELETE"),
            },
            (["load"], _) => method_not_allowed("POST, DELETE"),
            (["calls" | "token" | "rotate"], _) => method_not_allowed("POST"),
            _ => no_such_path(),
        }
    }

    /// `None` where the method says nothing here.
    fn change_faults(&self, method: &Method, body: &[u8]) -> Option<Result<(), Wrong>> {
        let mut held = self.faults().lock();
        let changed = match *method {
            Method::GET | Method::HEAD => return Some(Ok(())),
            Method::PATCH | Method::POST => control::parse_faults(body, held.clone()),
            Method::PUT => control::parse_faults(body, Faults::default()),
            Method::DELETE => Ok(Faults::default()),
            _ => return None,
        };
        Some(changed.map(|changed| *held = changed))
    }

    /// The origin as the asker names it: a platform that listens on every address has no single one.
    fn origin_of(&self, request: &Request<Bytes>) -> String {
        header_text(request.headers(), &header::HOST)
            .and_then(|host| parse_http_url(&format!("{}://{host}/", self.scheme)).ok())
            .map_or_else(|| self.origin.clone(), |url| url.origin().ascii_serialization())
    }

    pub(crate) fn urls(&self, origin: &str) -> Vec<NamedUrl> {
        let url = |name, path: &str, about| NamedUrl { name, url: format!("{origin}{path}"), about };
        vec![
            url("skype_metadata", "/v1/.well-known/OpenIdConfiguration", "metadata of the Skype-like issuer"),
            url("skype_keys", "/v1/keys", "its keys"),
            url(
                "entra_metadata",
                "/common/v2.0/.well-known/openid-configuration",
                "metadata of the Entra-like issuer; a tenant id may stand for common",
            ),
            url("entra_keys", "/common/discovery/v2.0/keys", "its keys, and two that must not be used"),
            url("authority", "/{tenant}", "what a client library takes as its authority"),
            url("token_endpoint", "/{tenant}/oauth2/v2.0/token", "POST: a token for client credentials"),
            url(
                "graph",
                "/v1.0",
                "the Graph endpoint: /communications/calls/{id}/answer, reject, redirect, keepAlive, …",
            ),
            url("calls", "/emulator/calls", "POST: place a call, read its timeline as JSON lines"),
            url("load", "/emulator/load", "POST: place many calls, read a result for each as JSON lines"),
            url("token", "/emulator/token", "POST: a token, good or flawed"),
            url("rotate", "/emulator/rotate?issuer=skype&overlap=true", "POST: let a new key sign"),
            url("faults", "/emulator/faults", "GET, PATCH, PUT, DELETE: what goes wrong"),
        ]
    }

    fn index(&self, origin: &str) -> Value {
        let mut index: serde_json::Map<String, Value> =
            self.urls(origin).into_iter().map(|named| (named.name.to_owned(), named.url.into())).collect();
        index.insert("fault_values".to_owned(), control::faults_explained());
        Value::Object(index)
    }
}

fn document(request: &Request<Bytes>, document: impl FnOnce() -> Value) -> Response<Body> {
    if reads(request.method()) {
        json_response(StatusCode::OK, &document())
    } else {
        method_not_allowed("GET")
    }
}

/// With the header that the real documents have; a key set must be read again before that.
fn cached(request: &Request<Bytes>, make: impl FnOnce() -> Value) -> Response<Body> {
    let mut response = document(request, make);
    let day = header::HeaderValue::from_static("max-age=86400, private");
    response.headers_mut().insert(header::CACHE_CONTROL, day);
    response
}

/// How the documents refuse.
struct Plain;

impl Refuse for Plain {
    fn status(&self, status: StatusCode) -> Response<Body> {
        error_response(status, "fault", "the fault that was asked for")
    }

    fn code(&self, _code: u32) -> Response<Body> {
        self.status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// How the token endpoint refuses.
struct Login {
    now: SystemTime,
}

impl Refuse for Login {
    fn status(&self, status: StatusCode) -> Response<Body> {
        // Entra answers 401 to a client that it does not believe, and to nobody else.
        let code = if status == StatusCode::UNAUTHORIZED { 7_000_215 } else { 90_033 };
        let mut response = entra::coded(code, self.now);
        *response.status_mut() = status;
        response
    }

    fn code(&self, code: u32) -> Response<Body> {
        entra::coded(code, self.now)
    }
}

/// How Graph refuses.
struct Graph<'a> {
    request: &'a Request<Bytes>,
    now: SystemTime,
}

impl Refuse for Graph<'_> {
    fn status(&self, status: StatusCode) -> Response<Body> {
        Calls::error(self.request, status, self.now)
    }

    fn code(&self, code: u32) -> Response<Body> {
        Calls::coded(self.request, code, self.now)
    }
}

fn no_such_path() -> Response<Body> {
    error_response(StatusCode::NOT_FOUND, "notFound", "no such path; GET /emulator lists those there are")
}

fn json_lines<T: Serialize + Send + 'static>(lines: JsonLines<T>) -> Response<Body> {
    let mut response = Response::new(lines.boxed_unsync());
    let content_type = header::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
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
