//! The routes of the admin listener. Their names are documented in `docs/admin.md`.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use http::{HeaderMap, Method, Request, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    admin::{
        access::{check_sender, require_token},
        calls::{CallsQuery, call, calls},
        error::AdminError,
        events::Feed,
        fleet_summary,
        instance_json::InstanceJson,
        off_thread::off_thread,
        page::PageFile,
        response::{AdminResponse, json, response},
        state::AdminState,
    },
    fleet_totals::FleetTotals,
    metrics::{ConfigNumbers, DeliveryNumbers, Format, Metrics, Scrape},
    readiness::Readiness,
    wall_clock::{unix_ms, wall_clock},
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
    /// The live view.
    pub feed: Feed,
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
                Ok(AdminReply::Long(response)) => off_thread(response).await.unwrap_or_else(|| {
                    let message = "the response could not be written: see the log";
                    AdminError::new(StatusCode::INTERNAL_SERVER_ERROR, "panicked", message).into_response()
                }),
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
        let state = self.state.load_full();
        let token = state.admin_token.as_ref();
        check_sender(request, loopback, token)?;
        let route = AdminRoute::parse(request.uri().path()).ok_or(AdminError::NOT_FOUND)?;
        route.check_method(request.method())?;
        if route.requires_token() {
            require_token(token, request.headers(), loopback)?;
        }
        let query = request.uri().query();
        let response = match route {
            AdminRoute::Page(file) => file.respond(request.headers()),
            AdminRoute::Healthz => self.healthz(),
            AdminRoute::Readyz => self.readyz(&state),
            AdminRoute::Metrics => {
                let (counts, format) = (Arc::clone(&self.metrics), Format::negotiate(request.headers()));
                return Ok(AdminReply::Long(Box::new(move || metrics(&counts, &state, format))));
            }
            AdminRoute::Fleet => return Ok(AdminReply::Long(Box::new(move || fleet(&state)))),
            AdminRoute::FleetSummary => {
                return Ok(AdminReply::Long(Box::new(move || fleet_summary::response(&state))));
            }
            AdminRoute::Callback(instance) => callback(&state, instance, query)?,
            AdminRoute::Events => {
                let request = (request.headers(), query);
                self.feed.open(&self.state, &self.draining, request, wall_clock())?
            }
            AdminRoute::Calls => {
                let (query, now_ms) = (CallsQuery::parse(query)?, unix_ms(wall_clock()));
                return Ok(AdminReply::Long(Box::new(move || calls(&state, &query, now_ms))));
            }
            AdminRoute::Call(id) => call(&state, id, unix_ms(wall_clock()))?,
            AdminRoute::Config => {
                return Ok(AdminReply::Long(Box::new(move || json(StatusCode::OK, &state.config.settings))));
            }
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
    /// A response that grows with the fleet, the calls or the configuration: milliseconds for thousands.
    Long(Box<dyn FnOnce() -> AdminResponse + Send>),
}

fn metrics(counts: &Metrics, state: &AdminState, format: Format) -> AdminResponse {
    let instances = state.delivery.instances();
    let scrape = Scrape {
        metrics: counts,
        trusts: state.authenticator.trusts(),
        delivery: DeliveryNumbers {
            fleet: FleetTotals::of(&state.delivery, &instances, state.head_room),
            placement: state.delivery.placement_counters(),
            source_age: state.delivery.source_age(),
            idle_connections: state.connections.idle(),
            instance_totals: (!state.instance_metrics).then(|| state.delivery.instance_totals()),
        },
        instances,
        durations: state.delivery.durations(),
        config: ConfigNumbers { policy: &state.policy, apps: &state.apps, limits: &state.limits },
        now: wall_clock(),
    };
    response(StatusCode::OK, format.content_type(), scrape.text(format).into())
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
    Page(PageFile),
    Healthz,
    Readyz,
    Metrics,
    Fleet,
    FleetSummary,
    Callback(&'p str),
    Events,
    Calls,
    Call(&'p str),
    Config,
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
            "/fleet/summary" => Some(Self::FleetSummary),
            "/events" => Some(Self::Events),
            "/calls" => Some(Self::Calls),
            "/config" => Some(Self::Config),
            _ if PageFile::parse(path).is_some() => PageFile::parse(path).map(Self::Page),
            _ if path.starts_with("/calls/") => path.strip_prefix("/calls/").map(Self::Call),
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
            Self::Page(_)
            | Self::Healthz
            | Self::Readyz
            | Self::Metrics
            | Self::Fleet
            | Self::FleetSummary
            | Self::Callback(_)
            | Self::Calls
            | Self::Call(_)
            | Self::Config => (&[Method::GET, Method::HEAD], "GET, HEAD"),
            // A stream without its body is none.
            Self::Events => (&[Method::GET], "GET"),
            Self::Drain(_) | Self::Resume(_) => (&[Method::POST], "POST"),
        };
        if allowed.contains(method) { Ok(()) } else { Err(AdminError::method_not_allowed(allow)) }
    }

    /// Returns true for changes, for callback URIs, whose seals let their holder receive callbacks, and for
    /// what names calls, senders or the configuration.
    fn requires_token(self) -> bool {
        match self {
            Self::Page(_)
            | Self::Healthz
            | Self::Readyz
            | Self::Metrics
            | Self::Fleet
            | Self::FleetSummary => false,
            Self::Callback(_)
            | Self::Events
            | Self::Calls
            | Self::Call(_)
            | Self::Config
            | Self::Drain(_)
            | Self::Resume(_) => true,
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
