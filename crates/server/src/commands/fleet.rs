//! `switchboard fleet`: the fleet of a running gateway, asked at its admin listener.

mod table;
#[cfg(test)]
mod tests;
mod wait;

use std::{env, process::ExitCode, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslMethod},
};
use serde::{Deserialize, de::DeserializeOwned};
use switchboard_auth::FetchError;
use tokio::time::timeout;
use url::Url;

use self::table::table;
use super::{FAILURE, complain, print};
use crate::{
    cli::{AdminArgs, EX_USAGE, FleetCommand},
    clients::fetch,
    config::{read_bounded, shown},
    telemetry::Chain,
};

/// `switchboard fleet`: list, drain, resume.
pub fn fleet(command: &FleetCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("the operating system refuses: {error}"), FAILURE),
    };
    match runtime.block_on(run(command)) {
        Ok(text) => print(&text),
        Err(trouble) => {
            let code = if matches!(trouble, Trouble::Token { .. }) { EX_USAGE } else { FAILURE };
            complain(&Chain(&trouble).to_string(), code)
        }
    }
}

/// What is printed.
async fn run(command: &FleetCommand) -> Result<String, Trouble> {
    match command {
        FleetCommand::List(args) => {
            let body = Desk::new(&args.admin)?.ask(Method::GET, "/fleet").await?;
            let fleet: Vec<Instance> = read(&body, &args.admin.url)?;
            Ok(if args.admin.json { text(&body) } else { table(&fleet) })
        }
        FleetCommand::Drain(args) => {
            let desk = Desk::new(&args.admin)?;
            let name = args.instance.as_str();
            let mut body = desk.ask(Method::POST, &format!("/fleet/{name}/drain")).await?;
            let mut instance: Instance = read(&body, &args.admin.url)?;
            if args.wait {
                (instance, body) = wait::until_empty(&desk, instance).await?;
            }
            Ok(match (args.admin.json, args.wait) {
                (true, _) => text(&body),
                (false, true) => format!("{name} is empty: its last call has ended"),
                (false, false) => format!("{name} takes no new calls; {}", instance.has()),
            })
        }
        FleetCommand::Resume(args) => {
            let name = args.instance.as_str();
            let desk = Desk::new(&args.admin)?;
            let body = desk.ask(Method::POST, &format!("/fleet/{name}/resume")).await?;
            let instance: Instance = read(&body, &args.admin.url)?;
            let Instance { state, reason, .. } = &instance;
            Ok(if args.admin.json {
                text(&body)
            } else {
                format!("{name} is not drained any more; it is {}: {}", plain(state), plain(reason))
            })
        }
    }
}

/// An instance, as `/fleet` tells of it. Lenient, since the gateway may be of another version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Instance {
    name: String,
    state: String,
    since_ms: u64,
    reason: String,
    calls: Option<u64>,
    calls_expected: Option<u64>,
    calls_counted: u64,
    capacity: Option<u64>,
    placed: u64,
    callbacks: u64,
    in_flight: u64,
    failures: std::collections::BTreeMap<String, u64>,
    last_probe_ms: Option<u64>,
}

impl Instance {
    /// What it still has to do, in words.
    fn has(&self) -> String {
        let requests = match self.in_flight {
            0 => String::new(),
            one_or_more => format!(", {} under way", counted(one_or_more, "request")),
        };
        match (self.calls_now(), self.calls_counted) {
            (Some(calls), _) => format!("{}{requests}", counted(calls, "call")),
            (None, 0) => format!("an unknown number of calls{requests}"),
            (None, placed) => format!(
                "{} placed by this gateway, and nobody says how many others{requests}",
                counted(placed, "call")
            ),
        }
    }

    /// Its calls as reported, with what the gateway has placed and seen end since. `None` if it reports none.
    fn calls_now(&self) -> Option<u64> {
        // A gateway of an earlier version does not say what it expects.
        self.calls.map(|calls| self.calls_expected.unwrap_or(calls))
    }
}

/// The way to the admin listener of one gateway.
struct Desk<'a> {
    url: &'a Url,
    authorization: Option<HeaderValue>,
    tls: SslConnector,
}

impl<'a> Desk<'a> {
    fn new(args: &'a AdminArgs) -> Result<Self, Trouble> {
        let builder = SslConnector::builder(SslMethod::tls_client()).map_err(Trouble::Tls)?;
        Ok(Self { url: &args.url, authorization: authorization(args)?, tls: builder.build() })
    }

