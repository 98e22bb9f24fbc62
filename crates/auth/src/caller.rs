//! `Caller`: the proven sender of a request.

use std::sync::Arc;

use uuid::Uuid;

/// The proven sender of a request. Only [`Authenticator`](crate::Authenticator) creates one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// The app that the token is for.
    pub app: Uuid,
    /// The token's tenant.
    pub tenant: Uuid,
    /// The app id of the calling service, if the token names it.
    pub service: Option<Uuid>,
    /// The name of the trust that issued the token.
    pub trust: Arc<str>,
    /// The generation of the key set that verified the token.
    pub generation: u64,
}
