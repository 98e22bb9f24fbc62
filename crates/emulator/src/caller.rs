//! Plays one call the way the calling platform does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use url::Url;
use uuid::Uuid;

use crate::{
    call::{CallKind, CallRequest, Outcome, Protocol, parse_http_url},
    client::{Answer, SendError},
    clock,
    encoding::random_id,
    graph::Decision,
    notification::{self, CallIds, ResultInfo},
    platform::Shared,
    server::printable,
    timeline::{End, Event, Recorder, Step, milliseconds},
    token::{Flaw, Token, TokenRequest, mint},
};

/// Plays the call to its end and records what happens.
pub(crate) async fn play(
    platform: &Shared,
    call: &CallRequest,
    ids: &CallIds,
    started: Instant,
    decisions: mpsc::Receiver<Decision>,
    recorder: Recorder,
) {
    let player = Player { platform, call, ids, started, recorder: &recorder, token: Mutex::new(None) };
    let ending = player.run(decisions).await;
    let end = End {
        outcome: ending.outcome.label().to_owned(),
        ok: ending.outcome == call.expect,
        reason: ending.reason,
        status: ending.status.map(|status| status.as_u16()),
        answered_ms: ending.answered.map(milliseconds),
        callback_uri: ending.callback.map(String::from),
        took_ms: milliseconds(started.elapsed()),
    };
    recorder.end(end);
}

struct Player<'a> {
    platform: &'a Shared,
    call: &'a CallRequest,
    ids: &'a CallIds,
    started: Instant,
    recorder: &'a Recorder,
    /// The platform reuses a token while it is good for long enough.
    token: Mutex<Option<Arc<Token>>>,
}

/// How it went, before it is compared with what was expected.
struct Ending {
    outcome: Outcome,
    reason: String,
    status: Option<StatusCode>,
    answered: Option<Duration>,
    callback: Option<Url>,
}

impl Ending {
    fn new(outcome: Outcome, reason: String) -> Self {
        Self { outcome, reason, status: None, answered: None, callback: None }
    }
}

/// One notification, which keeps its message id however often it is sent.
struct Message<'a> {
    what: &'a str,
    to: &'a Url,
    body: Bytes,
    id: Uuid,
    phase: Phase,
}

/// The first notifications of a call may be redirected and say where the caller is; later ones name the scenario.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    First { until: Option<Instant> },
    Later,
}

