//! Posting a notification: attempts under one message id, redirects, and the requested faults.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use url::Url;

use super::message::{Delivered, Message, Stage};
use crate::{
    call::{CallRequest, PlaceError, parse_http_url},
    call_record::CallRecord,
    client::{ClientResponse, KeepAlive, SendError},
    context::Context,
    encoding::random_id,
    exchange::{RecordedRequest, RecordedResponse},
    faults::DeliveryFaults,
    notification::CallIds,
    recorder::Recorder,
    server::printable,
    timeline::{CallEvent, CallStep, SentRequest, Timeline, milliseconds},
    token::{Flaw, MintError, Token, TokenChoice, TokenRequest, mint},
};

/// One call that the platform plays.
pub(super) struct Player<'a> {
    pub(super) context: &'a Context,
    pub(super) call: &'a CallRequest,
    pub(super) ids: &'a CallIds,
    pub(super) started: Instant,
    recorder: &'a Recorder,
    invite: &'a Invite<'a>,
    /// The scenario that the bot named when it answered.
    scenario: OnceLock<HeaderValue>,
    /// The flawed token of the call. Good tokens are shared by all calls.
    flawed: Mutex<Option<(TokenChoice, Arc<Token>)>>,
    /// A notification that a fault holds back until the next one was posted.
    held_back: Mutex<Option<Message>>,
}

/// Places a call of the same chain to another bot.
pub(super) type Invite<'a> = dyn Fn(CallRequest) -> Result<Timeline, PlaceError> + Send + Sync + 'a;

/// A notification got no response that settles it.
pub(super) struct DeliveryError {
    pub(super) reason: String,
    /// The status of the last attempt, if it got a response.
    pub(super) status: Option<StatusCode>,
}

impl DeliveryError {
    fn new(reason: String) -> Self {
        Self { reason, status: None }
    }
}

impl<'a> Player<'a> {
    pub(super) fn new(
        context: &'a Context,
        call: &'a CallRequest,
        ids: &'a CallIds,
        started: Instant,
        recorder: &'a Recorder,
        invite: &'a Invite<'a>,
    ) -> Self {
        let (flawed, held_back) = (Mutex::new(None), Mutex::new(None));
        let scenario = OnceLock::new();
        Self { context, call, ids, started, recorder, invite, scenario, flawed, held_back }
    }

    /// Names the bot's scenario in all further notifications. The first scenario holds.
    pub(super) fn follow_scenario(&self, scenario: HeaderValue) {
        let _ = self.scenario.set(scenario);
    }

    /// Posts a notification, with a few attempts while the response is 5xx, and returns the last response.
    pub(super) async fn deliver(
        &self,
        what: &str,
        to: &Url,
        body: &Value,
        stage: Stage,
    ) -> Result<Delivered, DeliveryError> {
        let id = random_id().map_err(|_| DeliveryError::new("openssl has no randomness".to_owned()))?;
        let message =
            Message { what: what.to_owned(), to: to.clone(), body: Bytes::from(body.to_string()), id, stage };
        // A first notification that is dropped or held back leaves nothing to see.
        if stage != Stage::Later {
            return self.attempt_repeatedly(&message).await;
        }
        let DeliveryFaults { drop, duplicate, reorder, delay } = self.context.faults.delivery();
        let unseen = Ok(Delivered { status: StatusCode::ACCEPTED, body: Bytes::new() });
        if drop {
            self.say(&message.what, &message.to, "dropped by the requested fault");
            return unseen;
        }
        sleep(delay).await;
        let before = lock(&self.held_back).take();
        // No notification follows the last one of a call.
        if reorder && before.is_none() && what != "terminated" {
            self.say(&message.what, &message.to, "held back by the requested fault");
            *lock(&self.held_back) = Some(message);
            return unseen;
        }
        let delivered = self.attempt_repeatedly(&message).await?;
        if duplicate {
            let _ = self.attempt_repeatedly(&message).await;
        }
        if let Some(before) = before {
            let late = self.attempt_repeatedly(&before).await?;
            if !late.status.is_success() {
                let reason =
                    format!("the response to {}, which was held back, was {}", before.what, late.status);
                return Err(DeliveryError { reason, status: Some(late.status) });
            }
        }
        Ok(delivered)
    }

    /// Posts until the response is not 5xx, always under the same message id.
    async fn attempt_repeatedly(&self, message: &Message) -> Result<Delivered, DeliveryError> {
        let mut attempt = 1;
        loop {
            let (last, status) = match self.post_following(message, attempt).await {
                Ok(response) if !response.status.is_server_error() => return Ok(response),
                Ok(response) => (response.status.to_string(), Some(response.status)),
                Err(PostError::Final(reason)) => return Err(DeliveryError::new(reason)),
                Err(PostError::Send(error)) => (error.to_string(), None),
            };
            let Some(pause) = PAUSES.get(attempt.saturating_sub(1)) else {
                return Err(DeliveryError { reason: format!("{last} (after {attempt} attempts)"), status });
            };
            let next = Instant::now() + *pause;
            if matches!(message.stage, Stage::First { until: Some(until) } if next >= until) {
                let reason = format!("{last} (the last attempt before the call's deadline)");
                return Err(DeliveryError { reason, status });
            }
            sleep(*pause).await;
            attempt += 1;
        }
    }

