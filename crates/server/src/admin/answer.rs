//! The routes of the admin listener and their answers. The names in them are documented in `docs/operations.md`.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use serde::Serialize;
use switchboard_delivery::InstanceStatus;
use uuid::Uuid;

use super::{Desk, Parts};
use crate::metrics::Metrics;

/// An answer, whole.
pub(super) type Response = http::Response<Full<Bytes>>;

impl Desk {
    /// Answers one request.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response {
        self.try_answer(request).unwrap_or_else(Fault::into_response)
    }

    fn try_answer<B>(&self, request: &Request<B>) -> Result<Response, Fault> {
        self.admit(request)?;
        let route = Route::parse(request.uri().path()).ok_or(NOT_FOUND)?;
        route.check_method(request.method())?;
        let parts = self.admin.parts.load();
        match route {
            Route::Healthz => Ok(json(StatusCode::OK, &Healthz { healthy: true })),
            Route::Readyz => Ok(self.readyz(&parts)),
            Route::Metrics => Ok(self.metrics(&parts)),
            Route::Fleet => {
                let fleet = parts.delivery.instances();
                Ok(json(StatusCode::OK, &fleet.iter().map(Instance::from).collect::<Vec<_>>()))
            }
            Route::Callback(instance) => {
                self.authorize(request.headers())?;
                callback(&parts, instance, request.uri().query())
            }
            Route::Drain(instance) => self.steer(&parts, request.headers(), instance, true),
            Route::Resume(instance) => self.steer(&parts, request.headers(), instance, false),
        }
    }

    fn readyz(&self, parts: &Parts) -> Response {
        let (with_keys, without_keys): (Vec<_>, _) =
            parts.authenticator.trusts().into_iter().partition(|trust| trust.keys > 0);
        let names = |trusts: Vec<switchboard_auth::TrustStatus>| {
            trusts.iter().map(|trust| String::from(&*trust.name)).collect::<Vec<_>>()
        };
        let has_keys = !with_keys.is_empty();
        let fleet_known = parts.delivery.is_known();
        let draining = self.admin.draining.load(Relaxed);

        let conditions = [("keys", has_keys), ("fleet", fleet_known), ("drain", !draining)];
        let failing: Vec<_> = conditions.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name).collect();
        let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(
            status,
            &Readyz {
                ready: failing.is_empty(),
                failing,
                // Without a valid configuration there are no parts, and nobody listens here.
                configuration_loaded: true,
                trusts_with_keys: names(with_keys),
                trusts_without_keys: names(without_keys),
                fleet_known,
                draining,
            },
        )
    }

    fn metrics(&self, parts: &Parts) -> Response {
        let text = self.admin.metrics.exposition(parts.authenticator.trusts(), parts.delivery.instances());
        response(StatusCode::OK, HeaderValue::from_static(Metrics::CONTENT_TYPE), text.into())
    }

    /// Drains or resumes an instance and answers with what it is then.
    fn steer(&self, parts: &Parts, headers: &HeaderMap, name: &str, drain: bool) -> Result<Response, Fault> {
        self.authorize(headers)?;
        let found = if drain { parts.delivery.drain(name) } else { parts.delivery.resume(name) };
        let status = parts.delivery.instances().into_iter().find(|status| status.name.as_str() == name);
        let Some(status) = status.filter(|_| found) else { return Err(no_such_instance(parts)) };
        if drain {
            tracing::info!(instance = name, "an operator drains the instance");
        } else {
            tracing::info!(instance = name, "an operator resumes the instance");
        }
        Ok(json(StatusCode::OK, &Instance::from(&status)))
    }
}

fn callback(parts: &Parts, name: &str, query: Option<&str>) -> Result<Response, Fault> {
    let mut values = query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("app="));
    let app = match (values.next(), values.next()) {
        (Some(value), None) => Uuid::try_parse(value).ok(),
        (None, _) | (Some(_), Some(_)) => None,
    };
    let Some(app) = app else {
        let message = format!("add ?app= with the id of an app: {}", list(&parts.apps));
        return Err(Fault::new(StatusCode::BAD_REQUEST, "bad_app", message));
    };
    if !parts.apps.contains(&app) {
        let message = format!("that app is not configured; there are: {}", list(&parts.apps));
        return Err(Fault::new(StatusCode::NOT_FOUND, "unknown_app", message));
    }
    let owner = parts.delivery.owner(name).ok_or_else(|| no_such_instance(parts))?;
    Ok(json(StatusCode::OK, &Callback { callback_uri: parts.callbacks.mint(&owner, app) }))
}

fn no_such_instance(parts: &Parts) -> Fault {
    let instances = parts.delivery.instances();
    let names = instances.iter().map(|status| &status.name);
    Fault::new(
        StatusCode::NOT_FOUND,
        "unknown_instance",
        format!("no instance has that name; there are: {}", list(names)),
    )
}

