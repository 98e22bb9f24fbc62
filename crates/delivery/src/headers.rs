//! The header fields of requests and responses: kept, removed, and added by the gateway.

pub(crate) mod trace_context;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, RETRY_AFTER,
    },
    uri::PathAndQuery,
};
use switchboard_routing::{Name, NameRef, Owner};
use uuid::Uuid;

use crate::{
    headers::trace_context::TraceParent,
    trace::{OpenAttempt, UpstreamTrace},
    upstream_url::UpstreamUrl,
};

/// A request, ready to be sent: a clone of it costs no copy. It has no `Debug`, since it may have a token.
#[derive(Clone)]
pub(crate) struct UpstreamRequest {
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
    /// Set if spans of the attempts are recorded.
    pub(crate) trace: Option<Arc<UpstreamTrace>>,
}

impl UpstreamRequest {
    /// Notes the start of an attempt to send the request, and adds its span to the head. `None` without a
    /// trace.
    pub(crate) fn start_attempt(&mut self, url: &UpstreamUrl) -> Option<OpenAttempt> {
        let (attempt, span) = self.trace.as_ref()?.start(url);
        let fields = self.head.strip_suffix(b"\r\n").unwrap_or(&self.head);
        let mut head = RequestHead(fields.to_vec());
        head.add(&trace_context::TRACEPARENT, &trace_context::value_of(span));
        head.0.extend_from_slice(b"\r\n");
        self.head = Bytes::from(head.0);
        Some(attempt)
    }
}

/// The head of a request to an upstream, written field by field.
pub(crate) struct RequestHead(Vec<u8>);

impl RequestHead {
    pub(crate) fn post(target: &PathAndQuery, host: &HeaderValue) -> Self {
        Self::new("POST ", target, host)
    }

    pub(crate) fn get(target: &PathAndQuery, host: &HeaderValue) -> Self {
        Self::new("GET ", target, host)
    }

    fn new(method: &str, target: &PathAndQuery, host: &HeaderValue) -> Self {
        let mut head = Self(Vec::with_capacity(HEAD_BYTES));
        for part in [method, target.as_str(), " HTTP/1.1\r\n"] {
            head.0.extend_from_slice(part.as_bytes());
        }
        head.add(&HOST, host);
        head
    }

    /// Adds a field.
    pub(crate) fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.add_bytes(name, value.as_bytes());
    }

    /// Adds a field whose value is visible ASCII.
    fn add_bytes(&mut self, name: &HeaderName, value: &[u8]) {
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// Adds the fields of a received request that may reach an upstream, with a valid `traceparent`.
    ///
    /// Left out are the hop-by-hop fields, also the ones that `Connection` names (they belong to the
    /// connection on which the request arrived, RFC 9110, section 7.6.1), `Expect`, `Host` and
    /// `Content-Length`, which are the gateway's, and all `Switchboard-*` fields.
    ///
    /// `span` is that of the request. If it is recorded, each attempt adds a `traceparent` of its own.
    pub(crate) fn add_received(
        &mut self,
        headers: &HeaderMap,
        authorization: bool,
        span: Option<TraceParent>,
    ) {
        let hop_by_hop = named_by_connection(headers);
        let is_kept = |name: &HeaderName| {
            !is_unwanted(name.as_str())
                && (authorization || name != AUTHORIZATION)
                && !hop_by_hop.iter().any(|one| one == name)
        };
        let mut trace = trace_context::received(headers, is_kept);
        if span.is_some_and(|span| span.is_sampled) {
            trace = trace.recorded();
        }
        for (name, value) in headers {
            if is_kept(name) && !trace.replaces(name) {
                self.add(name, value);
            }
        }
        if let Some(parent) = trace.new_parent(span) {
            self.add(&trace_context::TRACEPARENT, &parent);
        }
    }

    /// Adds the number of the attempt of a new call.
    pub(crate) fn add_attempt(&mut self, attempt: u32) {
        self.add(&ATTEMPT, &HeaderValue::from(attempt));
    }

    /// Adds the time by which a new call must be answered.
    pub(crate) fn add_deadline(&mut self, unix_ms: u64) {
        self.add(&DEADLINE, &HeaderValue::from(unix_ms));
    }

    /// Adds the region from which a callback is proxied to the gateway of another one.
    pub(crate) fn add_forwarded_from(&mut self, region: &HeaderValue) {
        self.add(&FORWARDED_FROM, region);
    }

    /// Adds the fields that are the same in all requests to an instance about an app.
    pub(crate) fn add_instance(&mut self, fields: &InstanceFields) {
        self.0.extend_from_slice(&fields.0);
    }

    /// Adds the call and its tenant.
    pub(crate) fn add_call(&mut self, call_id: Option<&str>, tenant: Uuid) {
        if let Some(call_id) = sendable_call_id(call_id) {
            self.add_bytes(&CALL_ID, call_id.as_bytes());
        }
        let mut buffer = Uuid::encode_buffer();
        let tenant = tenant.hyphenated().encode_lower(&mut buffer);
        self.add_bytes(&TENANT_ID, tenant.as_bytes());
    }

    /// Adds the incarnation of the instance that the request is about.
    pub(crate) fn add_incarnation(&mut self, incarnation: NameRef<'_>) {
        self.add_bytes(&INCARNATION, incarnation.as_str().as_bytes());
    }

    /// The request with this head and `body`.
    pub(crate) fn with_body(mut self, body: Bytes) -> UpstreamRequest {
        // Also for an empty body: without it some servers respond with 411 (RFC 9110, section 8.6).
        self.add(&CONTENT_LENGTH, &HeaderValue::from(body.len()));
        UpstreamRequest { body, ..self.without_body() }
    }

    /// The request with this head, whose method has no body.
    pub(crate) fn without_body(mut self) -> UpstreamRequest {
        self.0.extend_from_slice(b"\r\n");
        UpstreamRequest { head: Bytes::from(self.0), body: Bytes::new(), trace: None }
    }
}

