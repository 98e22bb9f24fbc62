//! The Graph calls API for a bot: answer, reject, redirect and create calls, play, record, transfer and
//! invite in them, keep them alive, hang up, get their state.
//!
//! It opens no connection: each HTTP request goes through [`Transport`]. It reads no notifications and checks
//! no tokens of others. It shows its own credentials in no log, no `Debug` and no
//! error.
//!
//! ```
//! use std::{pin::Pin, sync::Arc, time::{Duration, SystemTime}};
//! use switchboard_graph::{
//!     Action, CallDestination, CallbackUri, Calls, ClientContext, Cloud, Credential, GraphCallId,
//!     GraphModality, GraphRequest, GraphResponse, GraphResponseBody, GraphSettings, Hosts, MediaConfig,
//!     NewCall, Operation, OperationStatus, PlayPrompt, Prompt, RedirectTarget, RedirectTargetKind,
//!     Transport, TransportError,
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
//!         let (status, body) = match request.url.path().rsplit('/').next() {
//!             Some("token") => (200, r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a"}"#),
//!             Some("calls") => (201, r#"{"id":"57dab8b1-894c","state":"establishing"}"#),
//!             Some("playPrompt") => (200, r#"{"id":"0fe0623f","status":"running"}"#),
//!             _ => (202, ""),
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
//! // Reject an incoming call.
//! let action = Action::parse(br#"{"action":"reject","reason":"busy"}"#)?;
//! let tenant = "11111111-2222-4333-8444-555555555555".parse()?;
//! let call = GraphCallId::parse("a31f5a00-44dc")?;
//! let callback = CallbackUri::parse("https://emea.bots.contoso.com/api/callbacks/emea/bot-1/k1.0.x")?;
//! let deadline = Instant::now() + Duration::from_secs(5);
//! # #[expect(clippy::disallowed_methods, reason = "the example is the edge")]
//! let now = SystemTime::now();
//! calls.act(tenant, &call, &action, &callback, deadline, now).await?;
//!
//! // Call a person, and play a prompt. Graph notifies the bot of the end of the operation.
//! let person = RedirectTarget::new(RedirectTargetKind::User, "112f7296-5fa4-42ca-bae8-6a692b15d4b8")?;
//! let media = MediaConfig::ServiceHosted { prefetch: Vec::new() };
//! let new = NewCall::new(CallDestination::People(vec![person]), vec![GraphModality::Audio], media)?;
//! let created = calls.create(tenant, &new, &callback, deadline, now).await?;
//! let prompt = Prompt { uri: "https://cdn.contoso.com/hi.wav".into(), resource_id: "hi-1".into() };
//! let play = PlayPrompt::new(ClientContext::parse("greeting")?, vec![prompt])?;
//! let play = Operation::PlayPrompt(play);
//! let operation = calls.operate(tenant, &created.id, &play, deadline, now).await?;
//! assert_eq!(operation.status, OperationStatus::Running);
//! # Ok(())
//! # }
//! ```
//!
//! The enums of this crate are exhaustive on purpose: a new variant needs a decision wherever one is matched.
//! Adding a variant is therefore a breaking change.
//!
//! Reading order: [`Calls`]; then `action` (what a bot may send) and `body` (what Graph receives),
//! `operation`, `invitee` and `new_call` (requests from code), `refusal` (what Graph may respond), `tokens`
//! and `token` (how a token is obtained), `credential`, `assertion` and `identity` (how the app proves its
//! identity).

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
mod invitee;
mod new_call;
mod operation;
mod operation_result;
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
        ACTION_CONTENT_TYPE, Action, Answer, CallOptions, GraphModality, InCallAction, InCallActionKind,
        InvalidAction, MediaConfig, Prompt, Redirect, RedirectTarget, RedirectTargetKind, Reject,
        RejectReason,
    },
    address::{CallbackUri, GraphCallId, InvalidCallbackUri, InvalidGraphCallId, ParticipantId},
    call::{CallResult, GraphCall, GraphCallState},
    calls::Calls,
    credential::{Credential, CredentialError},
    error::GraphError,
    identity::ManagedIdentity,
    invalid_settings::InvalidGraphSettings,
    invitee::{Invitee, Transfer},
    new_call::{CallDestination, CreatedCall, NewCall},
    operation::{ClientContext, Operation, PlayPrompt, RecordResponse, RecordingStatus, SendDtmfTones, Tone},
    operation_result::{GraphOperation, OperationStatus},
    refusal::{GraphRefusal, GraphRefusalKind},
    settings::{Cloud, GraphSettings, Hosts},
    token_error::{TokenError, TokenRefusal},
    transport::{
        GraphMethod, GraphRequest, GraphResponse, GraphResponseBody, Transport, TransportError,
        TransportErrorKind,
    },
};
