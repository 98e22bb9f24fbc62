//! The Graph calls API for a bot: answer, reject and redirect a call, keep it alive, hang up, get its state.
//!
//! It opens no connection: each HTTP request goes through [`Transport`]. It places no calls, reads no
//! notifications and checks no tokens of others. It shows its own credentials in no log, no `Debug` and no
//! error.
//!
//! ```
//! use std::{pin::Pin, sync::Arc, time::{Duration, SystemTime}};
//! use switchboard_graph::{
//!     Action, CallbackUri, Calls, Cloud, Credential, GraphCallId, GraphRequest, GraphResponse,
//!     GraphResponseBody, GraphSettings, Hosts, Transport, TransportError,
//! };
//! use tokio::time::Instant;
//!
//! /// A platform that issues a token to every app and accepts every request.
//! struct AcceptsAll;
//!
//! impl Transport for AcceptsAll {
//!     fn send(
//!         &self,
//!         request: GraphRequest,
//!     ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
//!         let (status, body) = if request.url.path().ends_with("/oauth2/v2.0/token") {
//!             (200, r#"{"token_type":"Bearer","expires_in":3599,"access_token":"made.up"}"#)
//!         } else {
//!             assert!(request.url.path().ends_with("/communications/calls/a31f5a00-44dc/reject"));
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
//! let calls = Calls::new(settings, Arc::new(AcceptsAll));
//!
//! let action = Action::parse(br#"{"action":"reject","reason":"busy"}"#)?;
//! let tenant = "11111111-2222-4333-8444-555555555555".parse()?;
//! let call = GraphCallId::parse("a31f5a00-44dc")?;
//! let callback = CallbackUri::parse("https://emea.bots.contoso.com/api/callbacks/emea/bot-1/k1.0.x")?;
//! let deadline = Instant::now() + Duration::from_secs(5);
//! # #[expect(clippy::disallowed_methods, reason = "the example is the edge")]
//! calls.act(tenant, &call, &action, &callback, deadline, SystemTime::now()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The enums of this crate are exhaustive on purpose: a new variant needs a decision wherever one is matched.
//! Adding a variant is therefore a breaking change.
//!
//! Reading order: [`Calls`]; then `action` (what a bot may send) and `body` (what Graph receives), `refusal`
//! (what Graph may respond), `tokens` and `token` (how a token is obtained), `credential` and `assertion`
//! (how the app proves its identity).

mod action;
mod address;
mod assertion;
mod body;
mod call;
mod call_request;
mod calls;
mod credential;
mod error;
mod identity;
mod invalid_settings;
mod refusal;
mod retry;
mod secret;
mod settings;
mod spelled;
mod text;
mod token;
mod token_error;
mod token_response;
mod tokens;
mod transport;

pub use crate::{
    action::{
        ACTION_CONTENT_TYPE, Action, Answer, CallOptions, GraphModality, InvalidAction, MediaConfig, Prompt,
        Redirect, RedirectTarget, RedirectTargetKind, Reject, RejectReason,
    },
    address::{CallbackUri, GraphCallId, InvalidCallbackUri, InvalidGraphCallId},
    call::{CallResult, GraphCall, GraphCallState},
    calls::Calls,
    credential::{Credential, CredentialError},
    error::GraphError,
    identity::ManagedIdentity,
    invalid_settings::InvalidGraphSettings,
    refusal::{GraphRefusal, GraphRefusalKind},
    settings::{Cloud, GraphSettings, Hosts},
    token_error::{TokenError, TokenRefusal},
    transport::{
        GraphMethod, GraphRequest, GraphResponse, GraphResponseBody, Transport, TransportError,
        TransportErrorKind,
    },
};
