//! Posting a notification: headers and token, redirects, tries under one message id, and the faults asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use url::Url;
use uuid::Uuid;

use crate::{
    call::{CallRequest, parse_http_url},
    client::{ClientResponse, KeepAlive, SendError},
    clock,
    encoding::random_id,
    faults::Delivery,
    notification::CallIds,
    platform::Shared,
    server::printable,
    timeline::{CallEvent, CallStep, Recorder, SentRequest, milliseconds},
    token::{Flaw, MintError, Token, TokenChoice, TokenRequest, mint},
};

/// One call that is being played.
pub(super) struct Player<'a> {
    pub(super) platform: &'a Arc<Shared>,
    pub(super) call: &'a CallRequest,
    pub(super) ids: &'a CallIds,
    pub(super) started: Instant,
    pub(super) recorder: &'a Recorder,
    /// The flawed token that it shows; good ones are shared by all calls.
    flawed: Mutex<Option<(TokenChoice, Arc<Token>)>>,
    /// A notification that a fault holds back until the next one was posted.
    held_back: Mutex<Option<Message>>,
}

/// One notification, which keeps its message id however often it is sent.
#[derive(Clone)]
struct Message {
    what: String,
    to: Url,
    body: Bytes,
    id: Uuid,
    phase: Phase,
}

/// The first notifications of a call may be redirected and say where the caller is; later ones name the scenario.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    First { until: Option<Instant> },
    Later,
}

/// What came back in the end.
pub(super) struct Delivered {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// A message that nobody took.
pub(super) struct Undelivered {
    pub(super) reason: String,
    /// The status of the last try, if there was one.
    pub(super) status: Option<StatusCode>,
}

impl Undelivered {
    fn new(reason: String) -> Self {
        Self { reason, status: None }
    }
}

impl<'a> Player<'a> {
    pub(super) fn new(
        platform: &'a Arc<Shared>,
        call: &'a CallRequest,
        ids: &'a CallIds,
        started: Instant,
        recorder: &'a Recorder,
    ) -> Self {
        let (flawed, held_back) = (Mutex::new(None), Mutex::new(None));
        Self { platform, call, ids, started, recorder, flawed, held_back }
    }

    /// Posts a message until something other than 5xx comes back, a few times, always under the same message id.
    pub(super) async fn deliver(
        &self,
        what: &str,
        to: &Url,
        body: &Value,
        phase: Phase,
    ) -> Result<Delivered, Undelivered> {
        let id = random_id().map_err(|_| Undelivered::new("openssl has no randomness".to_owned()))?;
        let message =
            Message { what: what.to_owned(), to: to.clone(), body: Bytes::from(body.to_string()), id, phase };
        // A first notification that is dropped or held back leaves nothing to see.
        if phase != Phase::Later {
            return self.insist(&message).await;
        }
        let Delivery { drop, duplicate, reorder, delay } = self.platform.faults().delivery();
        let unseen = Ok(Delivered { status: StatusCode::ACCEPTED, body: Bytes::new() });
        if drop {
            self.note(&message, "dropped, as the fault asks for");
            return unseen;
        }
        sleep(delay).await;
        let before = self.take_held_back();
        // The last one of a call has none after it.
        if reorder && before.is_none() && what != "terminated" {
            self.note(&message, "held back, as the fault asks for");
            *lock(&self.held_back) = Some(message);
            return unseen;
        }
        let delivered = self.insist(&message).await?;
        if duplicate {
            let _ = self.insist(&message).await;
        }
        if let Some(before) = before {
            let late = self.insist(&before).await?;
            if !late.status.is_success() {
                let reason =
                    format!("{}, which was held back, was answered with {}", before.what, late.status);
                return Err(Undelivered { reason, status: Some(late.status) });
            }
        }
        Ok(delivered)
    }

