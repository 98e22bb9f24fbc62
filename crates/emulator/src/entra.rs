//! The two sources of tokens of the Entra-like issuer: the token endpoint, for client credentials, and the
//! managed identity endpoint. Both refuse as the real ones do.

mod assertion;
mod credential;
mod directory;
mod form;
mod managed_identity;
mod permission;
mod refusal;
mod scope;

pub use self::{credential::Credential, permission::Permission};
pub(crate) use self::{
    directory::Directory,
    managed_identity::{IdentityForm, identity_fault, identity_variables},
    refusal::{CODES, coded, no_such_tenant},
    scope::GRAPH_RESOURCES,
};