    /// The body of the answer, if it is 200.
    async fn ask(&self, method: Method, path: &str) -> Result<Bytes, Trouble> {
        let mut url = self.url.clone();
        url.set_path(path);
        let asked = fetch::ask(&self.tls, method, &url, self.authorization.clone(), ANSWER_BYTES_MAX);
        let asked = timeout(ANSWER_TIME, asked).await.unwrap_or_else(|_| {
            Err(FetchError {
                kind: "timeout",
                detail: format!("no whole answer in {} s", ANSWER_TIME.as_secs()),
            })
        });
        let (status, body) =
            asked.map_err(|source| Trouble::Unreachable { url: self.url.to_string(), source })?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED if self.authorization.is_some() => Err(Trouble::WrongToken),
            StatusCode::UNAUTHORIZED => Err(Trouble::NoToken),
            status => match serde_json::from_slice::<Refused>(&body) {
                Ok(Refused { error }) => Err(Trouble::Refused { message: plain(&error.message) }),
                Err(_) => Err(Trouble::NoGateway { url: self.url.to_string(), status: status.as_u16() }),
            },
        }
    }

    async fn fleet(&self) -> Result<(Vec<Instance>, Bytes), Trouble> {
        let body = self.ask(Method::GET, "/fleet").await?;
        Ok((read(&body, self.url)?, body))
    }
}

/// `{"error":{"code":…,"message":…}}`
#[derive(Deserialize)]
struct Refused {
    error: RefusedDetail,
}

#[derive(Deserialize)]
struct RefusedDetail {
    message: String,
}

fn authorization(args: &AdminArgs) -> Result<Option<HeaderValue>, Trouble> {
    let token = match (&args.token_env, &args.token_file) {
        (Some(name), _) => {
            let problem =
                || Trouble::Token { option: "--token-env", problem: format!("there is no variable {name}") };
            env::var(name).map_err(|_| problem())?
        }
        (None, Some(path)) => {
            let problem = |problem| Trouble::Token { option: "--token-file", problem };
            let bytes = read_bounded(path, TOKEN_FILE_BYTES_MAX)
                .map_err(|reason| problem(format!("{} cannot be read: {reason}", shown(path))))?;
            String::from_utf8(bytes).map_err(|_| problem(format!("{} is not text", shown(path))))?
        }
        (None, None) => return Ok(None),
    };
    let option = if args.token_env.is_some() { "--token-env" } else { "--token-file" };
    let problem = |problem: &str| Trouble::Token { option, problem: problem.to_owned() };
    let token = token.trim();
    if token.is_empty() {
        return Err(problem("the token is empty"));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| problem("the token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn read<T: DeserializeOwned>(body: &[u8], url: &Url) -> Result<T, Trouble> {
    serde_json::from_slice(body).map_err(|source| Trouble::NotAFleet { url: url.to_string(), source })
}

/// The gateway's own words, without the line break at their end.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end().to_owned()
}

/// Text of a server, fit for a terminal: no control characters, not endless.
fn plain(text: &str) -> String {
    text.chars().take(PLAIN_MAX).map(|sign| if sign.is_control() { '?' } else { sign }).collect()
}

fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Why it did not work, and what would.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{option}: {problem}")]
    Token { option: &'static str, problem: String },
    #[error("no TLS client")]
    Tls(#[source] ErrorStack),
    #[error("cannot reach {url}; --admin is the gateway's admin.address")]
    Unreachable { url: String, source: FetchError },
    #[error("this needs the gateway's admin.token; give it with --token-env NAME or --token-file FILE")]
    NoToken,
    #[error("that is not the gateway's admin.token")]
    WrongToken,
    #[error("refused: {message}")]
    Refused { message: String },
    #[error(
        "{url} answers {status} and is no admin listener of a gateway; --admin is the gateway's admin.address"
    )]
    NoGateway { url: String, status: u16 },
    #[error("{url} does not answer with a fleet; --admin is the gateway's admin.address")]
    NotAFleet { url: String, source: serde_json::Error },
    #[error(
        "{instance} does not say how many calls it has: this gateway knows of none, but nobody can tell whether it has calls \
         that others placed or that began before a restart; let its probe answer {{\"calls\":n}}, or drain without --wait"
    )]
    Untold { instance: String },
    #[error(
        "{instance} is not drained any more: it was resumed, or the gateway has been restarted; drain it again"
    )]
    Resumed { instance: String },
    #[error("{instance} has left the fleet before it said that its last call has ended")]
    Left { instance: String },
}

/// The answer for ten thousand instances has 5 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const ANSWER_TIME: Duration = Duration::from_secs(10);
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;
const PLAIN_MAX: usize = 500;
