//! The Graph client of a bot, with or without a token.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use url::Url;
use uuid::Uuid;

use super::behaviour::ClientCredentials;
use crate::{
    client::{Client, ClientResponse, KeepAlive},
    issuer::DEFAULT_TENANT,
    server::printable,
};

/// A Graph client with the few requests that the bot needs.
#[derive(Debug)]
pub(super) struct GraphClient {
    platform: Url,
    client: Client,
    credentials: Option<ClientCredentials>,
    /// The token of each tenant, and the time until which it is used. The lock is held during a fetch, so
    /// that many waiters make one request.
    tokens: Mutex<HashMap<String, (String, Instant)>>,
}

impl GraphClient {
    pub(super) fn new(platform: Url, client: Client, credentials: Option<ClientCredentials>) -> Self {
        Self { platform, client, credentials, tokens: Mutex::default() }
    }

    /// Posts an action of a call. Retries temporary failures for a while; the error is the last failure.
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
            let result = self.request(Method::POST, &path, Some(body), tenant).await;
            let failure = match result {
                Ok(response) if response.status.is_success() => return Ok(()),
                Ok(response) => {
                    let status = response.status;
                    let failure = self.refusal(&response);
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

    /// Ends a call. A call that has already ended is not a failure.
    pub(super) async fn hang_up(&self, id: &str, tenant: Option<&str>) -> Result<(), String> {
        let path = format!("/v1.0/communications/calls/{id}");
        let response = self.request(Method::DELETE, &path, None, tenant).await?;
        let ended = response.status == StatusCode::NOT_FOUND;
        if ended || response.status.is_success() { Ok(()) } else { Err(self.refusal(&response)) }
    }

    async fn request(
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
        let response = self.client.send(request, &url, ATTEMPT_TIME_MAX, KeepAlive::On).await;
        response.map_err(|error| format!("the request to Graph at {} failed: {error}", self.platform))
    }

    /// Describes an error response of Graph, with a remedy if the bot knows one.
    fn refusal(&self, response: &ClientResponse) -> String {
        let document: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = |pointers: [&str; 2]| {
            let text = pointers.iter().find_map(|pointer| document.pointer(pointer)).and_then(Value::as_str);
            shown(text.unwrap_or("none"))
        };
        let (code, message) = (text(["/error/code", "/errorCode"]), text(["/error/message", "/message"]));
        let refusal = format!("Graph responded {} ({code}: {message})", response.status);
        match (response.status, &self.credentials) {
            (StatusCode::UNAUTHORIZED, None) => format!(
                "{refusal}; this bot sends no token: start it with the --app-id and the --secret of an app \
                 that the platform knows (serve --app-id GUID --secret TEXT)"
            ),
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                format!("{refusal}; the platform at {} does not accept the token of this bot", self.platform)
            }
            _ => refusal,
        }
    }

    /// Returns a token of the call's tenant. A token is used until shortly before it expires.
    pub(super) async fn token(&self, tenant: Option<&str>) -> Result<Option<String>, String> {
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
        let response = self
            .client
            .send(request, &url, ATTEMPT_TIME_MAX, KeepAlive::On)
            .await
            .map_err(|error| format!("the token request failed: {error}"))?;
        let document: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let token =
            document.get("access_token").and_then(Value::as_str).filter(|_| response.status.is_success());
        let Some(token) = token else {
            let why = ["error_description", "error"].iter().find_map(|name| document.get(name)?.as_str());
            // The rest of the text is for Microsoft's support.
            let why = why.unwrap_or("no error is named").split(" Trace ID").next().unwrap_or_default();
            return Err(format!("the token endpoint responded {} ({})", response.status, shown(why)));
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

/// Makes text of a response short and safe to print on one line.
fn shown(text: &str) -> String {
    printable(&text.chars().take(TEXT_LETTERS_MAX).collect::<String>())
}

const TEXT_LETTERS_MAX: usize = 300;
const ACT_TIME_MAX: Duration = Duration::from_secs(12);
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(3);
const ACT_PAUSE: Duration = Duration::from_millis(200);
const TENANTS_MAX: usize = 1_000;
