//! A request before and after its sender is authenticated.
//!
//! [`Received`] has no readable body. Only a `Caller`, which only the authenticator makes, turns it into
//! [`Admitted`].

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, Entry, HOST,
        TRANSFER_ENCODING,
    },
    request::Parts,
    uri::{Authority, PathAndQuery, Uri},
};
use switchboard_auth::Caller;
use switchboard_delivery::{Delivery, Outbound, PeerGateways, RequestTrace, TraceParent};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    platform::{CALLER_REGION, MESSAGE_ID},
    process::connection::RequestBody,
    request::{
        body::{self, BodyLimits},
        forwarded,
        plain::{is_plain, plain},
        reason::Reason,
        refusal::Refusal,
        retries::MessageKey,
        route::{Paths, Route},
        sender::Sender,
    },
};

/// A request whose head was read and whose sender is not authenticated yet.
#[derive(Debug)]
pub(crate) struct Received<'b> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: &'b mut RequestBody,
    sender: Sender,
    /// The time at which the head was complete.
    pub(crate) arrived: Instant,
    /// The same moment on the wall clock.
    pub(crate) now: SystemTime,
    /// The trace of the request; `None` if requests have no spans.
    pub(crate) trace: Option<Arc<RequestTrace>>,
}

impl<'b> Received<'b> {
    pub(crate) fn new(
        mut parts: Parts,
        body: &'b mut RequestBody,
        sender: Sender,
        arrived: Instant,
        now: SystemTime,
    ) -> Self {
        hide_credentials(&mut parts.headers);
        Self {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body,
            sender,
            arrived,
            now,
            trace: None,
        }
    }

    /// Returns true if the connection has TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.sender.is_secure
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
        } else if paths.ready.as_deref() == Some(path) {
            Ok(Route::Ready)
        } else if let Some(rest) = below(path, &paths.webhook) {
            match rest {
                "" => Ok(Route::Webhook { app: None }),
                segment => Ok(Route::Webhook { app: Some(app_segment(segment).ok_or_else(not_found)?) }),
            }
        } else if below(path, &paths.callback).is_some_and(|rest| !rest.is_empty()) {
            Ok(Route::Callback)
        } else if matches!(self.method, Method::POST | Method::GET | Method::HEAD) {
            Err(not_found())
        } else {
            // No path of the gateway has such a method, and `CONNECT` does not even have a path.
            Err(Refusal::method_not_allowed("POST"))
        }
    }

    pub(crate) fn check_method(&self, route: &Route) -> Result<(), Refusal> {
        let (expected, allow): (&[Method], _) = match route {
            // RFC 9110 section 9.1: HEAD goes with GET. Azure Front Door probes with it.
            Route::Health | Route::Ready => (&[Method::GET, Method::HEAD], "GET, HEAD"),
            Route::Webhook { .. } | Route::Callback => (&[Method::POST], "POST"),
        };
        if expected.contains(&self.method) { Ok(()) } else { Err(Refusal::method_not_allowed(allow)) }
    }

    /// Refuses heads that hyper accepts and no honest sender sends, before the gateway spends anything on
    /// them.
    pub(crate) fn check_head(&self) -> Result<(), Refusal> {
        if self.uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
            return Err(Refusal::new(Reason::TargetTooLong));
        }
        if self.headers.len() > HEADER_FIELDS_MAX {
            return Err(Refusal::new(Reason::TooManyHeaderFields));
        }
        self.check_host()?;
        // RFC 9112 section 6.1: an unknown coding must not be guessed. hyper accepts `gzip, chunked`.
        let mut codings = self.headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next()
            && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
        {
            return Err(Refusal::new(Reason::TransferEncoding));
        }
        // RFC 9110 section 7.6.1: the gateway drops fields that `Connection` names. A sender that names one
        // of the fields on which the gateway relies attacks it.
        for value in self.headers.get_all(CONNECTION) {
            let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            if names.into_iter().any(|name| END_TO_END.iter().any(|ours| ours.eq_ignore_ascii_case(name))) {
                return Err(Refusal::new(Reason::ConnectionNamesEndToEndField));
            }
        }
        // RFC 9110 section 10.1.1
        let mut expectations = self.headers.get_all(EXPECT).iter();
        if let Some(expectation) = expectations.next()
            && (!expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
                || expectations.next().is_some())
        {
            return Err(Refusal::new(Reason::Expectation));
        }
        // RFC 6750 section 2: a sender uses one way to send a token. The gateway takes the header only.
        let token_in_query = |query: &str| query.split('&').any(|pair| pair.starts_with("access_token="));
        if self.uri.query().is_some_and(token_in_query) {
            return Err(Refusal::new(Reason::TokenInQuery));
        }
        Ok(())
    }

    /// Requires exactly one valid `Host`, equal to the authority of an absolute target (RFC 9112 section
    /// 3.2). HTTP/2 has the authority instead (RFC 9113 section 8.3.1).
    fn check_host(&self) -> Result<(), Refusal> {
        let mut hosts = self.headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Refusal::new(Reason::TwoHosts));
        }
        if let Some(host) = host {
            let valid = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
            let Some(valid) = valid.filter(is_host) else {
                return Err(Refusal::new(Reason::InvalidHost));
            };
            if let Some(authority) = self.uri.authority()
                && !authority.as_str().eq_ignore_ascii_case(valid.as_str())
            {
                return Err(Refusal::new(Reason::HostDiffersFromTarget));
            }
            return Ok(());
        }
        match self.uri.authority() {
            Some(authority) if self.version == Version::HTTP_2 && is_host(authority) => Ok(()),
            Some(_) if self.version == Version::HTTP_2 => Err(Refusal::new(Reason::InvalidHost)),
            Some(_) | None => Err(Refusal::new(Reason::NoHost)),
        }
    }

    /// The value of the only `Authorization` field.
    pub(crate) fn authorization(&self) -> Result<&[u8], Refusal> {
        let mut values = self.headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.as_bytes()),
            // The authenticator rejects an empty value with a reason of its own.
            (None, _) => Ok(b""),
            (Some(_), Some(_)) => Err(Refusal::new(Reason::TwoAuthorizations)),
        }
    }

    /// Refuses a request that a gateway sent to one of its instances: the URL of the instance leads here.
    /// Delivered again, it would come back until `limits.in_flight` requests are in flight.
    pub(crate) fn check_no_loop(&self) -> Result<(), Refusal> {
        let is_loop = Delivery::is_sent_to_instance(&self.headers);
        if is_loop { Err(Refusal::new(Reason::SentByAGateway)) } else { Ok(()) }
    }

    /// The target, which outlives the request. The owner of a callback borrows from it.
    pub(crate) fn target(&self) -> Uri {
        self.uri.clone()
    }

    /// Requires plain JSON, as the webhook takes it (RFC 9110 section 8.4: an unknown coding is 415).
    pub(crate) fn check_content_type(&self) -> Result<(), Refusal> {
        // RFC 9110 section 8.4.1: `identity` is no coding. An empty list names none.
        let is_coded = |coding: &HeaderValue| {
            let coding = coding.as_bytes().trim_ascii();
            !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
        };
        if self.headers.get_all(CONTENT_ENCODING).iter().any(is_coded) {
            return Err(Refusal::new(Reason::ContentEncoding));
        }
        let mut types = self.headers.get_all(CONTENT_TYPE).iter();
        let (Some(value), None) = (types.next(), types.next()) else {
            return Err(Refusal::new(Reason::ContentType));
        };
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        if essence.trim_ascii().eq_ignore_ascii_case(b"application/json") {
            Ok(())
        } else {
            Err(Refusal::new(Reason::ContentType))
        }
    }

    /// Reads the body: its sender is authenticated.
    pub(crate) async fn admit(
        self,
        caller: Arc<Caller>,
        limits: BodyLimits<'_>,
    ) -> Result<Admitted, Refusal> {
        let body = body::read(self.body, limits).await?;
        let mut headers = self.headers;
        headers.remove(CONTENT_LENGTH);
        let Self { uri, arrived, now, trace, .. } = self;
        Ok(Admitted { caller, uri, headers, body, arrived, now, trace })
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
    trace: Option<Arc<RequestTrace>>,
}

