//! `Calls`: the actions of a bot on its calls, through Graph.

mod operations;

use std::{fmt, sync::Arc, time::SystemTime};

use tokio::time::{Duration, Instant, sleep_until, timeout_at};
use url::Url;
use uuid::Uuid;

use crate::{
    Action, Answer, CallbackUri, GraphCall, GraphCallId, GraphError, GraphMethod, GraphRefusal,
    GraphRefusalKind, GraphResponse, GraphSettings, InCallAction, Redirect, Reject, TokenError, Transport,
    TransportError, TransportErrorKind, address::call_url, body, call_request::CallRequest,
    refusal::BODY_BYTES_MAX, token::TokenEndpoint, token_response::Token, tokens::Tokens,
};

/// The calls API for one app. Share one value: its tokens serve all calls of a tenant. It needs a tokio
/// runtime and may be used from several.
///
/// Every method ends by `deadline`. Until then, it waits and repeats a request if Graph has certainly done
/// nothing: no byte was written, 429, 503 with `Retry-After`, and once 401, with a new token. If the outcome
/// is unknown, only [`Calls::keep_alive`] and [`Calls::get`] are repeated: a second answer may undo the
/// first. `now` is the current time.
///
/// The [documentation of the crate](crate) has an example.
pub struct Calls {
    endpoint: Url,
    transport: Arc<dyn Transport>,
    tokens: Tokens,
}

impl Calls {
    /// Creates the calls API for `settings`, over `transport`.
    pub fn new(settings: GraphSettings, transport: Arc<dyn Transport>) -> Self {
        let endpoint = settings.endpoint.clone();
        let tokens = Tokens::new(TokenEndpoint::new(settings, Arc::clone(&transport)));
        Self { endpoint, transport, tokens }
    }

    /// Carries out the action of a bot's reply. The platform posts the notifications of the call to
    /// `callback`.
    ///
    /// # Errors
    ///
    /// There is no token, Graph refuses, or no response arrives by `deadline`.
    pub async fn act(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        action: &Action,
        callback: &CallbackUri,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        match action {
            Action::Answer(answer) => self.answer(tenant, call, answer, callback, deadline, now).await,
            Action::Reject(reject) => self.reject(tenant, call, *reject, Some(callback), deadline, now).await,
            Action::Redirect(redirect) => {
                self.redirect(tenant, call, redirect, callback, deadline, now).await
            }
        }
    }