    async fn insist(&self, message: &Message) -> Result<Delivered, Undelivered> {
        let mut attempt = 1;
        loop {
            let (last, status) = match self.post_following(message, attempt).await {
                Ok(answer) if !answer.status.is_server_error() => return Ok(answer),
                Ok(answer) => (answer.status.to_string(), Some(answer.status)),
                Err(Unposted::Final(reason)) => return Err(Undelivered::new(reason)),
                Err(Unposted::Send(error)) => (error.to_string(), None),
            };
            let Some(pause) = PAUSES.get(attempt.saturating_sub(1)) else {
                return Err(Undelivered { reason: format!("{last} after {attempt} tries"), status });
            };
            if matches!(message.phase, Phase::First { until: Some(until) } if Instant::now() + *pause >= until)
            {
                let reason = format!("{last} at the last try before the call's deadline");
                return Err(Undelivered { reason, status });
            }
            sleep(*pause).await;
            attempt += 1;
        }
    }

    /// One try, which follows redirects with the method and the body kept.
    async fn post_following(&self, message: &Message, attempt: usize) -> Result<Delivered, Unposted> {
        let mut to = message.to.clone();
        let mut hops = 0;
        loop {
            let answer = self.post(message, &to, attempt).await?;
            let redirects = matches!(
                answer.status,
                StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
            // Only the first notifications are documented to be redirected: a callback's 3xx is a refusal.
            if !redirects || message.phase == Phase::Later {
                return Ok(Delivered { status: answer.status, body: answer.body });
            }
            hops += 1;
            if hops > HOPS_MAX {
                return Err(Unposted::Final(format!("redirected more than {HOPS_MAX} times")));
            }
            let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            to = location
                .and_then(|location| to.join(location).ok())
                .and_then(|url| parse_http_url(url.as_str()).ok())
                .ok_or_else(|| Unposted::Final(format!("{} without a usable Location", answer.status)))?;
        }
    }

    async fn post(&self, message: &Message, to: &Url, attempt: usize) -> Result<ClientResponse, Unposted> {
        let mut within = self.platform.post_timeout();
        if let Phase::First { until: Some(until) } = message.phase {
            within = within.min(until.saturating_duration_since(Instant::now()));
        }
        let request = self.request(message)?;
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
        let after = if self.call.keep_alive { KeepAlive::On } else { KeepAlive::Off };
        let result = self.platform.client().send(request, to, within, after).await;
        let note = match &result {
            Ok(answer) => note_of(answer),
            Err(error) => Some(printable(&error.to_string())),
        };
        self.recorder.record(CallEvent::Step(CallStep {
            at_ms: sent.at_ms,
            what: sent.what,
            received: false,
            url: sent.url,
            status: result.as_ref().ok().map(|answer| answer.status.as_u16()),
            took_ms: milliseconds(began.elapsed()),
            attempt,
            message_id: Some(message.id),
            note,
        }));
        result.map_err(Unposted::Send)
    }

    /// Says what became of a message that was not posted.
    fn note(&self, message: &Message, note: &str) {
        self.say(&message.what, &message.to, note);
    }

    /// A line of the timeline that is no request.
    pub(super) fn say(&self, what: &str, about: &Url, note: &str) {
        self.recorder.record(CallEvent::Step(CallStep {
            at_ms: milliseconds(self.started.elapsed()),
            what: what.to_owned(),
            received: false,
            url: about.to_string(),
            status: None,
            took_ms: 0.0,
            attempt: 1,
            message_id: None,
            note: Some(printable(note)),
        }));
    }

    fn request(&self, message: &Message) -> Result<Request<Bytes>, Unposted> {
        let mut request = Request::post("/").body(message.body.clone()).map_err(final_error)?;
        let headers = request.headers_mut();
        let id = |id: Uuid| HeaderValue::from_str(&id.to_string()).map_err(final_error);
        if let Some(token) = self.token().map_err(|error| Unposted::Final(error.to_string()))? {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.compact)).map_err(final_error)?;
            headers.insert(header::AUTHORIZATION, value);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("Microsoft-Skype/3.0,(Calling/1.0)"));
        headers.insert(HeaderName::from_static("x-microsoft-skype-chain-id"), id(self.ids.chain)?);
        headers.insert(HeaderName::from_static("x-microsoft-skype-message-id"), id(message.id)?);
        // Of these only the names are known; whoever passes a request on must not lose them.
        headers.insert(HeaderName::from_static("ms-teams-ring"), HeaderValue::from_static("general"));
        for name in ["ms-teams-partition", "ms-teams-region"] {
            let region = HeaderValue::from_static(self.call.region.label());
            headers.insert(HeaderName::from_static(name), region);
        }
        match message.phase {
            Phase::First { .. } => {
                let region = HeaderValue::from_static(self.call.region.label());
                headers.insert(HeaderName::from_static("x-microsoft-skype-caller-region"), region);
            }
            Phase::Later => {
                headers.insert(HeaderName::from_static("scenario-id"), id(self.ids.scenario)?);
                headers.insert(HeaderName::from_static("client-request-id"), id(message.id)?);
            }
        }
        Ok(request)
    }