impl Player<'_> {
    async fn run(&self, decisions: mpsc::Receiver<Decision>) -> Ending {
        if self.call.protocol == Protocol::LegacyFirst {
            let body = notification::legacy_incoming(self.call, self.ids);
            let phase = Phase::First { until: None };
            match self.deliver("incoming (legacy)", &self.call.to, &body, phase).await {
                Ok(StatusCode::NO_CONTENT) => {}
                Ok(status) if status.is_success() => {
                    let reason = format!(
                        "the legacy notification was answered with {status}: only 204 asks for the Graph form"
                    );
                    return Ending { status: Some(status), ..Ending::new(Outcome::Refused, reason) };
                }
                other => return self.not_accepted(other),
            }
        }

        let deadline = Instant::now() + self.call.answer_within;
        let body = notification::incoming(self.call, self.ids);
        let phase = Phase::First { until: Some(deadline) };
        let (posted, posting) = oneshot::channel();
        // A bot may answer through Graph before it answers the webhook, so both go on at once.
        let post = async {
            let _ = posted.send(self.deliver("incoming", &self.call.to, &body, phase).await);
        };
        let ((), ending) = tokio::join!(post, self.live(posting, decisions, deadline));
        ending
    }

    /// From the first Graph notification to the end.
    async fn live(
        &self,
        mut posting: oneshot::Receiver<Result<StatusCode, Undelivered>>,
        mut decisions: mpsc::Receiver<Decision>,
        deadline: Instant,
    ) -> Ending {
        let mut accepted = false;
        let decision = loop {
            tokio::select! {
                decision = decisions.recv() => break decision,
                result = &mut posting, if !accepted => match result {
                    Ok(Ok(status)) if status.is_success() => accepted = true,
                    Ok(other) => return self.not_accepted(other),
                    Err(_) => accepted = true,
                },
                () = sleep_until(deadline) => break None,
            }
        };
        let (callback, answered) = match decision {
            Some(Decision::Answer { callback }) => {
                (callback.unwrap_or_else(|| self.call.to.clone()), self.started.elapsed())
            }
            Some(Decision::Reject { callback, reason }) => {
                let to = callback.unwrap_or_else(|| self.call.to.clone());
                let body = notification::terminated(self.ids, ResultInfo::RejectedByBot);
                let _ = self.deliver("rejected", &to, &body, Phase::Later).await;
                let answered = Some(self.started.elapsed());
                let reason = format!("the bot rejected the call: {reason}");
                return Ending { answered, callback: Some(to), ..Ending::new(Outcome::Rejected, reason) };
            }
            Some(Decision::HangUp) | None => {
                let body = notification::terminated(self.ids, ResultInfo::NotAnswered);
                self.platform.calls().remove(self.ids.call);
                let _ = self.deliver("terminated", &self.call.to, &body, Phase::Later).await;
                let within = self.call.answer_within;
                let reason = if accepted {
                    format!("the notification was accepted, but nobody answered the call within {within:?}")
                } else {
                    format!("nobody answered the call within {within:?}")
                };
                return Ending::new(Outcome::Unanswered, reason);
            }
        };

        let result = self.established(&callback, &mut decisions).await;
        let ending = match result {
            Ok(()) => Ending::new(Outcome::Completed, "answered, established and terminated".to_owned()),
            Err(lost) => lost,
        };
        Ending { answered: Some(answered), callback: Some(callback), ..ending }
    }

    /// The life of an answered call: everything goes to the callbackUri.
    async fn established(
        &self,
        callback: &Url,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Result<(), Ending> {
        let mut life = vec![
            ("establishing", notification::state(self.ids, "establishing")),
            ("established", notification::state(self.ids, "established")),
            ("roster", notification::roster(self.call, self.ids)),
        ];
        if self.call.kind == CallKind::Recording {
            life.push(("operation", notification::recording_status_operation(self.ids)));
        }
        let mut lost = None;
        for (what, body) in &life {
            // When the tries are used up the platform hangs up the call, so nothing but the end follows.
            lost = self.acknowledged(what, callback, body).await.err();
            if lost.is_some() {
                break;
            }
        }
        let mut result = ResultInfo::OtherSideEnded;
        if lost.is_none() {
            tokio::select! {
                decision = decisions.recv() => {
                    if matches!(decision, Some(Decision::HangUp)) {
                        result = ResultInfo::EndedByBot;
                    }
                }
                () = sleep(self.call.duration) => {}
            }
        }
        self.platform.calls().remove(self.ids.call);
        let ended =
            self.acknowledged("terminated", callback, &notification::terminated(self.ids, result)).await;
        lost.map_or(ended, Err)
    }

    async fn acknowledged(&self, what: &str, callback: &Url, body: &Value) -> Result<(), Ending> {
        let reason = match self.deliver(what, callback, body, Phase::Later).await {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) => {
                let reason = format!("{what} was not acknowledged: {status}");
                return Err(Ending { status: Some(status), ..Ending::new(Outcome::Lost, reason) });
            }
            Err(undelivered) => format!("{what} was not acknowledged: {}", undelivered.0),
        };
        Err(Ending::new(Outcome::Lost, reason))
    }

    fn not_accepted(&self, result: Result<StatusCode, Undelivered>) -> Ending {
        match result {
            Ok(status) => {
                let reason = format!("{} refused the notification with {status}", self.call.to);
                Ending { status: Some(status), ..Ending::new(Outcome::Refused, reason) }
            }
            Err(undelivered) => {
                let reason = format!("{} did not take the notification: {}", self.call.to, undelivered.0);
                Ending::new(Outcome::Undelivered, reason)
            }
        }
    }

    /// Posts a message until something other than 5xx comes back, a few times, always under the same message id.
    async fn deliver(
        &self,
        what: &str,
        to: &Url,
        body: &Value,
        phase: Phase,
    ) -> Result<StatusCode, Undelivered> {
        let id = random_id().map_err(|_| Undelivered("openssl has no randomness".to_owned()))?;
        let message = Message { what, to, body: Bytes::from(body.to_string()), id, phase };
        let mut attempt = 1;
        loop {
            let last = match self.post_following(&message, attempt).await {
                Ok(status) if !status.is_server_error() => return Ok(status),
                Ok(status) => status.to_string(),
                Err(Unposted::Final(reason)) => return Err(Undelivered(reason)),
                Err(Unposted::Send(error)) => error.to_string(),
            };
            let Some(pause) = PAUSES.get(attempt.saturating_sub(1)) else {
                return Err(Undelivered(format!("{last} after {attempt} tries")));
            };
            if matches!(phase, Phase::First { until: Some(until) } if Instant::now() + *pause >= until) {
                return Err(Undelivered(format!("{last} at the last try before the call's deadline")));
            }
            sleep(*pause).await;
            attempt += 1;
        }
    }

    /// One try, which follows redirects with the method and the body kept.
    async fn post_following(&self, message: &Message<'_>, attempt: usize) -> Result<StatusCode, Unposted> {
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
                return Ok(answer.status);
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

    async fn post(&self, message: &Message<'_>, to: &Url, attempt: usize) -> Result<Answer, Unposted> {
        let mut within = POST_TIME_MAX;
        if let Phase::First { until: Some(until) } = message.phase {
            within = within.min(until.saturating_duration_since(Instant::now()));
        }
        let request = self.request(message)?;
        let began = Instant::now();
        let result = self.platform.client().send(request, to, within).await;
        let note = match &result {
            Ok(answer) => note_of(answer),
            Err(error) => Some(printable(&error.to_string())),
        };
        self.recorder.record(Event::Step(Step {
            at_ms: milliseconds(began.duration_since(self.started)),
            what: message.what.to_owned(),
            received: false,
            url: to.to_string(),
            status: result.as_ref().ok().map(|answer| answer.status.as_u16()),
            took_ms: milliseconds(began.elapsed()),
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
            message_id: Some(message.id),
            note,
        }));
        result.map_err(Unposted::Send)
    }

    fn request(&self, message: &Message<'_>) -> Result<Request<Bytes>, Unposted> {
        let mut request = Request::post("/").body(message.body.clone()).map_err(final_error)?;
        let headers = request.headers_mut();
        let id = |id: Uuid| HeaderValue::from_str(&id.to_string()).map_err(final_error);
        if self.call.token.flaw != Flaw::Missing {
            let token = self.token().map_err(|error| Unposted::Final(error.to_string()))?;
            let value = HeaderValue::from_str(&format!("Bearer {}", token.compact)).map_err(final_error)?;
            headers.insert(header::AUTHORIZATION, value);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("Microsoft-Skype/3.0,(Calling/1.0)"));
        headers.insert(HeaderName::from_static("x-microsoft-skype-chain-id"), id(self.ids.chain)?);
        headers.insert(HeaderName::from_static("x-microsoft-skype-message-id"), id(message.id)?);
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

    /// The call's token: the one before, as long as its key still signs and it lives for a minute more.
    fn token(&self) -> Result<Arc<Token>, crate::token::TokenError> {
        let keys = self.platform.keys();
        let now = clock::now();
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*held {
            let still_signs = keys.ring(self.call.token.kind.issuer()).signing().kid() == token.kid;
            let flawed = self.call.token.flaw != Flaw::None;
            if flawed || (still_signs && token.expires_at.saturating_sub(clock::unix_seconds(now)) > 60) {
                return Ok(Arc::clone(token));
            }
        }
        let request =
            TokenRequest { choice: self.call.token, ..TokenRequest::new(self.call.app, self.call.tenant) };
        let token = Arc::new(mint(&keys, &request, now)?);
        *held = Some(Arc::clone(&token));
        Ok(token)
    }
}

/// A message that nobody took; the text says why.
struct Undelivered(String);

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
fn note_of(answer: &Answer) -> Option<String> {
    if let Some(location) = answer.headers.get(header::LOCATION).filter(|_| answer.status.is_redirection()) {
        return Some(format!("to {}", printable(&String::from_utf8_lossy(location.as_bytes()))));
    }
    if answer.status.as_u16() < 400 || answer.body.is_empty() {
        return None;
    }
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(NOTE_LETTERS_MAX).collect();
    Some(printable(&text))
}

/// Neither count nor spacing of the platform's retries is documented; these fit into a call's 15 s.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Not documented either; longer than a gateway's patience, so that its 503 is seen.
const POST_TIME_MAX: Duration = Duration::from_secs(10);

/// Regions that disagree must be seen, not followed for ever.
const HOPS_MAX: usize = 3;

const NOTE_LETTERS_MAX: usize = 160;
