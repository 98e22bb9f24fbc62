//! A request before and after its sender is authenticated.
//!
//! [`Received`] has no readable body. Only a `Caller`, which only the authenticator makes, turns it into
//! [`Admitted`].

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
        TRANSFER_ENCODING,
    },
    uri::{Authority, PathAndQuery, Uri},
};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use switchboard_auth::Caller;
use switchboard_delivery::{Delivery, Outbound, PeerGateways};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    platform::{CALLER_REGION, MESSAGE_ID},
    request::{forwarded, outcome::Outcome, refusal::Refusal, retries::MessageKey, sender::Sender},
};

/// A request whose head was read and whose sender is not authenticated yet.
#[derive(Debug)]
pub(crate) struct Received {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Incoming,
    sender: Sender,
    /// The time at which the head was complete.
    pub(crate) arrived: Instant,
    /// The same moment on the wall clock.
    pub(crate) now: SystemTime,
}

/// The route of a request path.
#[derive(Debug)]
pub(crate) enum Route {
    /// `GET {health_path}`
    Health,
    /// `POST {webhook_path}` or `POST {webhook_path}/{app}`
    Webhook {
        /// The app in the path.
        app: Option<Uuid>,
    },
    /// `POST {callback_path}/{region}/{instance}/{seal}`
    Callback,
}

/// The paths of the public listener.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) webhook: String,
    pub(crate) callback: String,
    pub(crate) health: Option<String>,
}

