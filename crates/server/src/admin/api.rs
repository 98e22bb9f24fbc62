//! The routes of the admin listener. Their names are documented in `docs/admin.md`.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use serde::Serialize;
use tokio::{sync::Semaphore, task::spawn_blocking};
use uuid::Uuid;

use crate::{
    admin::{
        access::{refuse_browsers, require_token},
        error::AdminError,
        instance_json::InstanceJson,
        response::{AdminResponse, json, response},
        state::AdminState,
    },
    metrics::{self, DeliveryNumbers, Metrics},
    readiness::Readiness,
};

/// The state behind the routes.
#[derive(Debug)]
pub struct AdminApi {
    /// The current gateway's parts; a reload replaces them.
    pub state: Arc<ArcSwap<AdminState>>,
    /// The numbers of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// True while the process drains.
    pub draining: Arc<AtomicBool>,
}

impl AdminApi {
    /// Responds to one request. `loopback` is the bound address if only this machine reaches it.
    pub(super) fn respond<B>(
        &self,
        request: &Request<B>,
        loopback: Option<IpAddr>,
    ) -> impl Future<Output = AdminResponse> + Send + use<B> {
        let reply = self.try_respond(request, loopback);
        async move {
            match reply {
                Ok(AdminReply::Ready(response)) => response,
                Ok(AdminReply::Long(response)) => off_thread(response).await,
                Err(error) => error.into_response(),
            }
        }
    }

    /// Returns true if `headers` have the configured token.
    pub(super) fn has_token(&self, headers: &HeaderMap) -> bool {
        let token = &self.state.load().admin_token;
        token.is_some() && require_token(token.as_ref(), headers, None).is_ok()
    }

    fn try_respond<B>(
        &self,
        request: &Request<B>,
        loopback: Option<IpAddr>,
    ) -> Result<AdminReply, AdminError> {
        refuse_browsers(request, loopback)?;
        let route = AdminRoute::parse(request.uri().path()).ok_or(AdminError::NOT_FOUND)?;
        route.check_method(request.method())?;
        let state = self.state.load_full();
        if route.requires_token() {
            require_token(state.admin_token.as_ref(), request.headers(), loopback)?;
        }
        let response = match route {
            AdminRoute::Healthz => self.healthz(),
            AdminRoute::Readyz => self.readyz(&state),
            AdminRoute::Metrics => {
                let counts = Arc::clone(&self.metrics);
                return Ok(AdminReply::Long(Box::new(move || metrics(&counts, &state))));
            }
            AdminRoute::Fleet => return Ok(AdminReply::Long(Box::new(move || fleet(&state)))),
            AdminRoute::Callback(instance) => callback(&state, instance, request.uri().query())?,
            AdminRoute::Drain(instance) => drain(&state, instance)?,
            AdminRoute::Resume(instance) => resume(&state, instance)?,
        };
        Ok(AdminReply::Ready(response))
    }

    /// Only a restart helps a gateway whose workers have stopped. In a drain they stop one after the other.
    fn healthz(&self) -> AdminResponse {
        let healthy = self.draining.load(Relaxed) || self.metrics.workers() > 0;
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(status, &Healthz { healthy })
    }

    fn readyz(&self, state: &AdminState) -> AdminResponse {
        let draining = self.draining.load(Relaxed);
        let readiness =
            Readiness::of(&state.authenticator, &state.delivery, self.metrics.workers(), draining);
        let failing = readiness.failing();
        let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(
            status,
            &Readyz {
                ready: failing.is_empty(),
                failing,
                // Always true: without a valid configuration, the process has no admin listener.
                configuration_loaded: true,
                trusts_with_keys: readiness.trusts_with_keys,
                trusts_without_keys: readiness.trusts_without_keys,
                fleet_known: state.delivery.is_known(),
                draining,
            },
        )
    }
}

/// The reply to a request.
enum AdminReply {
    Ready(AdminResponse),
    /// A response that grows with the fleet: milliseconds for thousands of instances.
    Long(Box<dyn FnOnce() -> AdminResponse + Send>),
}

/// Writes a response on a thread for blocking work: this thread accepts connections. One at a time, so that
/// scrapers take at most one processor from the workers.
async fn off_thread(response: Box<dyn FnOnce() -> AdminResponse + Send>) -> AdminResponse {
    // Cannot fail: the semaphore is never closed.
    let permit = LONG_RESPONSES.acquire().await.ok();
    let written = spawn_blocking(move || {
        let _permit = permit;
        response()
    });
    written.await.unwrap_or_else(|_| {
        let message = "the response could not be written: see the log";
        AdminError::new(StatusCode::INTERNAL_SERVER_ERROR, "panicked", message).into_response()
    })
}

/// Of the process, as its threads are.
static LONG_RESPONSES: Semaphore = Semaphore::const_new(1);

