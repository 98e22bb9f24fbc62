//! One token by client credentials: the request, the answer, and what each refusal means (Microsoft identity platform,
//! "OAuth 2.0 client credentials flow"; RFC 6749 sections 4.4 and 5).

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
    GraphMethod, GraphRequest, GraphResponse, GraphSettings, InvalidCredential, Transport, TransportError,
    TransportErrorKind,
    address::below,
    credential::{Proof, Secret},
    retry::{back_off, retry_after},
};

/// A bearer token for Graph.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    /// From here on it is renewed, while it still serves.
    pub(crate) stale_at: Instant,
    /// From here on it is not used.
    pub(crate) dead_at: Instant,
}

/// Where tokens come from.
pub(crate) struct TokenEndpoint {
    settings: GraphSettings,
    transport: Arc<dyn Transport>,
}

impl TokenEndpoint {
    pub(crate) fn new(settings: GraphSettings, transport: Arc<dyn Transport>) -> Self {
        Self { settings, transport }
    }

    /// A token for `tenant`. It asks again where that can help: a token request does nothing, so it may be repeated.
    pub(crate) async fn request(&self, tenant: Uuid, now: SystemTime) -> Result<Token, TokenError> {
        let began = Instant::now();
        let give_up_at = began + FLIGHT_TIME_MAX;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.ask(tenant, now + began.elapsed(), give_up_at).await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            let wait = match &error {
                TokenError::Transport(error) => match error.failure {
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
                | TokenError::NotAToken { .. }
                | TokenError::Interrupted => return Err(error),
            };
            if attempts >= ATTEMPTS_MAX || Instant::now() + wait >= give_up_at {
                return Err(error);
            }
            sleep(wait).await;
        }
    }

    async fn ask(&self, tenant: Uuid, now: SystemTime, give_up_at: Instant) -> Result<Token, TokenError> {
        let asked_at = Instant::now();
        let deadline = (asked_at + ATTEMPT_TIME_MAX).min(give_up_at);
        let url = below(&self.settings.authority, &format!("{tenant}/oauth2/v2.0/token"));
        let timed_out =
            |_| TransportError { failure: TransportErrorKind::TimedOut, detail: "no answer".to_owned() };
        let exchange = async {
            let proof = self.settings.credential.proof(self.settings.app, url.as_str(), now).await?;
            let request = self.build(url.clone(), &proof, deadline);
            Ok::<_, TokenError>(self.transport.send(request).await?)
        };
        let response = timeout_at(deadline, exchange).await.map_err(timed_out)??;
        match response.status {
            200 => read_token(&response, asked_at).ok_or(TokenError::NotAToken { status: 200 }),
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

/// Why there is no token. It holds numbers, our own words and ids of Entra's log, and no text of an answer: an endpoint
/// that is not Entra may repeat what it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is nothing to prove the app with.
    #[error(transparent)]
    Credential(#[from] InvalidCredential),
    /// Entra said no.
    #[error("{} ({})", reason.meaning(), said(*aadsts, *trace_id))]
    Refused {
        /// What is wrong.
        reason: TokenRefusal,
        /// The number of the AADSTS code.
        aadsts: Option<u32>,
        /// What Microsoft's support asks for.
        trace_id: Option<Uuid>,
    },
    /// 429.
    #[error("the token endpoint throttles the app")]
    Throttled {
        /// What it asks to wait.
        retry_after: Option<Duration>,
    },
    /// 5xx.
    #[error("the token endpoint is unavailable: it said {status}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// What it asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error("the token endpoint {0}")]
    Transport(TransportError),
    /// An answer that a token endpoint does not give.
    #[error("the authority has no token endpoint: it said {status}, with neither a token nor an OAuth error")]
    NotAToken {
        /// The HTTP status.
        status: u16,
    },
    /// The thread that asked has ended.
    #[error("the token request broke off")]
    Interrupted,
}

impl TokenError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Credential(error) => error.label(),
            Self::Refused { reason, .. } => reason.label(),
            Self::Throttled { .. } => "token_throttled",
            Self::Unavailable { .. } => "token_unavailable",
            Self::Transport(error) => match error.failure {
                TransportErrorKind::Unreachable => "token_unreachable",
                TransportErrorKind::Tls => "token_tls",
                TransportErrorKind::Lost => "token_lost",
                TransportErrorKind::TimedOut => "token_timeout",
            },
            Self::NotAToken { .. } => "token_nonsense",
            Self::Interrupted => "token_interrupted",
        }
    }
}

impl From<TransportError> for TokenError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// What Entra does not accept (Microsoft identity platform, "Authentication and authorization error codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// AADSTS7000215.
    InvalidSecret,
    /// AADSTS7000222.
    ExpiredSecret,
    /// AADSTS700027 and its like.
    InvalidAssertion,
    /// AADSTS70021 and its like.
    NotFederated,
    /// `invalid_client` without a code that is known here.
    InvalidClient,
    /// AADSTS700016, AADSTS7000229.
    UnknownApp,
    /// AADSTS7000112.
    DisabledApp,
    /// AADSTS90002 and its like.
    UnknownTenant,
    /// Anything else.
    Other,
}