impl Received {
    pub(crate) fn new(
        request: http::Request<Incoming>,
        sender: Sender,
        arrived: Instant,
        now: SystemTime,
    ) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body,
            sender,
            arrived,
            now,
        }
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sets the `X-Forwarded-*` fields that an instance receives.
    pub(crate) fn set_forwarded(&mut self) {
        let authority = || HeaderValue::from_str(self.uri.authority()?.as_str()).ok();
        let host = self.headers.get(HOST).cloned().or_else(authority);
        forwarded::set(&mut self.headers, self.sender, host);
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// Returns the route of the raw path. Nothing is decoded or normalised, so each route has one spelling.
    pub(crate) fn route(&self, paths: &Paths) -> Result<Route, Refusal> {
        let path = self.uri.path();
        if paths.health.as_deref() == Some(path) {
            Ok(Route::Health)
        } else if let Some(rest) = below(path, &paths.webhook) {
            match rest {
                "" => Ok(Route::Webhook { app: None }),
                segment => Ok(Route::Webhook { app: Some(app_segment(segment).ok_or_else(not_found)?) }),
            }
        } else if below(path, &paths.callback).is_some_and(|rest| !rest.is_empty()) {
            Ok(Route::Callback)
        } else if matches!(self.method, Method::POST | Method::GET) {
            Err(not_found())
        } else {
            // No path of the gateway has such a method, and `CONNECT` does not even have a path.
            Err(Refusal::method_not_allowed("POST"))
        }
    }

    pub(crate) fn check_method(&self, route: &Route) -> Result<(), Refusal> {
        let (expected, name) = match route {
            Route::Health => (Method::GET, "GET"),
            Route::Webhook { .. } | Route::Callback => (Method::POST, "POST"),
        };
        if self.method == expected { Ok(()) } else { Err(Refusal::method_not_allowed(name)) }
    }

    /// Refuses heads that hyper accepts and no honest sender sends, before the gateway spends anything on
    /// them.
    pub(crate) fn check_head(&self) -> Result<(), Refusal> {
        let bad = |reason| Refusal::new(Outcome::BadRequest, reason);
        if self.uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
            return Err(Refusal::new(Outcome::UriTooLong, "target_too_long"));
        }
        if self.headers.len() > HEADER_FIELDS_MAX {
            return Err(Refusal::new(Outcome::HeadTooLarge, "too_many_header_fields"));
        }
        self.check_host()?;
        // RFC 9112 section 6.1: an unknown coding must not be guessed. hyper accepts `gzip, chunked`.
        let mut codings = self.headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next()
            && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
        {
            return Err(bad("transfer_encoding"));
        }
        // RFC 9110 section 7.6.1: the gateway drops fields that `Connection` names. A sender that names one
        // of the fields on which the gateway relies attacks it.
        for value in self.headers.get_all(CONNECTION) {
            let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            if names.into_iter().any(|name| END_TO_END.iter().any(|ours| ours.eq_ignore_ascii_case(name))) {
                return Err(bad("connection_names_end_to_end_field"));
            }
        }
        // RFC 9110 section 10.1.1
        let mut expectations = self.headers.get_all(EXPECT).iter();
        if let Some(expectation) = expectations.next()
            && (!expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
                || expectations.next().is_some())
        {
            return Err(Refusal::new(Outcome::ExpectationFailed, "expectation"));
        }
        // RFC 6750 section 2: a sender uses one way to send a token. The gateway takes the header only.
        let token_in_query = |query: &str| query.split('&').any(|pair| pair.starts_with("access_token="));
        if self.uri.query().is_some_and(token_in_query) {
            return Err(bad("token_in_query"));
        }
        Ok(())
    }

    /// Requires exactly one valid `Host`, equal to the authority of an absolute target (RFC 9112 section
    /// 3.2). HTTP/2 has the authority instead (RFC 9113 section 8.3.1).
    fn check_host(&self) -> Result<(), Refusal> {
        let bad = |reason| Refusal::new(Outcome::BadRequest, reason);
        let mut hosts = self.headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(bad("two_hosts"));
        }
        if let Some(host) = host {
            let valid = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
            let Some(valid) = valid.filter(is_host) else {
                return Err(bad("invalid_host"));
            };
            if let Some(authority) = self.uri.authority()
                && !authority.as_str().eq_ignore_ascii_case(valid.as_str())
            {
                return Err(bad("host_differs_from_target"));
            }
            return Ok(());
        }
        match self.uri.authority() {
            Some(authority) if self.version == Version::HTTP_2 && is_host(authority) => Ok(()),
            Some(_) if self.version == Version::HTTP_2 => Err(bad("invalid_host")),
            Some(_) | None => Err(bad("no_host")),
        }
    }

    /// The value of the only `Authorization` field.
    pub(crate) fn authorization(&self) -> Result<&[u8], Refusal> {
        let mut values = self.headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.as_bytes()),
            // The authenticator rejects an empty value with a reason of its own.
            (None, _) => Ok(b""),
            (Some(_), Some(_)) => Err(Refusal::new(Outcome::BadRequest, "two_authorizations")),
        }
    }

    /// Refuses a request that a gateway sent to one of its instances: the URL of the instance leads here.
    /// Delivered again, it would come back until `limits.in_flight` requests are in flight.
    pub(crate) fn check_no_loop(&self) -> Result<(), Refusal> {
        let is_loop = Delivery::is_sent_to_instance(&self.headers);
        if is_loop { Err(Refusal::new(Outcome::Loop, "sent_by_a_gateway")) } else { Ok(()) }
    }

    /// The target, which outlives the request. The owner of a callback borrows from it.
    pub(crate) fn target(&self) -> Uri {
        self.uri.clone()
    }

    /// Requires plain JSON, as the webhook takes it (RFC 9110 section 8.4: an unknown coding is 415).
    pub(crate) fn check_content_type(&self) -> Result<(), Refusal> {
        let unsupported = |reason| Err(Refusal::new(Outcome::UnsupportedMediaType, reason));
        if self.headers.contains_key(CONTENT_ENCODING) {
            return unsupported("content_encoding");
        }
        let mut types = self.headers.get_all(CONTENT_TYPE).iter();
        let (Some(value), None) = (types.next(), types.next()) else {
            return unsupported("content_type");
        };
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        if essence.trim_ascii().eq_ignore_ascii_case(b"application/json") {
            Ok(())
        } else {
            unsupported("content_type")
        }
    }

    /// Reads the body: its sender is authenticated.
    pub(crate) async fn admit(
        self,
        caller: Arc<Caller>,
        body_bytes_max: usize,
        timeout: Duration,
    ) -> Result<Admitted, Refusal> {
        let body = read_body(self.body, body_bytes_max, timeout).await?;
        let mut headers = self.headers;
        headers.remove(CONTENT_LENGTH);
        Ok(Admitted { caller, uri: self.uri, headers, body, arrived: self.arrived, now: self.now })
    }
}

/// A request of an authenticated caller.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) caller: Arc<Caller>,
    uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) arrived: Instant,
    pub(crate) now: SystemTime,
}

impl Admitted {
    /// Path and query, unchanged.
    pub(crate) fn target(&self) -> PathAndQuery {
        self.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
    }

    /// The identity that this request shares with its retries. `None` without exactly one message id.
    pub(crate) fn message(&self) -> Option<MessageKey> {
        let id = plain(&self.headers, MESSAGE_ID)
            .filter(|_| self.headers.get_all(MESSAGE_ID).iter().nth(1).is_none())?;
        let target = self.uri.path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
        let forwarded = PeerGateways::is_forwarded(&self.headers);
        Some(MessageKey::of(self.caller.app, self.caller.tenant, target, forwarded, id, &self.body))
    }

