//! What a bot asks Graph for, with or without a token.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use url::Url;
use uuid::Uuid;

use super::behaviour::ClientCredentials;
use crate::{
    call::DEFAULT_TENANT,
    client::{Client, ClientResponse, KeepAlive},
    server::printable,
};

/// A Graph client that is as small as a bot of this size needs.
#[derive(Debug)]
pub(super) struct Graph {
    platform: Url,
    client: Client,
    credentials: Option<ClientCredentials>,
    /// By tenant. Held while one is fetched, so that many waiters make one request.
    tokens: Mutex<HashMap<String, (String, Instant)>>,
}

impl Graph {
    pub(super) fn new(platform: Url, client: Client, credentials: Option<ClientCredentials>) -> Self {
        Self { platform, client, credentials, tokens: Mutex::default() }
    }

    /// Posts an action of a call, again while the outcome is a passing fault; the error says why it failed.
    pub(super) async fn act(
        &self,
        id: &str,
        action: &str,
        body: &Value,
        tenant: Option<&str>,
    ) -> Result<(), String> {
        let give_up = Instant::now() + ACT_TIME_MAX;
        loop {
            let path = format!("/v1.0/communications/calls/{id}/{action}");
            let result = self.ask(Method::POST, &path, Some(body), tenant).await;
            let failure = match result {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => {
                    let status = answer.status;
                    let failure = self.refused(&answer);
                    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
                        return Err(failure);
                    }
                    failure
                }
                Err(failure) => failure,
            };
            if Instant::now() + ACT_PAUSE >= give_up {
                return Err(failure);
            }
            sleep(ACT_PAUSE).await;
        }
    }

    pub(super) async fn hang_up(&self, id: &str, tenant: Option<&str>) -> Result<(), String> {
        let path = format!("/v1.0/communications/calls/{id}");
        let answer = self.ask(Method::DELETE, &path, None, tenant).await?;
        // The call may be over already; nobody would want to know.
        let over = answer.status == StatusCode::NOT_FOUND;
        if over || answer.status.is_success() { Ok(()) } else { Err(self.refused(&answer)) }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        tenant: Option<&str>,
    ) -> Result<ClientResponse, String> {
        let url = self.platform.join(path).map_err(|error| error.to_string())?;
        let mut request = Request::builder().method(method).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = self.token(tenant).await? {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = self.client.send(request, &url, TRY_TIME_MAX, KeepAlive::On).await;
        answer.map_err(|error| format!("no answer of Graph at {}: {error}", self.platform))
    }

    /// What Graph says, and what would be right where the bot knows.
    fn refused(&self, answer: &ClientResponse) -> String {
        let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |pointers: [&str; 2]| {
            let text = pointers.iter().find_map(|pointer| document.pointer(pointer)).and_then(Value::as_str);
            shown(text.unwrap_or("nothing"))
        };
        let (code, message) = (text(["/error/code", "/errorCode"]), text(["/error/message", "/message"]));
        let said = format!("Graph answered {} ({code}: {message})", answer.status);
        match (answer.status, &self.credentials) {
            (StatusCode::UNAUTHORIZED, None) => format!(
                "{said}; this bot sends no token: start it with --app-id and --secret, which the platform must know \
                 (serve --app-id GUID --secret TEXT)"
            ),
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                format!("{said}; its token is not, or no longer, one of the platform at {}", self.platform)
            }
            _ => said,
        }
    }

    /// A token of the call's tenant, used until shortly before it expires.
    async fn token(&self, tenant: Option<&str>) -> Result<Option<String>, String> {
        let Some(ClientCredentials { app, secret }) = &self.credentials else { return Ok(None) };
        let default = DEFAULT_TENANT.to_string();
        let tenant = tenant.filter(|tenant| Uuid::try_parse(tenant).is_ok()).unwrap_or(&default);
        let mut tokens = self.tokens.lock().await;
        if let Some((token, until)) = tokens.get(tenant)
            && Instant::now() < *until
        {
            return Ok(Some(token.clone()));
        }
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", app)
            .append_pair("client_secret", secret)
            .append_pair("scope", "https://graph.microsoft.com/.default")
            .finish();
        let url =
            self.platform.join(&format!("/{tenant}/oauth2/v2.0/token")).map_err(|error| error.to_string())?;
        let request = Request::post("/")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .send(request, &url, TRY_TIME_MAX, KeepAlive::On)
            .await
            .map_err(|error| format!("no token: {error}"))?;
        let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token =
            document.get("access_token").and_then(Value::as_str).filter(|_| answer.status.is_success());
        let Some(token) = token else {
            let why = ["error_description", "error"].iter().find_map(|name| document.get(name)?.as_str());
            // What follows is for Microsoft's support.
            let why = why.unwrap_or("no error is named").split(" Trace ID").next().unwrap_or_default();
            return Err(format!("no token: the token endpoint answered {} ({})", answer.status, shown(why)));
        };
        let seconds = document.get("expires_in").and_then(Value::as_u64).unwrap_or(0).min(86_400);
        let until = Instant::now() + Duration::from_secs(seconds.saturating_sub(60));
        if tokens.len() >= TENANTS_MAX {
            tokens.clear();
        }
        tokens.insert(tenant.to_owned(), (token.to_owned(), until));
        Ok(Some(token.to_owned()))
    }
}

/// Text of an answer, fit for a line.
fn shown(text: &str) -> String {
    printable(&text.chars().take(TEXT_LETTERS_MAX).collect::<String>())
}

/// The body of `answer`, and of the action that asks a gateway for it.
pub(super) fn answer_body(delta_roster: bool, participant_capacity: Option<u32>) -> Value {
    let mut body = json!({
        "acceptedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
    });
    if let Some(members) = body.as_object_mut() {
        if delta_roster {
            let options =
                json!({"@odata.type": "#microsoft.graph.incomingCallOptions", "isDeltaRosterEnabled": true});
            members.insert("callOptions".to_owned(), options);
        }
        if let Some(capacity) = participant_capacity {
            members.insert("participantCapacity".to_owned(), capacity.into());
        }
    }
    body
}

pub(super) fn reject_body() -> Value {
    json!({"reason": "busy"})
}

/// To a user that nobody knows.
pub(super) fn redirect_body() -> Value {
    json!({"targets": [{
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "identity": {
            "@odata.type": "#microsoft.graph.identitySet",
            "user": {
                "@odata.type": "#microsoft.graph.identity",
                "id": "0a0a0a0a-1111-4aaa-8bbb-000000000002",
            },
        },
    }]})
}

const TEXT_LETTERS_MAX: usize = 300;
const ACT_TIME_MAX: Duration = Duration::from_secs(12);
const TRY_TIME_MAX: Duration = Duration::from_secs(3);
const ACT_PAUSE: Duration = Duration::from_millis(200);
const TENANTS_MAX: usize = 1_000;