    /// The token to show; none where that is the flaw.
    fn token(&self) -> Result<Option<Arc<Token>>, MintError> {
        let choice = self.platform.token_choice(self.call.token);
        match choice.flaw {
            Flaw::Missing => return Ok(None),
            Flaw::None => return self.platform.tokens().good(self.platform, choice, self.call).map(Some),
            Flaw::Forged
            | Flaw::UnknownKey
            | Flaw::Unsigned
            | Flaw::Expired
            | Flaw::NotYetValid
            | Flaw::WrongAudience
            | Flaw::WrongIssuer
            | Flaw::WrongTenant
            | Flaw::OtherCaller
            | Flaw::OtherCloud
            | Flaw::ConsumerKey => {}
        }
        let mut held = lock(&self.flawed);
        if let Some((held_choice, token)) = &*held
            && *held_choice == choice
        {
            return Ok(Some(Arc::clone(token)));
        }
        let request = TokenRequest { choice, ..TokenRequest::new(self.call.app, self.call.tenant) };
        let token = Arc::new(mint(&self.platform.keys(), &request, self.platform.now())?);
        *held = Some((choice, Arc::clone(&token)));
        Ok(Some(token))
    }

    fn take_held_back(&self) -> Option<Message> {
        lock(&self.held_back).take()
    }
}

/// Good tokens, which the platform uses for a while, whichever call needs them.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<(String, Uuid, Uuid), Arc<Token>>>);

impl Tokens {
    /// The one before, as long as its key still signs and it lives for a minute more.
    fn good(
        &self,
        platform: &Shared,
        choice: TokenChoice,
        call: &CallRequest,
    ) -> Result<Arc<Token>, MintError> {
        let keys = platform.keys();
        let now = platform.now();
        let mut held = lock(&self.0);
        let place = (choice.to_string(), call.app, call.tenant);
        if let Some(token) = held.get(&place) {
            let still_signs = keys.ring(choice.kind.issuer()).signing().kid() == token.kid;
            let left = token.expires_at.saturating_sub(clock::unix_seconds(now));
            // More than a whole life is left after a clock that was ahead was set right.
            if still_signs && (60..=4_000).contains(&left) {
                return Ok(Arc::clone(token));
            }
        }
        let request = TokenRequest { choice, ..TokenRequest::new(call.app, call.tenant) };
        let token = Arc::new(mint(&keys, &request, now)?);
        if held.len() >= TOKENS_MAX {
            held.clear();
        }
        held.insert(place, Arc::clone(&token));
        Ok(token)
    }
}

/// Why one try gave no status.
enum Unposted {
    Send(SendError),
    /// Trying again cannot help.
    Final(String),
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn final_error(error: impl ToString) -> Unposted {
    Unposted::Final(error.to_string())
}

/// What a bot says about a refusal, or that its answer is not one that is documented.
fn note_of(answer: &ClientResponse) -> Option<String> {
    if let Some(location) = answer.headers.get(header::LOCATION).filter(|_| answer.status.is_redirection()) {
        return Some(format!("to {}", printable(&String::from_utf8_lossy(location.as_bytes()))));
    }
    if answer.status.as_u16() < 400 || answer.body.is_empty() {
        return None;
    }
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(NOTE_LETTERS_MAX).collect();
    Some(printable(&text))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Neither count nor spacing of the platform's retries is documented; these fit into a call's 15 s.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Regions that disagree must be seen, not followed for ever.
const HOPS_MAX: usize = 3;

const NOTE_LETTERS_MAX: usize = 160;

/// One for each tenant, app and kind that is in use.
const TOKENS_MAX: usize = 1_000;