impl TokenRefusal {
    /// Whether the app failed to prove who it is.
    pub fn is_wrong_credential(self) -> bool {
        match self {
            Self::InvalidSecret
            | Self::ExpiredSecret
            | Self::InvalidAssertion
            | Self::NotFederated
            | Self::InvalidClient => true,
            Self::UnknownApp | Self::DisabledApp | Self::UnknownTenant | Self::Other => false,
        }
    }

    fn of(aadsts: Option<u32>, error: Option<&str>) -> Self {
        match (aadsts, error) {
            (Some(7000215), _) => Self::InvalidSecret,
            (Some(7000222), _) => Self::ExpiredSecret,
            (Some(700021 | 700023 | 700024 | 700027 | 700030 | 50027 | 5002723), _) => Self::InvalidAssertion,
            (Some(70021 | 700211 | 700212 | 700213 | 700222..=700224), _) => Self::NotFederated,
            (Some(700016 | 7000229), _) => Self::UnknownApp,
            (Some(7000112), _) => Self::DisabledApp,
            (Some(90002 | 900021 | 900023), _) => Self::UnknownTenant,
            (_, Some("invalid_client")) => Self::InvalidClient,
            (_, _) => Self::Other,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::InvalidSecret => "token_invalid_secret",
            Self::ExpiredSecret => "token_expired_secret",
            Self::InvalidAssertion => "token_invalid_assertion",
            Self::NotFederated => "token_not_federated",
            Self::InvalidClient => "token_invalid_client",
            Self::UnknownApp => "token_unknown_app",
            Self::DisabledApp => "token_disabled_app",
            Self::UnknownTenant => "token_unknown_tenant",
            Self::Other => "token_refused",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::InvalidSecret => {
                "the app's credential is wrong: Entra does not know the client secret; configure its value, not its id"
            }
            Self::ExpiredSecret => "the app's credential is wrong: the client secret has expired",
            Self::InvalidAssertion => {
                "the app's credential is wrong: Entra does not accept the assertion; upload this certificate, check the clock"
            }
            Self::NotFederated => {
                "the app's credential is wrong: no federated credential of the app fits the token in the file"
            }
            Self::InvalidClient => "the app's credential is wrong",
            Self::UnknownApp => {
                "the app is not known in the call's tenant: check its id, or have an administrator consent"
            }
            Self::DisabledApp => "the app is disabled",
            Self::UnknownTenant => "Entra does not know the call's tenant: check the cloud",
            Self::Other => "Entra gives the app no token",
        }
    }
}

/// The ids by which one finds more, in brackets behind the meaning.
fn said(aadsts: Option<u32>, trace_id: Option<Uuid>) -> String {
    let code = aadsts.map_or_else(|| "Entra gave no AADSTS code".to_owned(), |code| format!("AADSTS{code}"));
    trace_id.map_or_else(|| code.clone(), |id| format!("{code}, trace id {id}"))
}

/// RFC 6749 section 5.1.
#[derive(Deserialize)]
struct TokenAnswer {
    token_type: String,
    access_token: String,
    expires_in: Value,
}

fn read_token(response: &GraphResponse, asked_at: Instant) -> Option<Token> {
    let answer: TokenAnswer = serde_json::from_slice(response.whole_body(BODY_BYTES_MAX)?).ok()?;
    // Entra's older endpoint says the number as a string.
    let expires_in = &answer.expires_in;
    let seconds = expires_in.as_u64().or_else(|| expires_in.as_str().and_then(|text| text.parse().ok()))?;
    // It becomes a header's value, so it may hold nothing else.
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&answer.access_token.len())
        && answer.access_token.bytes().all(|byte| byte.is_ascii_graphic());
    if !answer.token_type.eq_ignore_ascii_case("Bearer") || !is_token || seconds == 0 {
        return None;
    }
    let life = Duration::from_secs(seconds).min(LIFE_MAX);
    Some(Token {
        secret: Secret::new(answer.access_token),
        stale_at: asked_at + (life - STALE_BEFORE_MAX.min(life / 5)),
        dead_at: asked_at + (life - DEAD_BEFORE_MAX.min(life / 10)),
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
        _ => return TokenError::NotAToken { status },
    }
    let aadsts = aadsts(&document);
    TokenError::Refused {
        reason: TokenRefusal::of(aadsts, error),
        aadsts,
        trace_id: document.get("trace_id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()),
    }
}

/// The first of `error_codes`, else the number that the description begins with.
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

/// A token has 2 KiB, with many groups or roles several times as much.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// It becomes one header line; servers take 16 KiB of head at most.
const TOKEN_BYTES_MAX: usize = 15 * 1024;

/// Entra's live for an hour; ones for a day exist.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Renewed five minutes before the end, or at four fifths of a short life.
const STALE_BEFORE_MAX: Duration = Duration::from_secs(300);

/// Not used any more so shortly before the end that it could expire on its way.
const DEAD_BEFORE_MAX: Duration = Duration::from_secs(30);

/// A call must be answered within 15 s, so a longer one would serve nobody.
const FLIGHT_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection that hangs leaves time for another.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(4);

const ATTEMPTS_MAX: u32 = 3;