    /// The notification for an instance, with the same bytes. Nothing is copied.
    pub(crate) fn into_outbound(self, call_id: Option<Box<str>>) -> Outbound {
        Outbound {
            headers: self.headers,
            body: self.body,
            app: self.caller.app,
            tenant: self.caller.tenant,
            call_id,
            deadline_unix_ms: None,
            arrived: self.arrived,
        }
    }

    /// The notification for an instance. The request stays, for other instances and retries.
    pub(crate) fn outbound(&self, call_id: Option<Box<str>>, deadline_unix_ms: Option<u64>) -> Outbound {
        Outbound {
            headers: self.headers.clone(),
            body: self.body.clone(),
            app: self.caller.app,
            tenant: self.caller.tenant,
            call_id,
            deadline_unix_ms,
            arrived: self.arrived,
        }
    }
}

/// The value of a header if it is short visible ASCII. No other value is logged, matched or echoed.
pub(crate) fn plain<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    headers
        .get(name)
        .filter(|value| value.len() <= PLAIN_BYTES_MAX && value.as_bytes().iter().all(u8::is_ascii_graphic))
}

/// The region of the caller, as the platform's header names it.
pub(crate) fn caller_region(headers: &HeaderMap) -> Option<&str> {
    plain(headers, CALLER_REGION)?.to_str().ok()
}

/// True for a host with an optional port and without userinfo (RFC 9110 sections 4.2.4 and 7.2, RFC 9113
/// section 8.3.1).
fn is_host(authority: &Authority) -> bool {
    let host = authority.host();
    !host.is_empty()
        && match authority.as_str().strip_prefix(host) {
            Some("" | ":") => true,
            // An `Authority` accepts a port that is not a number, and then reports none.
            Some(_) => authority.port_u16().is_some(),
            None => false,
        }
}

/// Reads all data frames. Trailers are dropped (RFC 9110 section 6.5.1).
async fn read_body(mut body: Incoming, bytes_max: usize, timeout: Duration) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(Outcome::BodyTooLarge, "body_too_large");
    if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let read = async {
        // A notification nearly always comes in one frame, which is passed on without a copy.
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::new(Outcome::ClientGone, "body_broken_off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + whole.len() + data.len() > bytes_max {
                return Err(too_large());
            }
            if first.is_empty() && whole.is_empty() {
                first = data;
            } else {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&data);
            }
        }
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    };
    // `timeout` polls the body first. If the body came with the head, no timer is armed.
    tokio::time::timeout(timeout, read)
        .await
        .unwrap_or_else(|_| Err(Refusal::new(Outcome::TooSlow, "body_too_slow")))
}

/// The rest of `path` after `prefix`: empty for the prefix itself, otherwise the part after the next slash.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    match path.strip_prefix(prefix)? {
        "" => Some(""),
        rest => rest.strip_prefix('/').filter(|rest| !rest.is_empty()),
    }
}

/// Parses an app id: a GUID in its usual form only. `Uuid` alone would accept braces and more.
fn app_segment(segment: &str) -> Option<Uuid> {
    if segment.len() == GUID_LENGTH { Uuid::try_parse(segment).ok() } else { None }
}

fn not_found() -> Refusal {
    Refusal::new(Outcome::NotFound, "no_such_path")
}

/// The longest target. The longest path is a callback of 250 characters; 2 KiB leave room for a query.
const TARGET_BYTES_MAX: usize = 2048;
/// The most header fields. The platform sends about fifteen.
pub(crate) const HEADER_FIELDS_MAX: usize = 64;
/// The longest plain value. Correlation ids are GUIDs, and some clients send a few of them in one value.
const PLAIN_BYTES_MAX: usize = 128;
const GUID_LENGTH: usize = 36;
/// The fields on which the gateway relies. They are never hop-by-hop.
const END_TO_END: [&[u8]; 5] =
    [b"authorization", b"content-type", b"content-length", b"content-encoding", b"host"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_an_optional_port_and_no_userinfo() {
        for (text, expected) in [
            ("bots.contoso.com", true),
            ("bots.contoso.com:8443", true),
            ("bots.contoso.com:", true),
            ("[::1]:8443", true),
            ("127.0.0.1", true),
            ("", false),
            (":8443", false),
            ("bots.contoso.com:https", false),
            ("bots.contoso.com:65536", false),
            ("user@bots.contoso.com", false),
            ("user@bots.contoso.com:8443", false),
            ("user:password@bots.contoso.com:8443", false),
            ("bots contoso", false),
            ("bots.contoso.com/path", false),
        ] {
            assert_eq!(text.parse().is_ok_and(|authority| is_host(&authority)), expected, "{text}");
        }
    }
}