impl Admitted {
    /// The span of the request, for what outlives it.
    pub(crate) fn span(&self) -> Option<TraceParent> {
        self.trace.as_ref().map(|trace| trace.span())
    }

    /// Path and query, unchanged.
    pub(crate) fn target(&self) -> PathAndQuery {
        self.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
    }

    /// The identity that this request shares with its retries. `None` without exactly one message id.
    pub(crate) fn message(&self) -> Option<MessageKey> {
        let mut ids = self.headers.get_all(&MESSAGE_ID).iter();
        let id = ids.next().filter(|id| is_plain(id) && ids.next().is_none())?;
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
            trace: self.trace,
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
            trace: self.trace.clone(),
        }
    }
}

/// The region of the caller, as the platform's header names it.
pub(crate) fn caller_region(headers: &HeaderMap) -> Option<&str> {
    plain(headers, &CALLER_REGION)?.to_str().ok()
}

/// Marks tokens as sensitive, so that neither `Debug` nor the header compression of HTTP/2 keeps them.
fn hide_credentials(headers: &mut HeaderMap) {
    if let Entry::Occupied(mut values) = headers.entry(AUTHORIZATION) {
        values.iter_mut().for_each(|value| value.set_sensitive(true));
    }
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
    Refusal::new(Reason::NoSuchPath)
}

/// The longest target. The longest path is a callback of 250 characters; 2 KiB leave room for a query.
const TARGET_BYTES_MAX: usize = 2048;
/// The most header fields. The platform sends about fifteen.
const HEADER_FIELDS_MAX: usize = 64;
const GUID_LENGTH: usize = 36;
/// The fields on which the gateway relies. They are never hop-by-hop.
const END_TO_END: [&[u8]; 8] = [
    b"authorization",
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"host",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_in_the_debug_output_of_headers() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer one-token"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer another-token"));
        hide_credentials(&mut headers);
        let text = format!("{headers:?}");
        assert!(!text.contains("token"), "{text}");
        assert!(headers.get_all(AUTHORIZATION).iter().all(HeaderValue::is_sensitive));
    }

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
