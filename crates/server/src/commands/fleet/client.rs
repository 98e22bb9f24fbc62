//! A client of the admin listener.

use std::{env, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use openssl::error::ErrorStack;
use serde::{Deserialize, de::DeserializeOwned};
use switchboard_auth::FetchError;
use url::Url;

use super::instance::{FleetInstance, plain};
use crate::{
    cli::AdminArgs,
    clients::{fetch::Fetcher, tls_client},
    config::{read_bounded, shown},
};

/// A client of the admin listener of one gateway.
pub(super) struct AdminClient<'a> {
    url: &'a Url,
    authorization: Option<HeaderValue>,
    fetcher: Fetcher,
}

impl<'a> AdminClient<'a> {
    pub(super) fn new(args: &'a AdminArgs) -> Result<Self, FleetError> {
        let fetcher = Fetcher::new(tls_client(None).map_err(FleetError::Tls)?.build());
        Ok(Self { url: &args.url, authorization: authorization(args)?, fetcher })
    }

    /// Sends a request and returns the body of a response with status 200.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Bytes, FleetError> {
        let mut url = self.url.clone();
        url.set_path(path);
        let authorization = self.authorization.clone();
        let (status, body) = self
            .fetcher
            .exchange(method, &url, authorization, RESPONSE_BYTES_MAX, RESPONSE_TIME)
            .await
            .map_err(|source| FleetError::Unreachable { url: self.url.to_string(), source })?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED if self.authorization.is_some() => Err(FleetError::TokenRejected),
            StatusCode::UNAUTHORIZED => Err(FleetError::TokenMissing),
            status => match serde_json::from_slice::<RefusedBody>(&body) {
                Ok(RefusedBody { error }) => Err(FleetError::Refused { message: plain(&error.message) }),
                Err(_) => {
                    Err(FleetError::ForeignServer { url: self.url.to_string(), status: status.as_u16() })
                }
            },
        }
    }

    /// The fleet, and the same as the gateway wrote it.
    pub(super) async fn fleet(&self) -> Result<(Vec<FleetInstance>, Bytes), FleetError> {
        let body = self.ask(Method::GET, "/fleet").await?;
        Ok((read(&body, self.url)?, body))
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

fn authorization(args: &AdminArgs) -> Result<Option<HeaderValue>, FleetError> {
    let token = match (&args.token_env, &args.token_file) {
        (Some(name), _) => {
            let problem = || FleetError::Token {
                option: "--token-env",
                problem: format!("the environment has no variable {name}"),
            };
            env::var(name).map_err(|_| problem())?
        }
        (None, Some(path)) => {
            let problem = |problem| FleetError::Token { option: "--token-file", problem };
            let bytes = read_bounded(path, TOKEN_FILE_BYTES_MAX)
                .map_err(|reason| problem(format!("{} cannot be read: {reason}", shown(path))))?;
            String::from_utf8(bytes).map_err(|_| problem(format!("{} is not text", shown(path))))?
        }
        (None, None) => return Ok(None),
    };
    let option = if args.token_env.is_some() { "--token-env" } else { "--token-file" };
    let problem = |problem: &str| FleetError::Token { option, problem: problem.to_owned() };
    let token = token.trim();
    if token.is_empty() {
        return Err(problem("the token is empty"));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| problem("the token has a character that no HTTP header can carry"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Reads a part of a fleet from JSON.
pub(super) fn read<T: DeserializeOwned>(body: &[u8], url: &Url) -> Result<T, FleetError> {
    serde_json::from_slice(body).map_err(|source| FleetError::InvalidFleet { url: url.to_string(), source })
}

/// An error of `switchboard fleet`, with what would be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum FleetError {
    #[error("{option}: {problem}")]
    Token { option: &'static str, problem: String },
    #[error("cannot set up TLS")]
    Tls(#[source] ErrorStack),
    #[error("cannot reach {url}; set --admin to the gateway's admin.address")]
    Unreachable { url: String, source: FetchError },
    #[error("the gateway requires its admin.token; pass it with --token-env NAME or --token-file FILE")]
    TokenMissing,
    #[error("the gateway rejects the token; pass its admin.token")]
    TokenRejected,
    #[error("the gateway refuses: {message}")]
    Refused { message: String },
    #[error(
        "{url} responds {status} and is not the admin listener of a gateway; set --admin to the gateway's \
         admin.address"
    )]
    ForeignServer { url: String, status: u16 },
    #[error("{url} does not respond with a fleet; set --admin to the gateway's admin.address")]
    InvalidFleet { url: String, source: serde_json::Error },
    #[error(
        "{instance} reports no call count, so the gateway cannot tell when it is empty; return \
         {{\"calls\":n}} from its probe, or drain it without --wait"
    )]
    NoCallCount { instance: String },
    #[error("{instance} no longer drains: it was resumed, or the gateway was restarted; drain it again")]
    Resumed { instance: String },
    #[error("{instance} left the fleet before it reported the end of its last call")]
    Left { instance: String },
}

/// The largest response. That for ten thousand instances has 5 MB.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
const RESPONSE_TIME: Duration = Duration::from_secs(10);
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;
