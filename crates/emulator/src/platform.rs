//! The platform: one origin with the paths of the real hosts, and a control API of its own.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use openssl::error::ErrorStack;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{
    call::{CallRequest, parse_http_url},
    caller,
    client::Client,
    clock, control,
    encoding::random_id,
    graph::Calls,
    issuer::{self, Authority},
    keys::{Issuer, Keys, SigningKey},
    notification::CallIds,
    server::{Body, Handle, Server, error_response, header_text, json_response, method_not_allowed, reads},
    timeline::{Event, Placed, Recorder, Timeline},
    token::{Token, TokenError, TokenRequest, mint},
};

/// What a platform is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The apps it knows. The first one is used where a request names none.
    pub apps: Vec<Uuid>,
    /// Its keys; new ones if `None`.
    pub keys: Option<Keys>,
    /// Certificate authorities (PEM) that it trusts besides the system's, for bots that serve https.
    pub ca: Option<PathBuf>,
}

impl Settings {
    /// A free port on loopback, no apps, new keys.
    pub fn loopback() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), apps: Vec::new(), keys: None, ca: None }
    }
}

/// A running platform. It stops when it is dropped.
#[derive(Debug)]
pub struct Platform {
    shared: Arc<Shared>,
    server: Server,
}

impl Platform {
    /// Makes the keys, binds, and serves on the runtime it is called on.
    ///
    /// # Errors
    /// The address cannot be bound, or OpenSSL refuses.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let Settings { listen, apps, keys, ca } = settings;
        let listener =
            TcpListener::bind(listen).await.map_err(|source| StartError::Bind { address: listen, source })?;
        let address = listener.local_addr().map_err(|source| StartError::Bind { address: listen, source })?;
        let keys = match keys {
            Some(keys) => keys,
            None => blocking(Keys::generate).await?,
        };
        let shared = Arc::new(Shared {
            origin: format!("http://{address}"),
            apps,
            client: Client::new(ca.as_deref())?,
            keys: Mutex::new(keys),
            calls: Calls::default(),
            playing: Mutex::new(JoinSet::new()),
        });
        let server = Server::start(listener, Arc::clone(&shared))
            .map_err(|source| StartError::Bind { address: listen, source })?;
        Ok(Self { shared, server })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Scheme, host and port, like `http://127.0.0.1:4000`.
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// Every URL of this platform that somebody may need.
    pub fn urls(&self) -> Vec<NamedUrl> {
        self.shared.urls(&self.shared.origin)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The request contradicts itself, or OpenSSL refuses.
    pub fn token(&self, request: &TokenRequest) -> Result<Token, TokenError> {
        mint(&self.shared.keys(), request, clock::now())
    }

    /// Lets a new key of an issuer sign, and returns its id. Without an overlap the earlier keys are withdrawn at once.
    ///
    /// # Errors
    /// OpenSSL refuses.
    pub async fn rotate(&self, issuer: Issuer, overlap: bool) -> Result<String, ErrorStack> {
        self.shared.rotate(issuer, overlap).await
    }

    /// Places a call and plays it to its end, whether or not its timeline is read.
    ///
    /// # Errors
    /// Too many calls are alive, or OpenSSL has no randomness.
    pub fn call(&self, request: CallRequest) -> Result<Timeline, PlaceError> {
        self.shared.place(request)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.shared.lock_playing().abort_all();
    }
}

/// A URL of the platform.
#[derive(Clone, Debug)]
pub struct NamedUrl {
    /// A stable name for machines.
    pub name: &'static str,
    /// Where it is. `{tenant}` and `{id}` stand for any tenant or call.
    pub url: String,
    /// What it is, for people.
    pub about: &'static str,
}

/// Why a platform did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No keys, or the file of certificate authorities is not one.
    #[error("openssl refused: {0}")]
    Crypto(#[from] ErrorStack),
}

impl StartError {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Crypto(_) => "crypto",
        }
    }
}

