//! `Calls`: what a bot does with a call, through Graph.

use std::{fmt, sync::Arc, time::SystemTime};

use tokio::time::{Duration, Instant, sleep_until, timeout_at};
use url::Url;
use uuid::Uuid;

use crate::{
    Action, Answer, CallbackUri, GraphCall, GraphCallId, GraphError, GraphMethod, GraphRefusal,
    GraphRefusalKind, GraphRequest, GraphResponse, GraphSettings, Redirect, Reject, Transport,
    TransportError, TransportErrorKind,
    address::call_url,
    assertion::random_id,
    body,
    refusal::BODY_BYTES_MAX,
    retry::back_off,
    token::{Token, TokenEndpoint, USER_AGENT},
    tokens::Tokens,
};

/// The calls API for one app. Share it: its tokens serve all calls of a tenant. It is used within a tokio runtime, or
/// within several.
///
/// Every method ends by `deadline`. Within it, it waits and asks again where Graph has surely done nothing: no byte was
/// written, 429, 503 with `Retry-After`, and 401 once, with a fresh token. [`Calls::keep_alive`] and [`Calls::get`] are
/// repeated also where the outcome is unknown; the others never, since a second answer may undo the first. `now` is the
/// time of the call of the method.
pub struct Calls {
    endpoint: Url,
    transport: Arc<dyn Transport>,
    tokens: Tokens,
}

impl Calls {
    /// The calls API as `settings` say, over `transport`.
    pub fn new(settings: GraphSettings, transport: Arc<dyn Transport>) -> Self {
        let endpoint = settings.endpoint.clone();
        let tokens = Tokens::new(TokenEndpoint::new(settings, Arc::clone(&transport)));
        Self { endpoint, transport, tokens }
    }

    /// Does what a bot's reply says. What becomes of the call is posted to `callback`.
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

    /// Takes the call.
    pub async fn answer(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        answer: &Answer,
        callback: &CallbackUri,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let order = self.order(GraphMethod::Post, call, Some("answer"), body::answer(answer, callback));
        self.send(tenant, &order, deadline, now).await.map(|_| ())
    }

    /// Turns the call down. Without a `callback` the platform posts the end of the call to the bot's webhook.
    pub async fn reject(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        reject: Reject,
        callback: Option<&CallbackUri>,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let order = self.order(GraphMethod::Post, call, Some("reject"), body::reject(reject, callback));
        self.send(tenant, &order, deadline, now).await.map(|_| ())
    }

    /// Sends the caller to somebody else.
    pub async fn redirect(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        redirect: &Redirect,
        callback: &CallbackUri,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let order = self.order(GraphMethod::Post, call, Some("redirect"), body::redirect(redirect, callback));
        self.send(tenant, &order, deadline, now).await.map(|_| ())
    }

    /// Says that the call is still wanted; the platform ends one of which nobody says so for 45 minutes.
    pub async fn keep_alive(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let order =
            Order { repeatable: true, ..self.order(GraphMethod::Post, call, Some("keepAlive"), Vec::new()) };
        self.send(tenant, &order, deadline, now).await.map(|_| ())
    }

    /// Ends the bot's part in the call.
    pub async fn hang_up(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let order = self.order(GraphMethod::Delete, call, None, Vec::new());
        self.send(tenant, &order, deadline, now).await.map(|_| ())
    }

