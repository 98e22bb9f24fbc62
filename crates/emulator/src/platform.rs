//! The platform: one origin with the paths of the real hosts, and a control API of its own.

mod settings;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use openssl::error::ErrorStack;
use tokio::{net::TcpListener, task::JoinHandle};

pub use self::settings::PlatformSettings;
use crate::{
    call::{CallRequest, PlaceError},
    caller,
    client::Client,
    context::Context,
    entra::{Directory, identity_variables},
    faults::Faults,
    graph::Issued,
    keys::{Issuer, Keys},
    load::{self, LoadEvents, LoadRequest},
    rotation::{ROTATIONS_AHEAD_MAX, RotateError, RotationRequest, rotate, rotate_repeatedly, run_blocking},
    routes::{NamedUrl, Routes},
    server::Server,
    timeline::Timeline,
    tls::{self, TlsError},
    token::{MintError, Token, TokenRequest},
};

/// A running platform. It stops when it is dropped.
///
/// The [documentation of the crate](crate) has an example.
#[derive(Debug)]
pub struct Platform {
    context: Arc<Context>,
    routes: Arc<Routes>,
    ca: Option<PathBuf>,
    server: Server,
    rotating: Option<JoinHandle<()>>,
}

impl Platform {
    /// Makes the keys, binds the address, and serves on the current runtime.
    ///
    /// # Errors
    /// The address cannot be bound, a setting cannot be used, or OpenSSL refuses.
    pub async fn start(settings: PlatformSettings) -> Result<Self, PlatformStartError> {
        let PlatformSettings { listen, apps, keys, ca, tls, credentials, tenants, permissions, .. } =
            settings;
        let PlatformSettings { token_life, graph_auth, post_timeout, operations, created_calls, .. } =
            settings;
        let PlatformSettings { rotation, faults, .. } = settings;
        if rotation.is_some_and(|rotation| !rotation.fits()) {
            return Err(PlatformStartError::Rotation);
        }
        let not_bound = |cause| PlatformStartError::Bind { address: listen, cause };
        let listener = TcpListener::bind(listen).await.map_err(not_bound)?;
        let address = listener.local_addr().map_err(not_bound)?;
        let acceptor = tls.as_deref().map(tls::acceptor).transpose()?;
        let keys = match keys {
            Some(keys) => keys,
            None => run_blocking(Keys::generate).await.map_err(PlatformStartError::Crypto)?,
        };
        let client = Client::new(ca.as_deref()).map_err(PlatformStartError::Crypto)?;
        let issued = graph_auth.unwrap_or(!credentials.is_empty()).then(Issued::default);
        let context =
            Arc::new(Context::new(client, keys, faults, issued, post_timeout, operations, created_calls));
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let directory = Directory { apps, credentials, tenants, permissions, token_life };
        let routes = Arc::new(Routes::new(Arc::clone(&context), scheme, address, directory));
        let server = Server::start_with(listener, Arc::clone(&routes), acceptor).map_err(not_bound)?;
        let ca = tls.map(|folder| {
            let ca = folder.join("ca.pem");
            // A client of the platform may run in another folder.
            std::path::absolute(&ca).unwrap_or(ca)
        });
        let rotating =
            rotation.map(|rotation| tokio::spawn(rotate_repeatedly(Arc::downgrade(&context), rotation)));
        Ok(Self { context, routes, ca, server, rotating })
    }

    /// Returns the bound address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the scheme, host and port, like `http://127.0.0.1:4000`.
    pub fn origin(&self) -> &str {
        self.routes.origin()
    }

    /// Returns the file of the certificate authority that clients must trust, if the platform serves https.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Returns the URLs of the platform.
    pub fn urls(&self) -> Vec<NamedUrl> {
        NamedUrl::all(self.origin())
    }

    /// Returns the environment variables, as name and value, that lead Microsoft's client libraries to the
    /// managed identity endpoint: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` in the form of App Service, or
    /// `AZURE_POD_IDENTITY_AUTHORITY_HOST` in that of a virtual machine.
    pub fn identity_variables(&self) -> Vec<(&'static str, String)> {
        identity_variables(self.origin()).into()
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The request contradicts itself, or OpenSSL refuses.
    pub fn token(&self, request: &TokenRequest) -> Result<Token, MintError> {
        self.context.mint(request)
    }

    /// Makes a new key of an issuer, which signs from now on, and returns its id.
    ///
    /// Without an overlap the earlier keys are withdrawn at once.
    ///
    /// # Errors
    /// OpenSSL refuses.
    pub async fn rotate(&self, issuer: Issuer, overlap: bool) -> Result<String, ErrorStack> {
        let request = RotationRequest { issuer, overlap, publish_before: Duration::ZERO };
        match rotate(&self.context, request).await {
            Ok(kid) => Ok(kid),
            Err(RotateError::Crypto(error)) => Err(error),
            // Only an announced key can be one too many.
            Err(RotateError::TooManyUpcoming(_)) => Err(ErrorStack::get()),
        }
    }

    /// Publishes a new key of an issuer, which signs after `publish_before`, and returns its id.
    ///
    /// # Errors
    /// OpenSSL refuses, or too many published keys do not sign yet.
    pub async fn rotate_ahead(
        &self,
        issuer: Issuer,
        overlap: bool,
        publish_before: Duration,
    ) -> Result<String, RotateError> {
        rotate(&self.context, RotationRequest { issuer, overlap, publish_before }).await
    }

    /// Returns the current faults.
    pub fn faults(&self) -> Faults {
        self.context.faults.lock().clone()
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: Faults) {
        *self.context.faults.lock() = faults;
    }

    /// Places a call and plays it to its end, even if its timeline is not read.
    ///
    /// # Errors
    /// Too many calls are alive, or OpenSSL has no randomness.
    pub fn call(&self, request: CallRequest) -> Result<Timeline, PlaceError> {
        caller::place(&self.context, request)
    }

    /// Places many calls and plays them. It stops placing when the events are dropped.
    pub fn load(&self, request: LoadRequest) -> LoadEvents {
        load::start(&self.context, request)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.context.abort_tasks();
        if let Some(rotating) = &self.rotating {
            rotating.abort();
        }
    }
}

/// The reason why a platform did not start.
#[derive(Debug, thiserror::Error)]
pub enum PlatformStartError {
    /// The address is in use or not an address of this machine.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// The requested address.
        address: SocketAddr,
        /// The error of the system.
        cause: io::Error,
    },
    /// The certificate cannot be read or made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Keys would be published faster than they start to sign.
    #[error(
        "the key rotation is too fast: keys rotate every 100ms at most, \
         and a key is published at most {ROTATIONS_AHEAD_MAX} rotations before it signs"
    )]
    Rotation,
    /// OpenSSL made no keys, or the file of certificate authorities is invalid.
    #[error("openssl failed: {0}")]
    Crypto(ErrorStack),
}

impl PlatformStartError {
    /// Returns a stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Tls(error) => error.label(),
            Self::Rotation => "rotation",
            Self::Crypto(_) => "crypto",
        }
    }
}