/// Why a call was not placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The platform plays as many calls as it can.
    #[error("too many calls are alive")]
    TooMany,
    /// OpenSSL has no randomness.
    #[error("openssl refused")]
    Crypto(#[from] ErrorStack),
}

impl PlaceError {
    /// A stable name for logs and answers.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Crypto(_) => "crypto",
        }
    }
}

/// What every connection and every call of a platform shares.
#[derive(Debug)]
pub(crate) struct Shared {
    origin: String,
    apps: Vec<Uuid>,
    client: Client,
    keys: Mutex<Keys>,
    calls: Calls,
    playing: Mutex<JoinSet<()>>,
}

impl Shared {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app to use where a request names none.
    pub(crate) fn default_app(&self) -> Option<Uuid> {
        self.apps.first().copied()
    }

    pub(crate) async fn rotate(&self, issuer: Issuer, overlap: bool) -> Result<String, ErrorStack> {
        let key = blocking(|| SigningKey::generate("rotated.example")).await?;
        let kid = key.kid().to_owned();
        self.keys().ring_mut(issuer).rotate(key, overlap);
        Ok(kid)
    }

    pub(crate) fn place(self: &Arc<Self>, call: CallRequest) -> Result<Timeline, PlaceError> {
        let ids = CallIds {
            call: random_id()?,
            chain: random_id()?,
            scenario: random_id()?,
            caller: random_id()?,
            caller_participant: random_id()?,
            bot_participant: random_id()?,
            operation: random_id()?,
        };
        let started = Instant::now();
        let (recorder, timeline) = Recorder::new();
        let decisions = self
            .calls
            .insert(ids.call, call.tenant, started, recorder.sender())
            .ok_or(PlaceError::TooMany)?;
        recorder.record(Event::Call(Placed {
            call: ids.call,
            chain: ids.chain,
            tenant: call.tenant,
            kind: call.kind.label().to_owned(),
        }));
        let shared = Arc::clone(self);
        let mut playing = self.lock_playing();
        while playing.try_join_next().is_some() {}
        playing.spawn(async move {
            Box::pin(caller::play(&shared, &call, &ids, started, decisions, recorder)).await;
            shared.calls.remove(ids.call);
        });
        Ok(timeline)
    }

    /// The origin as the asker names it: a platform that listens on every address has no single one.
    fn origin_of(&self, request: &Request<Bytes>) -> String {
        header_text(request.headers(), &header::HOST)
            .and_then(|host| parse_http_url(&format!("http://{host}/")).ok())
            .map_or_else(|| self.origin.clone(), |url| url.origin().ascii_serialization())
    }

    fn urls(&self, origin: &str) -> Vec<NamedUrl> {
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
            url("graph", "/v1.0", "the Graph endpoint: /communications/calls/{id}/answer, reject, keepAlive"),
            url("calls", "/emulator/calls", "POST: place a call, read its timeline as JSON lines"),
            url("token", "/emulator/token", "POST: a token, good or flawed"),
            url("rotate", "/emulator/rotate?issuer=skype&overlap=true", "POST: let a new key sign"),
        ]
    }

    fn lock_playing(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.playing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn document(request: &Request<Bytes>, document: impl FnOnce() -> Value) -> Response<Body> {
        if !reads(request.method()) {
            return method_not_allowed("GET");
        }
        let mut response = json_response(StatusCode::OK, &document());
        let day = header::HeaderValue::from_static("max-age=86400, private");
        response.headers_mut().insert(header::CACHE_CONTROL, day);
        response
    }
}

