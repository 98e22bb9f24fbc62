//! The tokens of both issuers: choosing one, making one, and sharing one among calls.

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
