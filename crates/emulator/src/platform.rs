//! The platform: one origin with the paths of the real hosts, and a control API of its own.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use openssl::error::ErrorStack;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

use crate::{
    call::CallRequest,
    caller::{self, Tokens},
    client::Client,
    clock,
    control::RotationRequest,
    entra::{Credential, Directory, Permission},
    faults::{FaultBox, Faults},
    graph::{Calls, Facts, Issued},
    keys::{AnnounceError, Issuer, Keys, SigningKey},
    load::{self, LoadEvents, LoadRequest},
    notification::CallIds,
    server::Server,
    timeline::{CallEvent, PlacedCall, Recorder, Timeline},
    tls::{self, TlsError},
    token::{MintError, Token, TokenChoice, TokenRequest, mint},
};

/// What a platform is told.
#[derive(Clone, Debug)]
pub struct PlatformSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The apps it knows. The first one is used where a request names none.
    pub apps: Vec<Uuid>,
    /// Its keys; new ones if `None`.
    pub keys: Option<Keys>,
    /// Certificate authorities (PEM) that it trusts besides the system's, for bots that serve https.
    pub ca: Option<PathBuf>,
    /// A folder for a certificate authority and a certificate; made if absent. Plain http if `None`.
    pub tls: Option<PathBuf>,
    /// What the token endpoint takes as proof. Without any, every secret of every known app is right.
    pub credentials: Vec<(Uuid, Credential)>,
    /// The tenants there are; any if empty.
    pub tenants: Vec<Uuid>,
    /// The permissions that tokens for Graph carry.
    pub permissions: Vec<Permission>,
    /// How long the tokens of the token endpoint live.
    pub token_life: Duration,
    /// Whether Graph asks for a token; if `None`, when there are credentials.
    pub graph_auth: Option<bool>,
    /// How long it waits for the answer to a notification before it tries again.
    pub post_timeout: Duration,
    /// Rotates the keys of both issuers by itself.
    pub rotation: Option<Rotation>,
    /// What goes wrong from the start.
    pub faults: Faults,
}

/// When keys rotate by themselves, each with an overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The time between two new keys.
    pub every: Duration,
    /// How long a key is published before it signs.
    pub publish_before: Duration,
}

impl PlatformSettings {
    /// A free port on loopback, plain http, any app and tenant, new keys, every permission, nothing wrong.
    pub fn loopback() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            apps: Vec::new(),
            keys: None,
            ca: None,
            tls: None,
            credentials: Vec::new(),
            tenants: Vec::new(),
            permissions: Permission::ALL.to_vec(),
            token_life: TOKEN_LIFE,
            graph_auth: None,
            post_timeout: POST_TIMEOUT,
            rotation: None,
            faults: Faults::default(),
        }
    }
}

/// A running platform. It stops when it is dropped.
#[derive(Debug)]
pub struct Platform {
    shared: Arc<Shared>,
    server: Server,
    rotating: Option<JoinHandle<()>>,
}