impl Handle for Shared {
    async fn handle(self: Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["v1", ".well-known", "OpenIdConfiguration" | "openidconfiguration"] => {
                Self::document(&request, || issuer::skype_configuration(&self.origin_of(&request)))
            }
            ["v1", "keys"] => Self::document(&request, || issuer::skype_keys(&self.keys())),
            ["v1.0" | "beta", "communications" | "app", "calls", id] => self.calls.handle(&request, id, None),
            ["v1.0" | "beta", "communications" | "app", "calls", id, action] => {
                self.calls.handle(&request, id, Some(action))
            }
            ["" | "emulator"] => Self::document(&request, || {
                self.urls(&self.origin_of(&request))
                    .into_iter()
                    .map(|named| (named.name.to_owned(), Value::String(named.url)))
                    .collect()
            }),
            ["emulator", "calls"] if request.method() == Method::POST => {
                match control::parse_call(request.body(), self.default_app()) {
                    Ok(call) => match self.place(call) {
                        Ok(timeline) => {
                            let mut response = Response::new(timeline.into_body().boxed_unsync());
                            let lines = header::HeaderValue::from_static("application/x-ndjson");
                            response.headers_mut().insert(header::CONTENT_TYPE, lines);
                            response
                        }
                        Err(error) => {
                            error_response(StatusCode::SERVICE_UNAVAILABLE, error.label(), &error.to_string())
                        }
                    },
                    Err(wrong) => error_response(StatusCode::BAD_REQUEST, "badRequest", &wrong.to_string()),
                }
            }
            ["emulator", "token"] if request.method() == Method::POST => {
                match control::parse_token(request.body(), self.default_app()) {
                    Ok(wanted) => token_response(mint(&self.keys(), &wanted, clock::now())),
                    Err(wrong) => error_response(StatusCode::BAD_REQUEST, "badRequest", &wrong.to_string()),
                }
            }
            ["emulator", "rotate"] if request.method() == Method::POST => {
                match control::parse_rotation(request.uri().query()) {
                    Ok((issuer, overlap)) => match self.rotate(issuer, overlap).await {
                        Ok(kid) => json_response(
                            StatusCode::OK,
                            &json!({"issuer": issuer.label(), "overlap": overlap, "kid": kid}),
                        ),
                        Err(error) => {
                            error_response(StatusCode::INTERNAL_SERVER_ERROR, "crypto", &error.to_string())
                        }
                    },
                    Err(wrong) => error_response(StatusCode::BAD_REQUEST, "badRequest", &wrong.to_string()),
                }
            }
            ["emulator", "calls" | "token" | "rotate"] => method_not_allowed("POST"),
            [authority, "v2.0", ".well-known", "openid-configuration"] => match Authority::parse(authority) {
                Some(authority) => Self::document(&request, || {
                    issuer::entra_configuration(&self.origin_of(&request), authority)
                }),
                None => no_such_tenant(),
            },
            [authority, "discovery", "v2.0", "keys"] => match Authority::parse(authority) {
                Some(authority) => Self::document(&request, || issuer::entra_keys(&self.keys(), authority)),
                None => no_such_tenant(),
            },
            _ => error_response(
                StatusCode::NOT_FOUND,
                "notFound",
                "no such path; GET /emulator lists those there are",
            ),
        }
    }
}

fn token_response(result: Result<Token, TokenError>) -> Response<Body> {
    match result {
        Ok(token) => json_response(
            StatusCode::OK,
            &json!({"token": token.compact, "kid": token.kid, "expires_at": token.expires_at}),
        ),
        Err(error @ (TokenError::EntraOnly { .. } | TokenError::NothingToMake)) => {
            error_response(StatusCode::BAD_REQUEST, error.label(), &error.to_string())
        }
        Err(error @ TokenError::Crypto(_)) => {
            error_response(StatusCode::INTERNAL_SERVER_ERROR, error.label(), &error.to_string())
        }
    }
}

/// As Entra says it.
fn no_such_tenant() -> Response<Body> {
    let document = json!({
        "error": "invalid_tenant",
        "error_description": "AADSTS90002: Tenant not found: use common, organizations or a tenant id.",
        "error_codes": [90_002],
    });
    json_response(StatusCode::BAD_REQUEST, &document)
}

/// Runs something that takes a moment of CPU beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorStack> + Send + 'static,
) -> Result<T, ErrorStack> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The work neither panics nor is aborted; a runtime that shuts down ends here, with an empty error.
        Err(_) => Err(ErrorStack::get()),
    }
}
