//! A bot that behaves as one on Microsoft's calling SDK for .NET: its requests byte for byte, and its
//! responses to notifications.

mod call;
mod calls;
mod client;
mod conduct;
mod notification;
mod request;
mod requests;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod webhook;

pub use self::requests::{InvalidSdkRequest, parse_sdk_request};
pub(super) use self::{conduct::ask, state::SdkState, webhook::receive};