fn metrics(counts: &Arc<Metrics>, state: &AdminState) -> AdminResponse {
    let (trusts, instances) = (state.authenticator.trusts(), state.delivery.instances());
    let delivery = DeliveryNumbers {
        placement: state.delivery.placement_counters(),
        source_age: state.delivery.source_age(),
        idle_connections: state.connections.idle(),
        is_per_instance: state.instance_metrics,
    };
    let text = metrics::exposition(counts, trusts, instances, delivery);
    response(StatusCode::OK, HeaderValue::from_static(metrics::CONTENT_TYPE), text.into())
}

fn fleet(state: &AdminState) -> AdminResponse {
    let instances = state.delivery.instances();
    json(StatusCode::OK, &instances.iter().map(InstanceJson::from).collect::<Vec<_>>())
}

fn drain(state: &AdminState, name: &str) -> Result<AdminResponse, AdminError> {
    let is_known = state.delivery.drain(name);
    let response = instance(state, name).filter(|_| is_known).ok_or_else(|| unknown_instance(state))?;
    tracing::info!(instance = name, "operator drained the instance");
    Ok(response)
}

fn resume(state: &AdminState, name: &str) -> Result<AdminResponse, AdminError> {
    let is_known = state.delivery.resume(name);
    let response = instance(state, name).filter(|_| is_known).ok_or_else(|| unknown_instance(state))?;
    tracing::info!(instance = name, "operator resumed the instance");
    Ok(response)
}

/// The current status of one instance.
fn instance(state: &AdminState, name: &str) -> Option<AdminResponse> {
    let instances = state.delivery.instances();
    let status = instances.iter().find(|status| status.name.as_str() == name)?;
    Some(json(StatusCode::OK, &InstanceJson::from(status)))
}

fn callback(state: &AdminState, name: &str, query: Option<&str>) -> Result<AdminResponse, AdminError> {
    let mut values = query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("app="));
    let app = match (values.next(), values.next()) {
        (Some(value), None) => Uuid::try_parse(value).ok(),
        (None, _) | (Some(_), Some(_)) => None,
    };
    let Some(app) = app else {
        let message = format!("add ?app= with the id of an app: {}", list(&state.apps));
        return Err(AdminError::new(StatusCode::BAD_REQUEST, "bad_app", message));
    };
    if !state.apps.contains(&app) {
        let message = format!("that app is not configured; the apps are: {}", list(&state.apps));
        return Err(AdminError::new(StatusCode::NOT_FOUND, "unknown_app", message));
    }
    let owner = state.delivery.owner(name).ok_or_else(|| unknown_instance(state))?;
    Ok(json(StatusCode::OK, &CallbackJson { callback_uri: state.callbacks.mint(&owner, app) }))
}

fn unknown_instance(state: &AdminState) -> AdminError {
    let instances = state.delivery.instances();
    let names = instances.iter().map(|status| &status.name);
    AdminError::new(
        StatusCode::NOT_FOUND,
        "unknown_instance",
        format!("no instance has that name; the instances are: {}", list(names)),
    )
}

/// The first few items, for a message.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let mut items = items.into_iter();
    let mut names: Vec<_> = items.by_ref().take(20).map(|item| item.to_string()).collect();
    if items.next().is_some() {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// A path of the admin listener. Paths are matched raw: instance names need no escapes.
#[derive(Clone, Copy, Debug)]
enum AdminRoute<'p> {
    Healthz,
    Readyz,
    Metrics,
    Fleet,
    Callback(&'p str),
    Drain(&'p str),
    Resume(&'p str),
}

impl<'p> AdminRoute<'p> {
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

    fn check_method(self, method: &Method) -> Result<(), AdminError> {
        let (allowed, allow): (&[Method], _) = match self {
            Self::Healthz | Self::Readyz | Self::Metrics | Self::Fleet | Self::Callback(_) => {
                (&[Method::GET, Method::HEAD], "GET, HEAD")
            }
            Self::Drain(_) | Self::Resume(_) => (&[Method::POST], "POST"),
        };
        if allowed.contains(method) { Ok(()) } else { Err(AdminError::method_not_allowed(allow)) }
    }

    /// Returns true for changes, and for callback URIs: their seals let their holder receive callbacks.
    fn requires_token(self) -> bool {
        match self {
            Self::Healthz | Self::Readyz | Self::Metrics | Self::Fleet => false,
            Self::Callback(_) | Self::Drain(_) | Self::Resume(_) => true,
        }
    }
}

#[derive(Serialize)]
struct Healthz {
    healthy: bool,
}

#[derive(Serialize)]
struct Readyz {
    ready: bool,
    /// The conditions that fail, of `keys`, `fleet`, `probes`, `drain` and `workers`.
    failing: Vec<&'static str>,
    configuration_loaded: bool,
    trusts_with_keys: Vec<String>,
    trusts_without_keys: Vec<String>,
    fleet_known: bool,
    draining: bool,
}

#[derive(Serialize)]
struct CallbackJson {
    callback_uri: String,
}
