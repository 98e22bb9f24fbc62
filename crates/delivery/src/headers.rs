//! The header fields of requests and responses: kept, removed, and added by the gateway.

mod trace_context;

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, RETRY_AFTER,
    },
};
use switchboard_routing::Name;
use uuid::Uuid;

/// Removes the fields that must not reach an instance: hop-by-hop fields, the fields that `Connection` names,
/// `Expect`, and all `Switchboard-*` fields. `Host` and `Content-Length` stay until they are replaced.
pub(crate) fn clean(headers: &mut HeaderMap, authorization: bool) {
    remove_named_by_connection(headers);
    // The vector allocates only when a name is found. The walk costs less than a look-up per name.
    let mut unwanted: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        if is_unwanted(name.as_str()) {
            unwanted.push(name.clone());
        }
    }
    for name in &unwanted {
        headers.remove(name);
    }
    if !authorization {
        headers.remove(AUTHORIZATION);
    }
}

/// The fields that the gateway adds to a request to an instance.
#[derive(Debug)]
pub(crate) struct GatewayHeaders<'a> {
    pub(crate) host: &'a HeaderValue,
    pub(crate) body_bytes: usize,
    pub(crate) callback_uri: Option<&'a HeaderValue>,
    pub(crate) call_id: Option<&'a str>,
    pub(crate) tenant: Uuid,
    pub(crate) app_id: &'a HeaderValue,
    pub(crate) region: &'a HeaderValue,
    pub(crate) instance: &'a HeaderValue,
    pub(crate) incarnation: &'a HeaderValue,
}

impl GatewayHeaders<'_> {
    /// Adds the fields to a cleaned map. Fields of these names were removed, or are replaced.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        // One growth instead of several; a new call adds two more, and a batch or an orphaned callback one.
        headers.reserve(13);
        headers.insert(HOST, self.host.clone());
        // Also for an empty body: without it some servers respond with 411 (RFC 9110, section 8.6).
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body_bytes));
        if let Some(uri) = self.callback_uri {
            headers.insert(&CALLBACK_URI, uri.clone());
        }
        if let Some(call_id) = self.call_id.and_then(call_id_value) {
            headers.insert(&CALL_ID, call_id);
        }
        headers.insert(&TENANT_ID, guid_value(self.tenant));
        headers.insert(&APP_ID, self.app_id.clone());
        headers.insert(&REGION, self.region.clone());
        headers.insert(&INSTANCE, self.instance.clone());
        headers.insert(&INCARNATION, self.incarnation.clone());
        trace_context::ensure(headers);
    }
}

/// Adds the number of the attempt of a new call.
pub(crate) fn add_attempt(headers: &mut HeaderMap, attempt: u32) {
    headers.insert(&ATTEMPT, HeaderValue::from(attempt));
}

/// Adds the time by which a new call must be answered.
pub(crate) fn add_deadline(headers: &mut HeaderMap, unix_ms: u64) {
    headers.insert(&DEADLINE, HeaderValue::from(unix_ms));
}

/// Adds the fields of a callback that is proxied to the gateway of another region.
pub(crate) fn add_proxied(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    body_bytes: usize,
    from: &HeaderValue,
) {
    headers.insert(HOST, host.clone());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body_bytes));
    headers.insert(&FORWARDED_FROM, from.clone());
    trace_context::ensure(headers);
}

/// The relation of an instance to the callback that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It owns the call: the seal names it.
    Owner,
    /// It probably owns the call: an item without a callback URI of this gateway.
    Unsealed,
    /// The owner is gone.
    Orphaned,
}

impl Mark {
    pub(crate) fn add_to(self, headers: &mut HeaderMap) {
        match self {
            Self::Owner => {}
            Self::Unsealed => {
                headers.insert(&UNSEALED, TRUE.clone());
            }
            Self::Orphaned => {
                headers.insert(&ORPHANED, TRUE.clone());
            }
        }
    }
}

/// The fields of a response that the platform receives; of a repeated field the first value.
///
/// `Content-Length` is not among them. An instance may announce a length that is not the body's (with a 204,
/// or beside chunks), and the sender would then read the next response as the rest of this one. The body
/// itself knows its length.
pub(crate) fn relayed(headers: &mut HeaderMap) -> HeaderMap {
    let mut relayed = HeaderMap::new();
    for name in [&CONTENT_TYPE, &CONTENT_ENCODING, &RETRY_AFTER, &CLIENT_REQUEST_ID, &SCENARIO_ID] {
        if let Some(value) = headers.remove(name) {
            relayed.insert(name, value);
        }
    }
    let of_bot = headers.keys().filter(|name| name.as_str().starts_with(BOT_PREFIX));
    // The vector allocates only when a name is found.
    for name in of_bot.cloned().collect::<Vec<_>>() {
        if let Some(value) = headers.remove(&name) {
            relayed.insert(name, value);
        }
    }
    relayed
}

