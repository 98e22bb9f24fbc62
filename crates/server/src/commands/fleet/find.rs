//! `fleet find`: the instance of a call.

use std::{
    cmp::Reverse,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::report::{FleetError, Report};
use crate::{
    commands::{
        gateways::{AdminClient, AskError, Gateways, RESPONSE_TIME},
        output::{json_safe, plain},
    },
    telemetry::Chain,
};

/// Asks all gateways for a call. The gateway that saw it last knows best.
pub(super) async fn find(gateways: &Gateways, id: &str, as_json: bool) -> Result<Report, FleetError> {
    // The only sign of a call id that a path does not carry as it is.
    let path = format!("/calls/{}", id.replace('%', "%25"));
    let responses = gateways.ask(&Method::GET, &path, RESPONSE_TIME).await;
    let (mut asked, mut seen, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (gateway, response) in gateways.iter().zip(responses) {
        let (found, error) = match response.and_then(|body| read(gateway, &body)) {
            Ok((found, call)) => {
                seen.extend(call.map(|call| (gateway.name(), call, found.call.clone())));
                (found, None)
            }
            Err(error) if gateways.is_one() => return Err(error.into()),
            Err(error) => (FoundAt::default(), Some(Chain(&error).to_string())),
        };
        problems.extend(error.clone());
        asked.push(AskedForCall { gateway: gateway.url(), error, found });
    }
    seen.sort_by_key(|(_, call, _)| Reverse(call.last_seen));
    let text = if as_json {
        let call = seen.first().and_then(|(_, _, written)| written.as_deref());
        let guess =
            if call.is_none() { asked.iter().find_map(|one| one.found.guess.as_deref()) } else { None };
        let document = FoundCall { call, guess, gateways: &asked };
        json_safe(&serde_json::to_string_pretty(&document).unwrap_or_default())
    } else if seen.is_empty() {
        guesses(&asked).join("\n")
    } else {
        let lines: Vec<_> = seen.iter().map(|(gateway, call, _)| call.line(gateway)).collect();
        lines.join("\n")
    };
    if seen.is_empty() && asked.iter().any(|one| one.error.is_none()) {
        problems.push(format!("no gateway remembers the call {id}"));
    }
    Ok(Report { text, problems, is_failed: seen.is_empty() })
}

/// Reads the response of a gateway, with the call that it remembers.
fn read(gateway: &AdminClient, body: &Bytes) -> Result<(FoundAt, Option<SeenCall>), AskError> {
    let found: FoundAt = gateway.read(body)?;
    let call = found.call.as_ref().map(|call| gateway.read(call.get().as_bytes())).transpose()?;
    Ok((found, call))
}

/// The instances that probably have the call: one line for each.
fn guesses(asked: &[AskedForCall<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    for guess in asked.iter().filter_map(|one| one.found.guess.as_deref()) {
        let line = format!("{}: guess, the call id ranks this instance first", plain(guess));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// The response of a gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct FoundAt {
    /// As the gateway wrote it.
    call: Option<Box<RawValue>>,
    guess: Option<String>,
}

/// A call that a gateway remembers. Lenient, since the gateway may be of another version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SeenCall {
    instance: String,
    state: Option<String>,
    placed_here: bool,
    first_seen: u64,
    last_seen: u64,
}

impl SeenCall {
    /// One line for people.
    pub(super) fn line(&self, gateway: &str) -> String {
        let state = self.state.as_deref().map_or_else(|| "state unknown".to_owned(), plain);
        let placed = if self.placed_here { ", which placed it" } else { "" };
        format!(
            "{}: {state}, first seen {}, last seen {}, remembered by {gateway}{placed}",
            plain(&self.instance),
            time(self.first_seen),
            time(self.last_seen)
        )
    }
}

/// A time in UTC.
fn time(unix_ms: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)).filter(|_| unix_ms <= YEAR_9999_MS);
    time.map_or_else(
        || "at an unknown time".to_owned(),
        |time| humantime::format_rfc3339_seconds(time).to_string(),
    )
}

/// The output for programs: `docs/admin.md` documents it.
#[derive(Serialize)]
struct FoundCall<'a> {
    call: Option<&'a RawValue>,
    guess: Option<&'a str>,
    gateways: &'a [AskedForCall<'a>],
}

#[derive(Serialize)]
struct AskedForCall<'a> {
    gateway: &'a str,
    error: Option<String>,
    #[serde(flatten)]
    found: FoundAt,
}

/// The last time that humantime writes.
const YEAR_9999_MS: u64 = 253_402_300_799_000;
