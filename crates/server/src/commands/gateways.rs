//! `Gateways`: the gateways that a command asks, each through its admin listener.

use std::{env, panic::resume_unwind, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use openssl::error::ErrorStack;
use serde::{Deserialize, de::DeserializeOwned};
use switchboard_auth::FetchError;
use tokio::time::timeout;
use url::Url;

use super::output::plain;
use crate::{
    cli::{AdminArgs, Given, GivenBy},
    clients::{
        fetch::{FetchStream, Fetcher},
        tls_client,
    },
    config::{read_bounded, shown},
};

/// The gateways that a command asks; at least one.
#[derive(Debug)]
pub(super) struct Gateways(Vec<Arc<AdminClient>>);

impl Gateways {
    pub(super) fn new(args: &AdminArgs) -> Result<Self, AskError> {
        let fetcher = Fetcher::new(tls_client(None).map_err(AskError::Tls)?.build());
        let authorization = authorization(args)?;
        let gateways = args.gateways();
        let is_one = gateways.len() == 1;
        let client = |gateway| {
            let (authorization, fetcher) = (authorization.clone(), fetcher.clone());
            Arc::new(AdminClient { names: GatewayNames::new(gateway, is_one), authorization, fetcher })
        };
        Ok(Self(gateways.into_iter().map(client).collect()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<AdminClient>> {
        self.0.iter()
    }

    /// Returns true if there is one gateway. Its responses are shown as they are.
    pub(super) fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    pub(super) fn get(&self, index: usize) -> Option<&AdminClient> {
        self.0.get(index).map(|client| &**client)
    }

    /// The short names of these gateways, for people.
    pub(super) fn names(&self, indices: impl IntoIterator<Item = usize>) -> String {
        let names = indices.into_iter().filter_map(|index| self.get(index)).map(AdminClient::name);
        names.collect::<Vec<_>>().join(", ")
    }

    /// Sends a request to all gateways at once. Returns the bodies of responses with status 200, in the order
    /// of the gateways.
    pub(super) async fn ask(
        &self,
        method: &Method,
        path: &str,
        limit: Duration,
    ) -> Vec<Result<Bytes, AskError>> {
        let requests: Vec<_> = self
            .iter()
            .map(|client| {
                let (client, method, path) = (Arc::clone(client), method.clone(), path.to_owned());
                tokio::spawn(async move { client.ask(method, &path, limit).await })
            })
            .collect();
        let mut responses = Vec::new();
        for request in requests {
            // Not cancelled, so it panicked.
            responses.push(request.await.unwrap_or_else(|error| resume_unwind(error.into_panic())));
        }
        responses
    }

    /// The same, with the bodies read from JSON, and as the gateways wrote them.
    pub(super) async fn ask_json<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        limit: Duration,
    ) -> Vec<Result<(T, Bytes), AskError>> {
        let responses = self.ask(method, path, limit).await;
        let read = |(response, client): (Result<Bytes, _>, &Arc<AdminClient>)| {
            response.and_then(|body| Ok((client.read(&body)?, body)))
        };
        responses.into_iter().zip(self.iter()).map(read).collect()
    }
}

/// A client of the admin listener of one gateway.
#[derive(Debug)]
pub(super) struct AdminClient {
    names: GatewayNames,
    authorization: Option<HeaderValue>,
    fetcher: Fetcher,
}

impl AdminClient {
    /// Host and port, for people.
    pub(super) fn name(&self) -> &str {
        self.names.url.authority()
    }

    /// The URL without the slash at its end, for programs.
    pub(super) fn url(&self) -> &str {
        self.names.url.as_str().trim_end_matches('/')
    }

    /// Opens a stream of server-sent events.
    pub(super) async fn stream(
        &self,
        path: &str,
        query: &str,
        last_event_id: Option<HeaderValue>,
    ) -> Result<FetchStream, AskError> {
        let mut url = self.names.url.clone();
        url.set_path(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let stream = self.fetcher.stream(&url, self.authorization.clone(), last_event_id, RESPONSE_TIME);
        let mut stream = stream.await.map_err(|source| self.unreachable(source))?;
        if stream.status() == StatusCode::OK {
            return Ok(stream);
        }
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(part)) = stream.next(RESPONSE_TIME).await
                && body.len() < REFUSAL_BYTES_MAX
            {
                body.extend_from_slice(&part);
            }
        };
        // What has arrived by then says enough.
        let _ = timeout(RESPONSE_TIME, read).await;
        Err(self.refused(stream.status(), &body))
    }

    /// Sends a request and returns the body of a response with status 200.
    async fn ask(&self, method: Method, path: &str, limit: Duration) -> Result<Bytes, AskError> {
        let mut url = self.names.url.clone();
        url.set_path(path);
        let authorization = self.authorization.clone();
        let (status, body) = self
            .fetcher
            .exchange(method, &url, authorization, RESPONSE_BYTES_MAX, limit)
            .await
            .map_err(|source| self.unreachable(source))?;
        if status == StatusCode::OK { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    /// Reads a response from JSON.
    pub(super) fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, AskError> {
        serde_json::from_slice(body).map_err(|source| {
            let GatewayNames { url, advice, .. } = &self.names;
            AskError::Unreadable { url: url.to_string(), advice, source }
        })
    }

    /// The error of a connection to this gateway.
    pub(super) fn unreachable(&self, source: FetchError) -> AskError {
        let GatewayNames { url, advice, .. } = &self.names;
        AskError::Unreachable { url: url.to_string(), advice, source }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> AskError {
        let GatewayNames { url, gateway, advice } = &self.names;
        let gateway = gateway.clone();
        match status {
            StatusCode::UNAUTHORIZED if self.authorization.is_some() => AskError::TokenRejected { gateway },
            StatusCode::UNAUTHORIZED => AskError::TokenMissing { gateway },
            status => match serde_json::from_slice::<RefusedBody>(body) {
                Ok(RefusedBody { error }) => AskError::Refused {
                    gateway,
                    message: plain(&error.message),
                    is_busy: status == StatusCode::SERVICE_UNAVAILABLE,
                },
                Err(_) => AskError::ForeignServer { url: url.to_string(), status: status.as_u16(), advice },
            },
        }
    }
}

/// The names of a gateway in messages.
#[derive(Debug)]
struct GatewayNames {
    url: Url,
    /// `the gateway`, with its URL if there are several.
    gateway: String,
    /// The remedy if the URL is wrong. It depends on the source of the URL.
    advice: &'static str,
}

impl GatewayNames {
    fn new(Given { value: url, by }: Given<Url>, is_one: bool) -> Self {
        let gateway = if is_one {
            "the gateway".to_owned()
        } else {
            format!("the gateway {}", url.as_str().trim_end_matches('/'))
        };
        let advice = match by {
            GivenBy::Option => "set --admin to the gateway's admin.address",
            GivenBy::Variable => "set the variable SWITCHBOARD_ADMIN to the gateway's admin.address",
            GivenBy::Default => {
                "this is the default; set --admin or SWITCHBOARD_ADMIN to the gateway's admin.address"
            }
        };
        Self { url, gateway, advice }
    }
}

/// `{"error":{"code":…,"message":…}}`
#[derive(Deserialize)]
struct RefusedBody {
    error: RefusedDetail,
}

#[derive(Deserialize)]
struct RefusedDetail {
    message: String,
}

fn authorization(args: &AdminArgs) -> Result<Option<HeaderValue>, AskError> {
    let token = match (&args.token_env, &args.token_file) {
        (Some(name), _) => {
            let problem = || AskError::Token {
                option: "--token-env",
                problem: format!("the environment has no variable {name}"),
            };
            env::var(name).map_err(|_| problem())?
        }
        (None, Some(path)) => {
            let problem = |problem| AskError::Token { option: "--token-file", problem };
            let bytes = read_bounded(path, TOKEN_FILE_BYTES_MAX)
                .map_err(|reason| problem(format!("{} cannot be read: {reason}", shown(path))))?;
            String::from_utf8(bytes).map_err(|_| problem(format!("{} is not text", shown(path))))?
        }
        (None, None) => return Ok(None),
    };
    let option = if args.token_env.is_some() { "--token-env" } else { "--token-file" };
    let problem = |problem: &str| AskError::Token { option, problem: problem.to_owned() };
    let token = token.trim();
    if token.is_empty() {
        return Err(problem("the token is empty"));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| problem("the token has a character that no HTTP header can carry"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The error of a request to a gateway, with what would be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{option}: {problem}")]
    Token { option: &'static str, problem: String },
    #[error("cannot set up TLS")]
    Tls(#[source] ErrorStack),
    #[error("cannot reach {url}; {advice}")]
    Unreachable { url: String, advice: &'static str, source: FetchError },
    #[error("{gateway} requires its admin.token; pass it with --token-env NAME or --token-file FILE")]
    TokenMissing { gateway: String },
    #[error("{gateway} rejects the token; pass its admin.token")]
    TokenRejected { gateway: String },
    #[error("{gateway} refuses: {message}")]
    Refused { gateway: String, message: String, is_busy: bool },
    #[error("{url} responds {status} and is not the admin listener of a gateway; {advice}")]
    ForeignServer { url: String, status: u16, advice: &'static str },
    #[error("{url} does not respond with a fleet or a call; {advice}")]
    Unreadable { url: String, advice: &'static str, source: serde_json::Error },
}

impl AskError {
    /// Returns true if a later attempt may succeed although nothing is changed here.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { is_busy, .. } => *is_busy,
            Self::Token { .. }
            | Self::Tls(_)
            | Self::TokenMissing { .. }
            | Self::TokenRejected { .. }
            | Self::ForeignServer { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}

/// The time of a response of a gateway.
pub(super) const RESPONSE_TIME: Duration = Duration::from_secs(10);
/// The largest response. That for ten thousand instances has 5 MB.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Enough for the refusal of a stream.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;
