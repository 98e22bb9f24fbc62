//! The Graph calls API for a bot: answer, reject and redirect a call, keep it alive, hang up, get it.
//!
//! It opens no connection: one HTTP request at a time goes through [`Transport`]. It places no calls, reads no
//! notifications, checks no token that others send, and shows its own credentials to nobody, not in a log, a `Debug` or
//! an error.
//!
//! ```
//! use std::{pin::Pin, sync::Arc, time::{Duration, SystemTime}};
//! use switchboard_graph::{
//!     Action, GraphResponseBody, GraphCallId, CallbackUri, Calls, Cloud, Credential, Hosts, GraphRequest, GraphResponse, GraphSettings, Transport,
//!     TransportError,
//! };
//! use tokio::time::Instant;
//!
//! /// A platform that gives everyone a token and agrees to everything.
//! struct Agreeable;
//!
//! impl Transport for Agreeable {
//!     fn send(
//!         &self,
//!         request: GraphRequest,
//!     ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
//!         let (status, body) = if request.url.path().ends_with("/oauth2/v2.0/token") {
//!             (200, r#"{"token_type":"Bearer","expires_in":3599,"access_token":"made.up"}"#)
//!         } else {
//!             assert_eq!(
//!                 request.url.as_str(),
//!                 "https://graph.microsoft.com/v1.0/communications/calls/a31f5a00-44dc-4b21-9c3e-0d07d53b1001/reject",
//!             );
//!             (202, "")
//!         };
//!         let body = GraphResponseBody::Whole(body.as_bytes().to_vec());
//!         Box::pin(async move { Ok(GraphResponse { status, headers: Vec::new(), body }) })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = "0efc74f7-41c3-47a4-8775-7259bfef4241".parse()?;
//! let credential = Credential::secret("not-secret")?;
//! let settings = GraphSettings::new(app, Cloud::Public, Hosts::default(), credential)?;
//! let calls = Calls::new(settings, Arc::new(Agreeable));
//!
//! let action = Action::parse(br#"{"action":"reject","reason":"busy"}"#)?;
//! let tenant = "11111111-2222-4333-8444-555555555555".parse()?;
//! let call = GraphCallId::parse("a31f5a00-44dc-4b21-9c3e-0d07d53b1001")?;
//! let callback = CallbackUri::parse("https://emea.bots.contoso.com/api/callbacks/emea/bot-1/k1.0.x")?;
//! let deadline = Instant::now() + Duration::from_secs(5);
//! # #[expect(clippy::disallowed_methods, reason = "the example is the edge")]
//! calls.act(tenant, &call, &action, &callback, deadline, SystemTime::now()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`Calls`] is the whole story; then `action` (what a bot may say) and `body` (what Graph gets),
//! `refusal` (what Graph may say), `tokens` and `token` (how a token is had), `credential` and `assertion` (who asks).

mod action;
mod address;
mod assertion;
mod body;
mod call;
mod calls;
mod credential;
mod error;
mod refusal;
mod retry;
mod settings;
mod text;
mod token;
mod tokens;
mod transport;

pub use crate::{
    action::{
        ACTION_CONTENT_TYPE, Action, ActionError, Answer, CallOptions, GraphModality, MediaConfig, Prompt,
        Redirect, RedirectTarget, RedirectTargetKind, Reject, RejectReason,
    },
    address::{CallbackUri, GraphCallId, InvalidCallbackUri, InvalidGraphCallId},
    call::{CallResult, GraphCall, GraphCallState},
    calls::Calls,
    credential::{Credential, InvalidCredential},
    error::GraphError,
    refusal::{GraphRefusal, GraphRefusalKind},
    settings::{Cloud, GraphSettings, Hosts, InvalidGraphSettings},
    token::{TokenError, TokenRefusal},
    transport::{
        GraphMethod, GraphRequest, GraphResponse, GraphResponseBody, Transport, TransportError,
        TransportErrorKind,
    },
};

#[cfg(test)]
mod tests;