    /// Makes one attempt, which follows redirects with the same method and body.
    async fn post_following(&self, message: &Message, attempt: usize) -> Result<Delivered, PostError> {
        let mut to = message.to.clone();
        let mut hops = 0;
        loop {
            let response = self.post(message, &to, attempt).await?;
            let redirects = matches!(
                response.status,
                StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
            // Microsoft documents redirects of the first notification only: a callback's 3xx is a refusal.
            if !redirects || message.stage == Stage::Later {
                return Ok(Delivered { status: response.status, body: response.body });
            }
            hops += 1;
            if hops > HOPS_MAX {
                return Err(PostError::Final(format!("redirected more than {HOPS_MAX} times")));
            }
            let location = response.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            to = location
                .and_then(|location| to.join(location).ok())
                .and_then(|url| parse_http_url(url.as_str()).ok())
                .ok_or_else(|| PostError::Final(format!("{} without a usable Location", response.status)))?;
        }
    }

    async fn post(&self, message: &Message, to: &Url, attempt: usize) -> Result<ClientResponse, PostError> {
        let mut within = self.context.post_timeout;
        if let Stage::First { until: Some(until) } = message.stage {
            within = within.min(until.saturating_duration_since(Instant::now()));
        }
        let token = self.token().map_err(|error| PostError::Final(error.to_string()))?;
        let request = message
            .request(self.call, self.ids, self.scenario.get(), token.as_deref())
            .map_err(|error| PostError::Final(error.to_string()))?;
        let began = Instant::now();
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
        let sent = SentRequest {
            at_ms: milliseconds(began.duration_since(self.started)),
            what: message.what.clone(),
            url: to.to_string(),
            attempt,
            message_id: message.id,
        };
        self.recorder.record(CallEvent::Sent(sent.clone()));
        let keeps = self.recorder.call().keeps_exchanges();
        let recorded = keeps.then(|| RecordedRequest::new(&request, to.as_str()));
        let keep_alive = if self.call.keep_alive { KeepAlive::On } else { KeepAlive::Off };
        let result = self.context.client.send(request, to, within, keep_alive).await;
        let note = match &result {
            Ok(response) => note_of(response),
            Err(error) => Some(printable(&error.to_string())),
        };
        self.recorder.record(CallEvent::step(CallStep {
            at_ms: sent.at_ms,
            what: sent.what,
            received: false,
            url: sent.url,
            status: result.as_ref().ok().map(|response| response.status.as_u16()),
            took_ms: milliseconds(began.elapsed()),
            attempt,
            message_id: Some(message.id),
            note,
            request: recorded,
            response: result.as_ref().ok().filter(|_| keeps).map(recorded_response),
        }));
        result.map_err(PostError::Send)
    }

    /// Adds a line to the timeline that is not a request.
    pub(super) fn say(&self, what: &str, about: &Url, note: &str) {
        self.recorder.record(CallEvent::step(CallStep {
            at_ms: milliseconds(self.started.elapsed()),
            what: what.to_owned(),
            received: false,
            url: about.to_string(),
            status: None,
            took_ms: 0.0,
            attempt: 1,
            message_id: None,
            note: Some(printable(note)),
            request: None,
            response: None,
        }));
    }

    /// Returns the record of the call.
    pub(super) fn record(&self) -> &CallRecord {
        self.recorder.call()
    }

    /// Places a call of the same chain to another bot.
    pub(super) fn invite(&self, call: CallRequest) -> Result<Timeline, PlaceError> {
        (self.invite)(call)
    }

    /// Returns the token to send; `None` if the flaw is that there is none.
    fn token(&self) -> Result<Option<Arc<Token>>, MintError> {
        let choice = self.context.faults.token_choice(self.call.token);
        if choice.flaw == Flaw::Missing {
            return Ok(None);
        }
        let request = TokenRequest { choice, ..TokenRequest::new(self.call.app, self.call.tenant) };
        let keys = self.context.keys();
        let now = self.context.now();
        if choice.flaw == Flaw::None {
            return self.context.tokens.token(&keys, &request, now).map(Some);
        }
        let mut held = lock(&self.flawed);
        if let Some((held_choice, token)) = &*held
            && *held_choice == choice
        {
            return Ok(Some(Arc::clone(token)));
        }
        let token = Arc::new(mint(&keys, &request, now)?);
        *held = Some((choice, Arc::clone(&token)));
        Ok(Some(token))
    }
}

/// An attempt got no response.
enum PostError {
    Send(SendError),
    /// Another attempt cannot help.
    Final(String),
}

fn recorded_response(response: &ClientResponse) -> RecordedResponse {
    let mut head = http::Response::new(());
    *head.status_mut() = response.status;
    *head.headers_mut() = response.headers.clone();
    RecordedResponse::new(&head, &response.body)
}

/// Returns the target of a redirect, or the start of a refusal's body.
fn note_of(response: &ClientResponse) -> Option<String> {
    let location = response.headers.get(header::LOCATION).filter(|_| response.status.is_redirection());
    if let Some(location) = location {
        return Some(format!("to {}", printable(&String::from_utf8_lossy(location.as_bytes()))));
    }
    if response.status.as_u16() < 400 || response.body.is_empty() {
        return None;
    }
    let text: String = String::from_utf8_lossy(&response.body).chars().take(NOTE_LETTERS_MAX).collect();
    Some(printable(&text))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Microsoft documents neither the count nor the spacing of the platform's retries. These fit into a call's
/// 15 s.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Regions that redirect a call to each other must be seen, not followed for ever.
const HOPS_MAX: usize = 3;

const NOTE_LETTERS_MAX: usize = 160;
