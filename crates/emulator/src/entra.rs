//! The token endpoint of the Entra-like issuer: client credentials, and the refusals of the real endpoint.

mod assertion;
mod credential;
mod directory;
mod form;
mod permission;
mod refusal;
mod scope;

pub use self::{credential::Credential, permission::Permission};
pub(crate) use self::{
    directory::Directory,
    refusal::{CODES, coded, no_such_tenant},
    scope::GRAPH_RESOURCES,
};
