//! `TokenEndpoint`: requests a token from Entra by client credentials (Microsoft identity platform, "OAuth
//! 2.0 client credentials flow"; RFC 6749 section 4.4), or from the endpoint of a managed identity.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep, timeout_at};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use crate::{
    GraphMethod, GraphRequest, GraphSettings, ManagedIdentity, TokenError, Transport, TransportError,
    TransportErrorKind,
    address::below,
    credential::{CredentialKind, Proof},
    retry::{back_off, identity_back_off},
    token_response::{Token, read_error, read_identity_error, read_token},
    transport::{TOKEN_BODY_BYTES_MAX, USER_AGENT},
};

/// The token endpoint, with the settings of the app that requests tokens.
pub(crate) struct TokenEndpoint {
    settings: GraphSettings,
    transport: Arc<dyn Transport>,
}

impl TokenEndpoint {
    pub(crate) fn new(settings: GraphSettings, transport: Arc<dyn Transport>) -> Self {
        Self { settings, transport }
    }

    /// Fails if no token is to be had for `tenant`, whatever the network responds.
    pub(crate) fn serves(&self, tenant: Uuid) -> Result<(), TokenError> {
        match self.settings.only_tenant() {
            Some(identity) if identity != tenant => Err(TokenError::OtherTenant { identity }),
            Some(_) | None => Ok(()),
        }
    }

    /// Requests a token for `tenant`. It repeats the request if that can help, which is safe: a token request
    /// changes nothing.
    pub(crate) async fn request(&self, tenant: Uuid, now: SystemTime) -> Result<Token, TokenError> {
        let (attempts_max, back_off): (_, fn(u32) -> Duration) = match self.settings.credential.kind() {
            CredentialKind::Proof(_) => (ATTEMPTS_MAX, back_off),
            CredentialKind::FederatedIdentity(_) | CredentialKind::ManagedIdentity(..) => {
                (IDENTITY_ATTEMPTS_MAX, identity_back_off)
            }
        };
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
                | TokenError::OtherTenant { .. }
                | TokenError::InvalidResponse { .. }
                | TokenError::Interrupted => return Err(error),
            };
            if attempts >= attempts_max || Instant::now() + wait >= give_up_at {
                return Err(error);
            }
            sleep(wait).await;
        }
    }

    async fn attempt(&self, tenant: Uuid, now: SystemTime, give_up_at: Instant) -> Result<Token, TokenError> {
        let deadline = (Instant::now() + ATTEMPT_TIME_MAX).min(give_up_at);
        let timed_out =
            |_| TransportError { kind: TransportErrorKind::TimedOut, detail: "no response".to_owned() };
        timeout_at(deadline, self.exchange(tenant, now, deadline)).await.map_err(timed_out)?
    }

    async fn exchange(&self, tenant: Uuid, now: SystemTime, deadline: Instant) -> Result<Token, TokenError> {
        let GraphSettings { app, authority, resource, exchange, credential, .. } = &self.settings;
        let url = below(authority, &format!("{tenant}/oauth2/v2.0/token"));
        let proof = match credential.kind() {
            CredentialKind::Proof(source) => source.proof(*app, url.as_str(), now).await?,
            CredentialKind::FederatedIdentity(identity) => {
                Proof::Assertion(self.identity_token(identity, exchange, now, deadline).await?.secret)
            }
            CredentialKind::ManagedIdentity(identity, _) => {
                return self.identity_token(identity, resource, now, deadline).await;
            }
        };
        let sent_at = Instant::now();
        let response = self.transport.send(self.build(url, &proof, deadline)).await?;
        match response.status {
            200 => read_token(&response, sent_at, now).ok_or(TokenError::InvalidResponse { status: 200 }),
            _ => Err(read_error(&response, now)),
        }
    }

    async fn identity_token(
        &self,
        identity: &ManagedIdentity,
        resource: &str,
        now: SystemTime,
        deadline: Instant,
    ) -> Result<Token, TokenError> {
        let sent_at = Instant::now();
        let response = self.transport.send(identity.request(resource, deadline)).await?;
        match response.status {
            200 => read_token(&response, sent_at, now).ok_or(TokenError::InvalidResponse { status: 200 }),
            _ => Err(read_identity_error(&response, now)),
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
            body_bytes_max: TOKEN_BODY_BYTES_MAX,
        }
    }
}

/// A call must be answered within 15 s, so a token that takes longer is of no use.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// If a connection hangs, there is time for another.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(4);

const ATTEMPTS_MAX: u32 = 3;

/// With the waits of `identity_back_off` they fit into [`REQUEST_TIME_MAX`]. An update of the identity
/// endpoint may take 70 s; the next call, or the next renewal, asks again.
const IDENTITY_ATTEMPTS_MAX: u32 = 4;
