//! `TokenEndpoint`: requests a token by client credentials (Microsoft identity platform, "OAuth 2.0 client
//! credentials flow"; RFC 6749 sections 4.4 and 5).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use crate::{
    GraphMethod, GraphRequest, GraphResponse, GraphSettings, TokenError, TokenRefusal, Transport,
    TransportError, TransportErrorKind,
    address::below,
    credential::{Proof, Secret},
    retry::{back_off, retry_after},
};

/// A bearer token for Graph.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    /// From this time on it is renewed, and still used.
    pub(crate) stale_at: Instant,
    /// From this time on it is not used.
    pub(crate) expired_at: Instant,
}

/// The token endpoint, with the settings of the app that requests tokens.
pub(crate) struct TokenEndpoint {
    settings: GraphSettings,
    transport: Arc<dyn Transport>,
}

impl TokenEndpoint {
    pub(crate) fn new(settings: GraphSettings, transport: Arc<dyn Transport>) -> Self {
        Self { settings, transport }
    }

    /// Requests a token for `tenant`. It repeats the request if that can help, which is safe: a token request
    /// changes nothing.
    pub(crate) async fn request(&self, tenant: Uuid, now: SystemTime) -> Result<Token, TokenError> {
        let started = Instant::now();
        let give_up_at = started + REQUEST_TIME_MAX;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.attempt(tenant, now + started.elapsed(), give_up_at).await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            let wait = match &error {
                TokenError::Transport(error) => match error.kind {
                    TransportErrorKind::Unreachable
                    | TransportErrorKind::Lost
                    | TransportErrorKind::TimedOut => back_off(attempts),
                    TransportErrorKind::Tls => return Err(TokenError::Transport(error.clone())),
                },
                TokenError::Throttled { retry_after } | TokenError::Unavailable { retry_after, .. } => {
                    retry_after.unwrap_or_else(|| back_off(attempts))
                }
                TokenError::Credential(_)
                | TokenError::Refused { .. }
                | TokenError::InvalidResponse { .. }
                | TokenError::Interrupted => return Err(error),
            };
            if attempts >= ATTEMPTS_MAX || Instant::now() + wait >= give_up_at {
                return Err(error);
            }
            sleep(wait).await;
        }
    }

    async fn attempt(&self, tenant: Uuid, now: SystemTime, give_up_at: Instant) -> Result<Token, TokenError> {
        let sent_at = Instant::now();
        let deadline = (sent_at + ATTEMPT_TIME_MAX).min(give_up_at);
        let url = below(&self.settings.authority, &format!("{tenant}/oauth2/v2.0/token"));
        let timed_out =
            |_| TransportError { kind: TransportErrorKind::TimedOut, detail: "no response".to_owned() };
        let exchange = async {
            let proof = self.settings.credential.proof(self.settings.app, url.as_str(), now).await?;
            let request = self.build(url.clone(), &proof, deadline);
            Ok::<_, TokenError>(self.transport.send(request).await?)
        };
        let response = timeout_at(deadline, exchange).await.map_err(timed_out)??;
        match response.status {
            200 => read_token(&response, sent_at).ok_or(TokenError::InvalidResponse { status: 200 }),
            _ => Err(read_error(&response, now)),
        }
    }

    fn build(&self, url: Url, proof: &Proof, deadline: Instant) -> GraphRequest {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.settings.app.to_string())
            .append_pair("scope", self.settings.scope);
        match proof {
            Proof::Secret(secret) => form.append_pair("client_secret", secret.expose()),
            Proof::Assertion(assertion) => form
                .append_pair(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                )
                .append_pair("client_assertion", assertion.expose()),
        };
        let headers = vec![
            ("accept", "application/json".to_owned()),
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("user-agent", USER_AGENT.to_owned()),
        ];
        GraphRequest {
            method: GraphMethod::Post,
            url,
            headers,
            body: form.finish().into_bytes(),
            deadline,
            body_bytes_max: BODY_BYTES_MAX,
        }
    }
}

/// RFC 6749 section 5.1.
#[derive(Deserialize)]
struct TokenResponse {
    token_type: String,
    access_token: String,
    expires_in: Value,
}

fn read_token(response: &GraphResponse, sent_at: Instant) -> Option<Token> {
    let token: TokenResponse = serde_json::from_slice(response.whole_body(BODY_BYTES_MAX)?).ok()?;
    // Entra's older endpoint sends the number as a string.
    let expires_in = &token.expires_in;
    let seconds = expires_in.as_u64().or_else(|| expires_in.as_str().and_then(|text| text.parse().ok()))?;
    // It becomes the value of a header, so other characters are not safe.
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.access_token.len())
        && token.access_token.bytes().all(|byte| byte.is_ascii_graphic());
    if !token.token_type.eq_ignore_ascii_case("Bearer") || !is_token || seconds == 0 {
        return None;
    }
    let lifetime = Duration::from_secs(seconds).min(LIFETIME_MAX);
    Some(Token {
        secret: Secret::new(token.access_token),
        stale_at: sent_at + (lifetime - STALE_BEFORE_MAX.min(lifetime / 5)),
        expired_at: sent_at + (lifetime - EXPIRED_BEFORE_MAX.min(lifetime / 10)),
    })
}

/// RFC 6749 section 5.2, with Entra's additions.
fn read_error(response: &GraphResponse, now: SystemTime) -> TokenError {
    let retry_after = retry_after(response, now);
    let status = response.status;
    let body = response.whole_body(BODY_BYTES_MAX);
    let document: Value = body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    let error = document.get("error").and_then(Value::as_str);
    match status {
        429 => return TokenError::Throttled { retry_after },
        500..=599 => return TokenError::Unavailable { status, retry_after },
        _ if error == Some("temporarily_unavailable") => {
            return TokenError::Unavailable { status, retry_after };
        }
        400..=499 if error.is_some() => {}
        _ => return TokenError::InvalidResponse { status },
    }
    let aadsts = aadsts(&document);
    TokenError::Refused {
        reason: TokenRefusal::of(aadsts, error),
        aadsts,
        trace_id: document.get("trace_id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()),
    }
}

/// Returns the first of `error_codes`, else the number at the start of the description.
fn aadsts(document: &Value) -> Option<u32> {
    let listed = document.get("error_codes").and_then(|codes| codes.get(0)).and_then(Value::as_u64);
    if let Some(code) = listed {
        return u32::try_from(code).ok();
    }
    let digits = document.get("error_description")?.as_str()?.strip_prefix("AADSTS")?;
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// RFC 9110 section 10.1.5.
pub(crate) const USER_AGENT: &str = concat!("switchboard-graph/", env!("CARGO_PKG_VERSION"));

/// A token has 2 KiB; with many groups or roles it has several times as much.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A token becomes one header line, and servers accept 16 KiB of head at most.
const TOKEN_BYTES_MAX: usize = 15 * 1024;

/// Entra's tokens are valid for an hour; some are valid for a day.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// A token is renewed five minutes before it expires; a short-lived one after four fifths of its lifetime.
const STALE_BEFORE_MAX: Duration = Duration::from_secs(300);

/// Just before it expires, a token is no longer used: it could expire on its way.
const EXPIRED_BEFORE_MAX: Duration = Duration::from_secs(30);

/// A call must be answered within 15 s, so a token that takes longer is of no use.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// If a connection hangs, there is time for another.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(4);

const ATTEMPTS_MAX: u32 = 3;
