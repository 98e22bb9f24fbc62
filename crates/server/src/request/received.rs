//! A request before and after its sender is known.
//!
//! [`Received`] has no readable body. Only a `Caller`, which only the authenticator makes, turns it into [`Admitted`].

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
use switchboard_delivery::PeerGateways;
use tokio::time::Instant;
use uuid::Uuid;

use crate::request::{outcome::Outcome, reply::Refusal, retries::Key};

/// A request whose head was read and whose sender is not known.
#[derive(Debug)]
pub(crate) struct Received {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Incoming,
    /// When the head was complete.
    pub(crate) arrived: Instant,
    /// The same moment on the wall clock.
    pub(crate) now: SystemTime,
}

/// What a path asks for.
#[derive(Debug)]
pub(crate) enum Route {
    /// `GET {health_path}`
    Health,
    /// `POST {webhook_path}` or `POST {webhook_path}/{app}`
    Webhook {
        /// The app that the path names.
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
    pub(crate) fn new(request: http::Request<Incoming>, arrived: Instant, now: SystemTime) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body,
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

    pub(crate) fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// What is asked for, by the raw path: nothing is decoded or normalised, so that there is one spelling of each.
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
            // No path of ours has such a method, whatever it names (`CONNECT` names none).
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

    /// Refuses what hyper lets through and no honest sender sends, before anything is spent on it.
    pub(crate) fn check_head(&self) -> Result<(), Refusal> {
        let bad = |reason| Refusal::new(Outcome::BadRequest, reason);
        if self.uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
            return Err(Refusal::new(Outcome::UriTooLong, "target_too_long"));
        }
        if self.headers.len() > HEADER_FIELDS_MAX {
            return Err(Refusal::new(Outcome::HeadTooLarge, "too_many_header_fields"));
        }
        self.check_host()?;
        // RFC 9112 section 6.1: a coding that we do not know must not be guessed at. hyper takes `gzip, chunked`.
        let mut codings = self.headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next()
            && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
        {
            return Err(bad("transfer_encoding"));
        }
        // RFC 9110 section 7.6.1 lets `Connection` name fields that we then drop; one that we rely on is an attack.
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
        // RFC 6750 section 2: one way to send a token, and ours is the header.
        let token_in_query = |query: &str| query.split('&').any(|pair| pair.starts_with("access_token="));
        if self.uri.query().is_some_and(token_in_query) {
            return Err(bad("token_in_query"));
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: exactly one valid `Host`, the same as the authority of an absolute target. HTTP/2 has
    /// the authority in its stead (RFC 9113 section 8.3.1).
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
            // The authenticator has a word for nothing at all.
            (None, _) => Ok(b""),
            (Some(_), Some(_)) => Err(Refusal::new(Outcome::BadRequest, "two_authorizations")),
        }
    }

    /// The target, which outlives the request: a callback's owner is read from it without a copy.
    pub(crate) fn target(&self) -> Uri {
        self.uri.clone()
    }

    /// The webhook takes JSON as it is (RFC 9110 section 8.4: an unknown coding is 415).
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

    /// Reads the body, now that its sender is known.
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

/// A request of a known caller.
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
    /// Path and query, as they came.
    pub(crate) fn target(&self) -> PathAndQuery {
        self.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
    }

    /// What this request has in common with its retries; `None` without the message id that tells them.
    pub(crate) fn message(&self) -> Option<Key> {
        // Two ids are none: which of them names the message is anybody's guess.
        let id = plain(&self.headers, MESSAGE_ID)
            .filter(|_| self.headers.get_all(MESSAGE_ID).iter().nth(1).is_none())?;
        let target = self.uri.path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
        let forwarded = PeerGateways::is_forwarded(&self.headers);
        Some(Key::of(self.caller.app, self.caller.tenant, target, forwarded, &id, &self.body))
    }
}

const MESSAGE_ID: &str = "x-microsoft-skype-message-id";

/// The value of a header as text, if it is short visible ASCII: the only kind that is logged, matched or echoed.
pub(crate) fn plain(headers: &HeaderMap, name: &str) -> Option<HeaderValue> {
    headers
        .get(name)
        .filter(|value| value.len() <= PLAIN_BYTES_MAX && value.as_bytes().iter().all(u8::is_ascii_graphic))
        .cloned()
}

/// A host and perhaps a port, and no name or password before them (RFC 9110 sections 4.2.4 and 7.2, RFC 9113 section 8.3.1).
fn is_host(authority: &Authority) -> bool {
    let host = authority.host();
    !host.is_empty()
        && match authority.as_str().strip_prefix(host) {
            Some("" | ":") => true,
            // An `Authority` may have a port that is no number, of which it then does not tell.
            Some(_) => authority.port_u16().is_some(),
            None => false,
        }
}

/// All data frames; trailers are dropped (RFC 9110 section 6.5.1).
async fn read_body(mut body: Incoming, bytes_max: usize, timeout: Duration) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(Outcome::BodyTooLarge, "body_too_large");
    if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let read = async {
        // A notification nearly always comes in one frame, which is then handed on as it is.
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
    // `timeout` polls the body first: where it has come with the head, no timer is ever armed.
    tokio::time::timeout(timeout, read)
        .await
        .unwrap_or_else(|_| Err(Refusal::new(Outcome::TooSlow, "body_too_slow")))
}

/// What follows `prefix` in `path`: "" for the prefix itself, else the part after the next slash.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    match path.strip_prefix(prefix)? {
        "" => Some(""),
        rest => rest.strip_prefix('/').filter(|rest| !rest.is_empty()),
    }
}

/// An app id is a GUID in its one usual form; `Uuid` would take braces and more.
fn app_segment(segment: &str) -> Option<Uuid> {
    if segment.len() == GUID_LENGTH { Uuid::try_parse(segment).ok() } else { None }
}

fn not_found() -> Refusal {
    Refusal::new(Outcome::NotFound, "no_such_path")
}

/// The target: our longest path is a callback of 250 characters; 2 KiB leave room for a query.
const TARGET_BYTES_MAX: usize = 2048;
/// The platform sends about fifteen.
pub(crate) const HEADER_FIELDS_MAX: usize = 64;
/// Correlation ids are GUIDs; some clients send a few of them in one.
const PLAIN_BYTES_MAX: usize = 128;
const GUID_LENGTH: usize = 36;
/// Fields that we rely on: they are never hop-by-hop.
const END_TO_END: [&[u8]; 5] =
    [b"authorization", b"content-type", b"content-length", b"content-encoding", b"host"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_address_and_perhaps_a_port() {
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