/// The first few, for a message.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let mut items = items.into_iter();
    let mut names: Vec<_> = items.by_ref().take(20).map(|item| item.to_string()).collect();
    if items.next().is_some() {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// What a path asks for. Paths are matched raw: the names of instances need no escapes.
#[derive(Clone, Copy, Debug)]
enum Route<'p> {
    Healthz,
    Readyz,
    Metrics,
    Fleet,
    Callback(&'p str),
    Drain(&'p str),
    Resume(&'p str),
}

impl<'p> Route<'p> {
    fn parse(path: &'p str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Healthz),
            "/readyz" => Some(Self::Readyz),
            "/metrics" => Some(Self::Metrics),
            "/fleet" => Some(Self::Fleet),
            _ => match path.strip_prefix("/fleet/")?.split_once('/')? {
                (instance, "callback") => Some(Self::Callback(instance)),
                (instance, "drain") => Some(Self::Drain(instance)),
                (instance, "resume") => Some(Self::Resume(instance)),
                _ => None,
            },
        }
    }

    fn check_method(self, method: &Method) -> Result<(), Fault> {
        let (allowed, allow): (&[Method], _) = match self {
            Self::Healthz | Self::Readyz | Self::Metrics | Self::Fleet | Self::Callback(_) => {
                (&[Method::GET, Method::HEAD], "GET, HEAD")
            }
            Self::Drain(_) | Self::Resume(_) => (&[Method::POST], "POST"),
        };
        if allowed.contains(method) {
            return Ok(());
        }
        let mut fault = Fault::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("this path takes {allow}"),
        );
        fault.header = Some((ALLOW, HeaderValue::from_static(allow)));
        Err(fault)
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    code: &'static str,
    message: Message,
    header: Option<(http::HeaderName, HeaderValue)>,
}

type Message = std::borrow::Cow<'static, str>;

impl Fault {
    /// `message` says what would be right.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<Message>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    fn into_response(self) -> Response {
        let body = ErrorBody { error: ErrorDetail { code: self.code, message: &self.message } };
        let mut response = json(self.status, &body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Our own types have string keys only, so that this cannot fail; an empty body would be the right answer if it did.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    response(status, HeaderValue::from_static("application/json"), bytes.into())
}

fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[derive(Serialize)]
struct Healthz {
    healthy: bool,
}

#[derive(Serialize)]
struct Readyz {
    ready: bool,
    /// Of `keys`, `fleet` and `drain`, those that fail.
    failing: Vec<&'static str>,
    configuration_loaded: bool,
    trusts_with_keys: Vec<String>,
    trusts_without_keys: Vec<String>,
    fleet_known: bool,
    draining: bool,
}

#[derive(Serialize)]
struct Callback {
    callback_uri: String,
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

/// One instance in `/fleet`. Values that are not known are null.
#[derive(Serialize)]
struct Instance<'a> {
    name: &'a str,
    incarnation: &'a str,
    state: &'static str,
    since_ms: u64,
    reason: &'static str,
    calls: Option<u32>,
    calls_expected: Option<u32>,
    calls_counted: usize,
    capacity: Option<u32>,
    placed: u64,
    callbacks: u64,
    in_flight: u64,
    attempts: u64,
    failures: BTreeMap<&'static str, u64>,
    missed_probes: u64,
    last_probe_ms: Option<u64>,
    /// How often it changed into each state.
    entered: BTreeMap<&'static str, u64>,
}

impl<'a> From<&'a InstanceStatus> for Instance<'a> {
    fn from(status: &'a InstanceStatus) -> Self {
        // Without `..`, so that what delivery learns to tell is shown.
        let InstanceStatus {
            name,
            incarnation,
            state,
            since,
            reason,
            calls,
            calls_expected,
            calls_counted,
            capacity,
            placed,
            callbacks,
            in_flight,
            attempts,
            failures,
            missed_probes,
            last_probe,
            entered,
        } = status;
        Self {
            name: name.as_str(),
            incarnation: incarnation.as_str(),
            state: state.label(),
            since_ms: whole_ms(*since),
            reason,
            calls: *calls,
            calls_expected: *calls_expected,
            calls_counted: *calls_counted,
            capacity: *capacity,
            placed: *placed,
            callbacks: *callbacks,
            in_flight: *in_flight,
            attempts: *attempts,
            failures: failures.iter().copied().collect(),
            missed_probes: *missed_probes,
            last_probe_ms: last_probe.map(whole_ms),
            entered: entered.iter().map(|(state, times)| (state.label(), *times)).collect(),
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const NOT_FOUND: Fault = Fault {
    status: StatusCode::NOT_FOUND,
    code: "not_found",
    message: Message::Borrowed(
        "there are GET /healthz, /readyz, /metrics, /fleet, /fleet/{instance}/callback?app={id} and \
         POST /fleet/{instance}/drain, /fleet/{instance}/resume",
    ),
    header: None,
};

/// The token is missing or wrong.
pub(super) const UNAUTHENTICATED: Fault = Fault {
    status: StatusCode::UNAUTHORIZED,
    code: "unauthenticated",
    message: Message::Borrowed("send the configured admin.token as: Authorization: Bearer {token}"),
    header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
};
