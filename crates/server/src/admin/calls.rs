//! `GET /calls`, `GET /calls/{id}`: the calls, as far as this gateway saw them.

use http::StatusCode;
use serde::Serialize;
use switchboard_notification::CallId;
use url::form_urlencoded;

use crate::{
    admin::{
        error::AdminError,
        response::{AdminResponse, json},
        state::AdminState,
    },
    observed::{FoundCalls, RememberedCall},
};

/// The calls that a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallsQuery {
    /// The start of the call id, the chain id or the message id.
    search: String,
    limit: usize,
}

impl CallsQuery {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, AdminError> {
        let (mut search, mut limit) = (None, None);
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let is_first = match &*name {
                "search" => search.replace(value.into_owned()).is_none(),
                "limit" => {
                    let number = value.parse().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
                    let message = format!("limit must be a whole number from 1 to {LIMIT_MAX}");
                    limit.replace(number.ok_or_else(|| bad("bad_limit", message))?).is_none()
                }
                _ => return Err(bad("bad_parameter", "the parameters are search and limit")),
            };
            if !is_first {
                return Err(bad("bad_parameter", "write each parameter once"));
            }
        }
        Ok(Self { search: search.unwrap_or_default(), limit: limit.unwrap_or(LIMIT) })
    }
}

/// Responds with the newest calls that match.
pub(super) fn calls(state: &AdminState, query: &CallsQuery, now_ms: u64) -> AdminResponse {
    let FoundCalls { calls, matched, remembered } =
        state.observed.calls().search(&query.search, query.limit, now_ms);
    json(StatusCode::OK, &CallsJson { calls, matched, remembered })
}

/// Responds with one call; `segment` is the part of the path that names it. For a call that is not
/// remembered, with the instance to which an item about it would go.
pub(super) fn call(state: &AdminState, segment: &str, now_ms: u64) -> Result<AdminResponse, AdminError> {
    let id = decoded(segment).and_then(|id| CallId::parse(id).ok());
    let id = id.ok_or_else(|| bad("bad_call_id", "the path must be /calls/ and the id of a call"))?;
    let call = state.observed.calls().find(id.as_str(), now_ms);
    let guess = if call.is_none() { guess(state, id.as_str()) } else { None };
    Ok(json(StatusCode::OK, &CallJson { call, guess }))
}

/// The instance that probably has the call, if it is the same for all apps.
fn guess(state: &AdminState, call_id: &str) -> Option<String> {
    let mut guesses = state.apps.iter().map(|app| state.delivery.probable_owner(call_id, *app));
    let first = guesses.next()??;
    guesses.all(|other| other.as_ref() == Some(&first)).then(|| first.as_str().to_owned())
}

/// Decodes a segment of a path (RFC 3986 section 2.1). An id may contain `%` itself, so one that does not
/// begin an escape stays. `None` if the result is not text.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let escaped = digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match escaped {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            Some(_) | None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn bad(code: &'static str, message: impl Into<std::borrow::Cow<'static, str>>) -> AdminError {
    AdminError::new(StatusCode::BAD_REQUEST, code, message)
}

#[derive(Serialize)]
struct CallsJson {
    calls: Vec<RememberedCall>,
    matched: usize,
    remembered: usize,
}

#[derive(Serialize)]
struct CallJson {
    call: Option<RememberedCall>,
    guess: Option<String>,
}

const LIMIT: usize = 100;
/// Some 150 KiB.
const LIMIT_MAX: usize = 500;
