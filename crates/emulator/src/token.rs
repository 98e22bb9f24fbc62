//! The tokens of both issuers: the choice of a token, the making of it, and those that calls share.

mod cache;
mod choice;
mod mint;

pub(crate) use self::{
    cache::TokenCache,
    mint::{mint, sign},
};
pub use self::{
    choice::{Flaw, InvalidTokenChoice, TokenChoice, TokenKind},
    mint::{InvalidOverrides, MintError, Overrides, Token, TokenRequest},
};