    /// How the call is.
    pub async fn get(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<GraphCall, GraphError> {
        let order = Order { repeatable: true, ..self.order(GraphMethod::Get, call, None, Vec::new()) };
        let response = self.send(tenant, &order, deadline, now).await?;
        let call = response.whole_body(BODY_BYTES_MAX).and_then(GraphCall::parse);
        call.ok_or_else(|| GraphError::Refused(GraphRefusal::unexpected(&response)))
    }

    fn order(&self, method: GraphMethod, call: &GraphCallId, action: Option<&str>, body: Vec<u8>) -> Order {
        let request_id = random_id().map(|id| id.to_string());
        Order { method, url: call_url(&self.endpoint, call, action), body, request_id, repeatable: false }
    }

    /// Sends `order` until there is an answer, or no point in asking again.
    async fn send(
        &self,
        tenant: Uuid,
        order: &Order,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<GraphResponse, GraphError> {
        let began = Instant::now();
        let mut attempts = 0;
        let mut has_renewed = false;
        loop {
            attempts += 1;
            let at = now + began.elapsed();
            let token = timeout_at(deadline, self.tokens.token(tenant, at)).await;
            let token = token.map_err(|_| GraphError::DeadlinePassed)??;
            // A timer that is late must not send what nobody waits for.
            if Instant::now() >= deadline {
                return Err(GraphError::DeadlinePassed);
            }
            let (error, wait) = match self.attempt(order, &token, deadline).await {
                Ok(response) if is_success(&response) => return Ok(response),
                Ok(response) => {
                    let refusal = GraphRefusal::read(&response, &token.secret, now + began.elapsed());
                    if refusal.kind == GraphRefusalKind::Unauthorized {
                        self.tokens.forget(tenant, &token);
                        if !has_renewed {
                            has_renewed = true;
                            continue;
                        }
                    }
                    let wait = order.wait_after_refusal(refusal.kind, attempts);
                    (GraphError::Refused(refusal), wait)
                }
                Err(error) => {
                    let wait = order.wait_after_failure(error.failure, attempts);
                    (GraphError::Transport(error), wait)
                }
            };
            let Some(wait) = wait else { return Err(error) };
            let next = Instant::now() + wait;
            if attempts >= ATTEMPTS_MAX || next + ATTEMPT_TIME_MIN > deadline {
                return Err(error);
            }
            tracing::debug!(tenant.id = %tenant, reason = error.label(), attempts, "asking Graph again");
            sleep_until(next).await;
        }
    }

    async fn attempt(
        &self,
        order: &Order,
        token: &Token,
        deadline: Instant,
    ) -> Result<GraphResponse, TransportError> {
        let sent = self.transport.send(order.request(token, deadline));
        timeout_at(deadline, sent).await.unwrap_or_else(|_| {
            Err(TransportError {
                failure: TransportErrorKind::TimedOut,
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

/// A page with a status of success is a proxy's that wants somebody to sign in: Graph was not asked.
fn is_success(response: &GraphResponse) -> bool {
    let kind = response.header("content-type").and_then(|kind| kind.get(..PAGE.len()));
    (200..300).contains(&response.status) && !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(PAGE))
}

/// What is asked of Graph, however often.
struct Order {
    method: GraphMethod,
    url: Url,
    body: Vec<u8>,
    /// One for all attempts, so that Microsoft's support finds them together.
    request_id: Option<String>,
    /// Whether doing it twice is doing it once.
    repeatable: bool,
}

impl Order {
    fn request(&self, token: &Token, deadline: Instant) -> GraphRequest {
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("authorization", format!("Bearer {}", token.secret.expose())),
            ("user-agent", USER_AGENT.to_owned()),
        ];
        if let Some(id) = &self.request_id {
            headers.push(("client-request-id", id.clone()));
        }
        if !self.body.is_empty() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        GraphRequest {
            method: self.method,
            url: self.url.clone(),
            headers,
            body: self.body.clone(),
            deadline,
            body_bytes_max: BODY_BYTES_MAX,
        }
    }

    /// How long to wait before asking again; `None` if that is not safe or cannot help.
    fn wait_after_refusal(&self, kind: GraphRefusalKind, attempts: u32) -> Option<Duration> {
        match kind {
            GraphRefusalKind::Throttled { retry_after } => {
                Some(retry_after.unwrap_or_else(|| back_off(attempts)))
            }
            GraphRefusalKind::Unavailable { retry_after: Some(wait) } => Some(wait),
            GraphRefusalKind::Unavailable { retry_after: None } | GraphRefusalKind::Server => {
                self.repeatable.then(|| back_off(attempts))
            }
            GraphRefusalKind::CallNotFound
            | GraphRefusalKind::TenantMismatch
            | GraphRefusalKind::MissingPermission
            | GraphRefusalKind::NotRegistered
            | GraphRefusalKind::Conflict
            | GraphRefusalKind::MonthlyLimit
            | GraphRefusalKind::BadRequest
            | GraphRefusalKind::Unauthorized
            | GraphRefusalKind::Unexpected => None,
        }
    }

    fn wait_after_failure(&self, failure: TransportErrorKind, attempts: u32) -> Option<Duration> {
        match failure {
            TransportErrorKind::Unreachable => Some(back_off(attempts)),
            // It would fail the same way again.
            TransportErrorKind::Tls => None,
            TransportErrorKind::Lost | TransportErrorKind::TimedOut => {
                self.repeatable.then(|| back_off(attempts))
            }
        }
    }
}

const PAGE: &str = "text/html";

/// A service that is down for longer than their back-off is down for this call.
const ATTEMPTS_MAX: u32 = 5;

/// An attempt that has less time than this would only leave its outcome unknown.
const ATTEMPT_TIME_MIN: Duration = Duration::from_millis(250);
