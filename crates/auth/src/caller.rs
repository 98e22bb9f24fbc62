//! `Caller`: the proven sender of a request.

use std::{ops::Deref, sync::Arc};

use uuid::Uuid;

/// The proven and allowed sender of a request. Only [`Authenticator`](crate::Authenticator) creates one.
#[derive(Clone, Debug)]
pub struct Caller(Sender);

impl Caller {
    pub(crate) fn new(sender: Sender) -> Self {
        Self(sender)
    }
}

impl Deref for Caller {
    type Target = Sender;

    fn deref(&self) -> &Sender {
        &self.0
    }
}

/// The proven identity of a sender. It may not be allowed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sender {
    /// The app that the token is for.
    pub app: Uuid,
    /// The token's tenant.
    pub tenant: Uuid,
    /// The app id of the calling service, if the token names it.
    pub service: Option<Uuid>,
    /// The name of the trust that issued the token.
    pub trust: Arc<str>,
    /// The id of the key that verified the token: 1 to 128 visible ASCII characters.
    pub key_id: Arc<str>,
    /// The generation of the key set that verified the token.
    pub generation: u64,
}