impl Platform {
    /// Makes the keys, binds, and serves on the runtime it is called on.
    ///
    /// # Errors
    /// The address cannot be bound, or OpenSSL refuses.
    pub async fn start(settings: PlatformSettings) -> Result<Self, PlatformStartError> {
        let PlatformSettings { listen, apps, keys, ca, tls, credentials, tenants, permissions, .. } =
            settings;
        let PlatformSettings { token_life, graph_auth, post_timeout, rotation, faults, .. } = settings;
        if rotation.is_some_and(|rotation| !rotation.fits()) {
            return Err(PlatformStartError::Rotation);
        }
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| PlatformStartError::Bind { address: listen, source })?;
        let address =
            listener.local_addr().map_err(|source| PlatformStartError::Bind { address: listen, source })?;
        let acceptor = tls.as_deref().map(tls::acceptor).transpose()?;
        let keys = match keys {
            Some(keys) => keys,
            None => blocking(Keys::generate).await?,
        };
        let auth = graph_auth.unwrap_or(!credentials.is_empty());
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            origin: format!("{scheme}://{address}"),
            scheme,
            ca: tls.map(|folder| {
                let ca = folder.join("ca.pem");
                // Whoever is told of it may run in another folder.
                std::path::absolute(&ca).unwrap_or(ca)
            }),
            client: Client::new(ca.as_deref())?,
            keys: Mutex::new(keys),
            calls: Calls::default(),
            issued: auth.then(Issued::default),
            directory: Directory { apps, credentials, tenants, permissions, token_life },
            faults: FaultBox::new(faults),
            post_timeout,
            enough: AtomicU64::new(0),
            tokens: Tokens::default(),
            playing: Mutex::new(JoinSet::new()),
        });
        let server = Server::start_with(listener, Arc::clone(&shared), acceptor)
            .map_err(|source| PlatformStartError::Bind { address: listen, source })?;
        let rotating =
            rotation.map(|rotation| tokio::spawn(rotate_always(Arc::downgrade(&shared), rotation)));
        Ok(Self { shared, server, rotating })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Scheme, host and port, like `http://127.0.0.1:4000`.
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// The certificate authority that clients are to trust, where the platform serves https.
    pub fn ca(&self) -> Option<&Path> {
        self.shared.ca.as_deref()
    }

    /// Every URL of this platform that somebody may need.
    pub fn urls(&self) -> Vec<NamedUrl> {
        self.shared.urls(&self.shared.origin)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The request contradicts itself, or OpenSSL refuses.
    pub fn token(&self, request: &TokenRequest) -> Result<Token, MintError> {
        self.shared.mint(request)
    }

    /// Lets a new key of an issuer sign, and returns its id. Without an overlap the earlier keys are withdrawn at once.
    ///
    /// # Errors
    /// OpenSSL refuses.
    pub async fn rotate(&self, issuer: Issuer, overlap: bool) -> Result<String, ErrorStack> {
        match self.shared.rotate(RotationRequest { issuer, overlap, publish_before: Duration::ZERO }).await {
            Ok(kid) => Ok(kid),
            Err(RotateError::Crypto(error)) => Err(error),
            // Only keys that are announced can be too many.
            Err(RotateError::TooManyUpcoming(_)) => Err(ErrorStack::get()),
        }
    }

    /// Publishes a new key of an issuer that will sign after a while, and returns its id.
    ///
    /// # Errors
    /// OpenSSL refuses, or too many keys wait already.
    pub async fn rotate_ahead(
        &self,
        issuer: Issuer,
        overlap: bool,
        publish_before: Duration,
    ) -> Result<String, RotateError> {
        self.shared.rotate(RotationRequest { issuer, overlap, publish_before }).await
    }

    /// What goes wrong now.
    pub fn faults(&self) -> Faults {
        self.shared.faults.lock().clone()
    }

    /// Lets other things go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.shared.faults.lock() = faults;
    }

    /// Places a call and plays it to its end, whether or not its timeline is read.
    ///
    /// # Errors
    /// Too many calls are alive, or OpenSSL has no randomness.
    pub fn call(&self, request: CallRequest) -> Result<Timeline, PlaceError> {
        self.shared.place(request)
    }
}

impl Platform {
    /// Places many calls and plays them; it stops placing when the events are dropped.
    pub fn load(&self, request: LoadRequest) -> LoadEvents {
        load::start(&self.shared, request)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.shared.lock_playing().abort_all();
        if let Some(rotating) = &self.rotating {
            rotating.abort();
        }
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
pub enum PlatformStartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Keys would be published faster than they come to sign.
    #[error(
        "a key may be published at most {ROTATIONS_AHEAD_MAX} rotations before it signs, and keys may rotate every 100ms at most"
    )]
    Rotation,
    /// No keys, or the file of certificate authorities is not one.
    #[error("openssl refused: {0}")]
    Crypto(#[from] ErrorStack),
}

impl PlatformStartError {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Tls(error) => error.label(),
            Self::Rotation => "rotation",
            Self::Crypto(_) => "crypto",
        }
    }
}

/// Why no key was rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Too many keys wait to sign.
    #[error(transparent)]
    TooManyUpcoming(#[from] AnnounceError),
    /// OpenSSL refuses.
    #[error("openssl refused: {0}")]
    Crypto(#[from] ErrorStack),
}

impl RotateError {
    /// A stable name for logs and answers.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooManyUpcoming(_) => "too_many_upcoming",
            Self::Crypto(_) => "crypto",
        }
    }
}

impl Rotation {
    fn fits(self) -> bool {
        self.every >= ROTATION_TIME_MIN && self.publish_before <= self.every * ROTATIONS_AHEAD_MAX
    }
}

