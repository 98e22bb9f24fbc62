//! The settings of a platform.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use uuid::Uuid;

use crate::{
    call::CreatedCalls,
    entra::{Credential, Permission},
    faults::Faults,
    keys::Keys,
    operation::OperationResponses,
    rotation::Rotation,
};

/// The settings of a platform.
#[derive(Clone, Debug)]
pub struct PlatformSettings {
    /// The address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The known apps. The first one is the default of a request that names none.
    pub apps: Vec<Uuid>,
    /// The keys of the issuers; new ones if `None`.
    pub keys: Option<Keys>,
    /// A file of certificate authorities (PEM) to trust besides the system's, for bots that serve https.
    pub ca: Option<PathBuf>,
    /// A folder for a certificate authority and a certificate, created if absent. Plain http if `None`.
    pub tls: Option<PathBuf>,
    /// The credentials that the token endpoint accepts. Without any, it accepts every secret of every known
    /// app.
    pub credentials: Vec<(Uuid, Credential)>,
    /// The known tenants; any tenant if empty.
    pub tenants: Vec<Uuid>,
    /// The permissions in tokens for Graph.
    pub permissions: Vec<Permission>,
    /// The lifetime of the tokens that the token endpoint issues.
    pub token_life: Duration,
    /// True if Graph asks for a token; if `None`, it does if there are credentials.
    pub graph_auth: Option<bool>,
    /// The time limit of one attempt to post a notification.
    pub post_timeout: Duration,
    /// The time when bots learn the results of their operations.
    pub operations: OperationResponses,
    /// The other side of the calls that bots create.
    pub created_calls: CreatedCalls,
    /// Rotates the keys of both issuers by itself.
    pub rotation: Option<Rotation>,
    /// The faults from the start on.
    pub faults: Faults,
}

impl PlatformSettings {
    /// Returns the settings for a free port on loopback: plain http, any app and tenant, new keys, every
    /// permission, no fault.
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
            operations: OperationResponses::default(),
            created_calls: CreatedCalls::default(),
            rotation: None,
            faults: Faults::default(),
        }
    }
}

/// The lifetime that the real endpoint gives: an hour, less a second.
const TOKEN_LIFE: Duration = Duration::from_secs(3_599);

/// The real limit is not documented. This one is longer than a gateway's default patience, so that its 503 is
/// seen.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