    /// Carries out an action in an established call. It does not wait for the end of an operation that the
    /// action starts: Graph notifies the bot of it.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn act_in_call(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        action: &InCallAction,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let path = action.kind().path();
        let method = if path.is_some() { GraphMethod::Post } else { GraphMethod::Delete };
        let request = self.request(method, call, path, action.body());
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Answers the call.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn answer(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        answer: &Answer,
        callback: &CallbackUri,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let request = self.request(GraphMethod::Post, call, Some("answer"), body::answer(answer, callback));
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Rejects the call. Without a `callback`, the platform posts the end of the call to the bot's webhook.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn reject(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        reject: Reject,
        callback: Option<&CallbackUri>,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let request = self.request(GraphMethod::Post, call, Some("reject"), body::reject(reject, callback));
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Redirects the caller to other targets.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn redirect(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        redirect: &Redirect,
        callback: &CallbackUri,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let request =
            self.request(GraphMethod::Post, call, Some("redirect"), body::redirect(redirect, callback));
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Keeps the call alive. The platform ends a call that has had no keep-alive for 45 minutes.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn keep_alive(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let request = self.request(GraphMethod::Post, call, Some("keepAlive"), Vec::new()).repeatable();
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Ends the bot's part in the call.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn hang_up(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let request = self.request(GraphMethod::Delete, call, None, Vec::new());
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Returns the state of the call.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`], and if the response does not contain a call.
    pub async fn get(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<GraphCall, GraphError> {
        let request = self.request(GraphMethod::Get, call, None, Vec::new()).repeatable();
        let response = self.send(tenant, &request, deadline, now).await?;
        let call = response.whole_body(BODY_BYTES_MAX).and_then(GraphCall::parse);
        call.ok_or_else(|| GraphError::Refused(GraphRefusal::unexpected(&response)))
    }

    /// Obtains a token for `tenant`, as the first action on a call of the tenant would, and keeps it.
    ///
    /// # Errors
    ///
    /// There is no token. It takes at most 10 s to find out.
    pub async fn authorize(&self, tenant: Uuid, now: SystemTime) -> Result<(), TokenError> {
        self.tokens.token(tenant, now).await.map(|_| ())
    }

    fn request(
        &self,
        method: GraphMethod,
        call: &GraphCallId,
        action: Option<&str>,
        body: Vec<u8>,
    ) -> CallRequest {
        CallRequest::new(method, call_url(&self.endpoint, call, action), body)
    }

    /// Sends `request` until it succeeds or must not be repeated.
    async fn send(
        &self,
        tenant: Uuid,
        request: &CallRequest,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<GraphResponse, GraphError> {
        let started = Instant::now();
        let mut attempts = 0;
        let mut has_new_token = false;
        loop {
            attempts += 1;
            let at = now + started.elapsed();
            let token = timeout_at(deadline, self.tokens.token(tenant, at)).await;
            let token = token.map_err(|_| GraphError::DeadlinePassed)??;
            // The timer may be late: do not send a request whose response is no longer needed.
            if Instant::now() >= deadline {
                return Err(GraphError::DeadlinePassed);
            }
            let (error, wait) = match self.attempt(request, &token, deadline).await {
                Ok(response) if is_success(&response) => return Ok(response),
                Ok(response) => {
                    let refusal = GraphRefusal::read(&response, &token.secret, now + started.elapsed());
                    if refusal.kind == GraphRefusalKind::Unauthorized {
                        self.tokens.forget(tenant, &token);
                        if !has_new_token {
                            has_new_token = true;
                            continue;
                        }
                    }
                    let wait = request.wait_after_refusal(refusal.kind, attempts);
                    (GraphError::Refused(refusal), wait)
                }
                Err(error) => {
                    let wait = request.wait_after_transport_error(error.kind, attempts);
                    (GraphError::Transport(error), wait)
                }
            };
            let Some(wait) = wait else { return Err(error) };
            let next = Instant::now() + wait;
            if attempts >= ATTEMPTS_MAX || next + ATTEMPT_TIME_MIN > deadline {
                return Err(error);
            }
            let reason = error.label();
            tracing::debug!(tenant.id = %tenant, reason, attempts, "repeating a request to Graph");
            sleep_until(next).await;
        }
    }

    async fn attempt(
        &self,
        request: &CallRequest,
        token: &Token,
        deadline: Instant,
    ) -> Result<GraphResponse, TransportError> {
        let sent = self.transport.send(request.to_graph(token, deadline));
        timeout_at(deadline, sent).await.unwrap_or_else(|_| {
            Err(TransportError {
                kind: TransportErrorKind::TimedOut,
                detail: "the deadline of the call passed".to_owned(),
            })
        })
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// Returns true for a success of Graph. An HTML page with a status of success comes from a proxy that wants a
/// user to sign in: Graph did not receive the request.
fn is_success(response: &GraphResponse) -> bool {
    let kind = response.header("content-type").and_then(|kind| kind.get(..HTML.len()));
    (200..300).contains(&response.status) && !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(HTML))
}

const HTML: &str = "text/html";

/// If Graph is down for longer than the back-off of five attempts, it is down for this call.
const ATTEMPTS_MAX: u32 = 5;

/// An attempt with less time would most likely end with an unknown outcome.
const ATTEMPT_TIME_MIN: Duration = Duration::from_millis(250);