async fn rotate_always(platform: Weak<Shared>, rotation: Rotation) {
    let mut ticks = interval(rotation.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(platform) = platform.upgrade() else { return };
        for issuer in [Issuer::Skype, Issuer::Entra] {
            let request = RotationRequest { issuer, overlap: true, publish_before: rotation.publish_before };
            // The keys that there are go on signing; the next tick tries again.
            let _ = platform.rotate(request).await;
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
    pub(crate) origin: String,
    pub(crate) scheme: &'static str,
    ca: Option<PathBuf>,
    client: Client,
    keys: Mutex<Keys>,
    calls: Calls,
    /// The tokens that Graph takes; `None` when it asks for none.
    issued: Option<Issued>,
    directory: Directory,
    faults: FaultBox,
    post_timeout: Duration,
    /// How often somebody has said that loads have placed enough.
    enough: AtomicU64,
    /// The tokens that calls share.
    tokens: Tokens,
    playing: Mutex<JoinSet<()>>,
}

impl Shared {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn faults(&self) -> &FaultBox {
        &self.faults
    }

    /// How long the answer to a notification is waited for.
    pub(crate) fn post_timeout(&self) -> Duration {
        self.post_timeout
    }

    /// Another number than at its start tells a load to place no more calls.
    pub(crate) fn enough(&self) -> u64 {
        self.enough.load(Ordering::Relaxed)
    }

    /// Lets no load place more calls; those that were placed are played to their end.
    pub(crate) fn end_loads(&self) {
        self.enough.fetch_add(1, Ordering::Relaxed);
    }

    /// The keys as they are now: those sign whose time has come.
    pub(crate) fn keys(&self) -> MutexGuard<'_, Keys> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.advance(Instant::now());
        keys
    }

    /// The time by the platform's clock.
    pub(crate) fn now(&self) -> SystemTime {
        self.faults.clock(clock::now())
    }

    /// The token of a call, with the flaw that a fault gives it.
    pub(crate) fn token_choice(&self, wanted: TokenChoice) -> TokenChoice {
        self.faults.token_choice(wanted)
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn issued(&self) -> Option<&Issued> {
        self.issued.as_ref()
    }

    /// Runs something until it ends or the platform is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut playing = self.lock_playing();
        while playing.try_join_next().is_some() {}
        playing.spawn(work);
    }

    /// The app to use where a request names none.
    pub(crate) fn default_app(&self) -> Option<Uuid> {
        self.directory.apps.first().copied()
    }

    pub(crate) fn mint(&self, request: &TokenRequest) -> Result<Token, MintError> {
        let token = mint(&self.keys(), request, self.now())?;
        if let Some(issued) = self.issued.as_ref().filter(|_| request.choice.flaw.is_signed_by_the_issuer()) {
            issued.remember(&token.compact);
        }
        Ok(token)
    }

    pub(crate) async fn rotate(&self, request: RotationRequest) -> Result<String, RotateError> {
        let RotationRequest { issuer, overlap, publish_before } = request;
        let withdrawn = self.keys().ring_mut(issuer).take_withdrawn();
        let key = blocking(move || match withdrawn {
            Some(withdrawn) => withdrawn.renewed("rotated.example"),
            None => SigningKey::generate("rotated.example"),
        })
        .await?;
        let kid = key.kid().to_owned();
        if publish_before.is_zero() {
            self.keys().ring_mut(issuer).rotate(key, overlap);
        } else {
            self.keys().ring_mut(issuer).announce(key, overlap, Instant::now() + publish_before)?;
        }
        Ok(kid)
    }

    pub(crate) fn place(self: &Arc<Self>, call: CallRequest) -> Result<Timeline, PlaceError> {
        self.place_in(call, None)
    }

    /// Places a call that belongs to the chain of another one.
    pub(crate) fn place_in(
        self: &Arc<Self>,
        call: CallRequest,
        chain: Option<Uuid>,
    ) -> Result<Timeline, PlaceError> {
        let ids = CallIds::new(chain)?;
        let started = Instant::now();
        let (recorder, timeline) = Recorder::new();
        let decisions = self
            .calls
            .insert(
                Facts { id: ids.call, app: call.app, tenant: call.tenant, kind: call.kind },
                started,
                recorder.sender(),
            )
            .ok_or(PlaceError::TooMany)?;
        recorder.record(CallEvent::Call(PlacedCall {
            call: ids.call,
            chain: ids.chain,
            tenant: call.tenant,
            kind: call.kind.label().to_owned(),
        }));
        let shared = Arc::clone(self);
        self.spawn(async move {
            Box::pin(caller::play(&shared, &call, &ids, started, decisions, recorder)).await;
            shared.calls.remove(ids.call);
        });
        Ok(timeline)
    }

    fn lock_playing(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.playing.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// What the real endpoint says: an hour, less a second.
const TOKEN_LIFE: Duration = Duration::from_secs(3_599);

/// Not documented; longer than a gateway's patience as it comes, so that its 503 is seen.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// Making and publishing a key for each issuer takes a few milliseconds.
const ROTATION_TIME_MIN: Duration = Duration::from_millis(100);

/// Fewer than a ring holds.
const ROTATIONS_AHEAD_MAX: u32 = 30;