/// The fields that are the same in all requests to an instance about an app, as bytes.
#[derive(Debug)]
pub(crate) struct InstanceFields(pub(crate) Vec<u8>);

impl InstanceFields {
    pub(crate) fn new(owner: &Owner, app: Uuid, callback_uri: &str) -> Self {
        let mut head = RequestHead(Vec::new());
        // Its alphabet has no other characters.
        if let Ok(uri) = HeaderValue::from_str(callback_uri) {
            head.add(&CALLBACK_URI, &uri);
        }
        let mut buffer = Uuid::encode_buffer();
        head.add_bytes(&APP_ID, app.hyphenated().encode_lower(&mut buffer).as_bytes());
        head.add_bytes(&REGION, owner.region.as_str().as_bytes());
        head.add_bytes(&INSTANCE, owner.instance.as_str().as_bytes());
        head.0.shrink_to_fit();
        Self(head.0)
    }
}

impl TraceParent {
    /// The only valid `traceparent` of a received request, unless `Connection` names the field.
    pub fn received(headers: &HeaderMap) -> Option<Self> {
        let hop_by_hop = named_by_connection(headers);
        trace_context::parent_of(headers, |name| !hop_by_hop.contains(name))
    }
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
    pub(crate) fn add_to(self, head: &mut RequestHead) {
        match self {
            Self::Owner => {}
            Self::Unsealed => head.add(&UNSEALED, &TRUE),
            Self::Orphaned => head.add(&ORPHANED, &TRUE),
        }
    }
}

/// Returns true if the platform receives a field of a response. The name may have any case.
pub(crate) fn is_relayed(name: &str) -> bool {
    let is = |one: &HeaderName| name.eq_ignore_ascii_case(one.as_str());
    let has_prefix =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
    [&CONTENT_TYPE, &CONTENT_ENCODING, &RETRY_AFTER, &CLIENT_REQUEST_ID, &SCENARIO_ID].into_iter().any(is)
        || has_prefix(BOT_PREFIX)
}

/// The fields of a response that the platform receives; of a repeated field the first value.
///
/// `Content-Length` is not among them. An instance may announce a length that is not the body's (with a 204,
/// or beside chunks), and the sender would then read the next response as the rest of this one. The body
/// itself knows its length.
pub(crate) fn relayed(mut headers: HeaderMap) -> HeaderMap {
    if headers.keys().all(|name| is_relayed(name.as_str())) && headers.len() == headers.keys_len() {
        return headers;
    }
    // Of a repeated field only the first value comes with the name.
    let fields = headers.drain().filter_map(|(name, value)| Some((name?, value)));
    fields.filter(|(name, _)| is_relayed(name.as_str())).collect()
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

/// The fields that `Connection` names. The vector allocates only when there is one.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
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
        // The gateway already has the body, and sends its own length and host.
        "expect" | "content-length" | "host" => true,
        _ => is_reserved(name),
    }
}

/// Returns true if only the gateway may set the field. Frameworks that pass fields as environment variables
/// cannot tell `_` from `-`, so any separator counts.
fn is_reserved(name: &str) -> bool {
    name.strip_prefix("switchboard")
        .is_some_and(|rest| !rest.starts_with(|first: char| first.is_ascii_alphanumeric()))
}

/// A call id that is valid as a field value. It comes from a body, so it may be any text. Only such ids are
/// logged, too.
pub(crate) fn sendable_call_id(call_id: Option<&str>) -> Option<&str> {
    call_id.filter(|call_id| {
        !call_id.is_empty()
            && call_id.len() <= CALL_ID_BYTES_MAX
            && call_id.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// A name as a field value.
pub(crate) fn name_value(name: &Name) -> HeaderValue {
    HeaderValue::from_str(name.as_str()).expect("a name is of A-Z a-z 0-9 . _ -")
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

/// Room for most heads: a token takes 1 to 2 KiB.
const HEAD_BYTES: usize = 3 * 1024;
/// Real call ids are GUIDs of 36 characters. A longer text is not sent.
const CALL_ID_BYTES_MAX: usize = 256;
/// The longest `Retry-After` that is applied. A number that was meant as milliseconds, or for another client,
/// takes an instance out for a minute at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