/// The time for which an instance that responded with 429 asks to be left alone, at most [`RETRY_AFTER_MAX`]:
/// whole or decimal seconds of `Retry-After`, or the time from `Date` to its date, both of the clock of the
/// instance (RFC 9110 section 10.2.3). `None` without a valid time, or with zero.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse::<f64>() {
        // A NaN is not greater than zero, and the minimum of infinity and a number is the number.
        return (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64())));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    let time = date(after)?.duration_since(date(text(DATE)?)?).ok()?;
    (!time.is_zero()).then(|| time.min(RETRY_AFTER_MAX))
}

/// Removes the fields that `Connection` names: they belong to the connection on which the request arrived
/// (RFC 9110, section 7.6.1).
fn remove_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect();
    for name in &named {
        headers.remove(name);
    }
}

/// Returns true if a field must not reach an instance, whatever its value. Names are lower case, as in the
/// `http` crate.
fn is_unwanted(name: &str) -> bool {
    match name {
        // Hop-by-hop: RFC 9110, sections 7.6.1 and 11.7, RFC 9113, section 8.2.2, RFC 7540, section 3.2.1.
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings" => true,
        // The gateway already has the body.
        "expect" => true,
        _ => is_reserved(name),
    }
}

/// Returns true if only the gateway may set the field. Frameworks that pass fields as environment variables
/// cannot tell `_` from `-`, so any separator counts.
fn is_reserved(name: &str) -> bool {
    name.strip_prefix("switchboard")
        .is_some_and(|rest| !rest.starts_with(|first: char| first.is_ascii_alphanumeric()))
}

/// A call id as a field value, if it is valid as one. It comes from a body, so it may be any text.
fn call_id_value(call_id: &str) -> Option<HeaderValue> {
    let fits = !call_id.is_empty()
        && call_id.len() <= CALL_ID_BYTES_MAX
        && call_id.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { HeaderValue::from_str(call_id).ok() } else { None }
}

/// A call id for the log: only ids that are also sent as a field.
pub(crate) fn call_id_for_log(call_id: Option<&str>) -> Option<&str> {
    call_id.filter(|call_id| call_id_value(call_id).is_some())
}

/// A name as a field value.
pub(crate) fn name_value(name: &Name) -> HeaderValue {
    HeaderValue::from_str(name.as_str()).expect("a name is of A-Z a-z 0-9 . _ -")
}

/// A GUID as a field value.
pub(crate) fn guid_value(guid: Uuid) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    HeaderValue::from_str(guid.hyphenated().encode_lower(&mut buffer))
        .expect("a GUID is hex digits and dashes")
}

static CALLBACK_URI: HeaderName = HeaderName::from_static("switchboard-callback-uri");
static CALL_ID: HeaderName = HeaderName::from_static("switchboard-call-id");
static TENANT_ID: HeaderName = HeaderName::from_static("switchboard-tenant-id");
static APP_ID: HeaderName = HeaderName::from_static("switchboard-app-id");
static REGION: HeaderName = HeaderName::from_static("switchboard-region");
pub(crate) static INSTANCE: HeaderName = HeaderName::from_static("switchboard-instance");
/// In the response of a gateway to a request that a gateway sent to one of its instances.
pub static LOOP: HeaderName = HeaderName::from_static("switchboard-loop");
static INCARNATION: HeaderName = HeaderName::from_static("switchboard-incarnation");
static ATTEMPT: HeaderName = HeaderName::from_static("switchboard-attempt");
static DEADLINE: HeaderName = HeaderName::from_static("switchboard-deadline");
static UNSEALED: HeaderName = HeaderName::from_static("switchboard-unsealed");
pub(crate) static FORWARDED_FROM: HeaderName = HeaderName::from_static("switchboard-forwarded-from");
static ORPHANED: HeaderName = HeaderName::from_static("switchboard-orphaned");
/// Microsoft's correlation id of one request. Relayed from a response of an instance.
pub static CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
/// Microsoft's correlation id of one scenario: a call with everything done for it. Relayed likewise.
pub static SCENARIO_ID: HeaderName = HeaderName::from_static("scenario-id");
/// The start of the names of the fields in which a bot tells Microsoft its SDK and the tokens that it takes.
const BOT_PREFIX: &str = "x-microsoft-bot-";
static TRUE: HeaderValue = HeaderValue::from_static("true");

/// Real call ids are GUIDs of 36 characters. A longer text is not sent.
const CALL_ID_BYTES_MAX: usize = 256;
/// The longest `Retry-After` that is applied. A number that was meant as milliseconds, or for another client,
/// takes an instance out for a minute at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
