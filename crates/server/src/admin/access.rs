//! The access checks of the admin listener: no other web page may use it, and changes require the token.

use std::{fmt, net::IpAddr};

use http::{
    HeaderMap, Method, Request, StatusCode, Version,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use openssl::{memcmp, sha::sha256};

use crate::admin::error::AdminError;

/// The token of the admin listener. It keeps only a digest.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    digest: [u8; 32],
}

impl AdminToken {
    /// The token with the configured secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { digest: sha256(secret) }
    }

    /// Returns true if `presented` is the token. Compares digests in constant time: neither time nor length
    /// leaks.
    fn is(&self, presented: &[u8]) -> bool {
        memcmp::eq(&self.digest, &sha256(presented))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// Refuses requests of web pages, except the pages of this listener. `loopback` is the bound address
/// if only this machine reaches it.
///
/// A web page that an operator visits may post to any address that the browser reaches. Such a request has an
/// `Origin` field (Fetch standard, section 3.2). A page whose host name was rebound to 127.0.0.1 has the same
/// origin and may read the responses as well, but its name is in `Host`. On another address any name may be
/// the listener's own, so a request with an `Origin` needs the token as well. There, a page with a rebound
/// name may still read what needs no token, because a browser sends no `Origin` with it.
pub(super) fn check_sender<B>(
    request: &Request<B>,
    loopback: Option<IpAddr>,
    token: Option<&AdminToken>,
) -> Result<(), AdminError> {
    let headers = request.headers();
    if request.uri().authority().is_some() {
        return Err(AdminError::new(
            StatusCode::BAD_REQUEST,
            "not_a_path",
            "the request target must be a path like /fleet",
        ));
    }
    let host = host(request, loopback)?;
    let mut origins = headers.get_all(ORIGIN).iter();
    let has_origin = match (origins.next(), origins.next()) {
        (None, _) => false,
        (Some(origin), None) if host.is_some_and(|host| is_own(origin.as_bytes(), host)) => true,
        (Some(_), _) => return Err(browser_refused()),
    };
    if is_of_another_site(request) {
        return Err(browser_refused());
    }
    if has_origin { require_token(token, headers, loopback) } else { Ok(()) }
}

/// Returns the only `Host`, which on a loopback address names this machine. `None` for HTTP/1.0 without it.
fn host<B>(request: &Request<B>, loopback: Option<IpAddr>) -> Result<Option<&str>, AdminError> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/1.0 probes may omit the field (RFC 9112 section 3.2); browsers always send it.
        (None, None) if request.version() < Version::HTTP_11 => return Ok(None),
        (None, _) | (Some(_), Some(_)) => None,
    };
    let Some(host) = host else {
        return Err(AdminError::new(StatusCode::BAD_REQUEST, "bad_host", "send exactly one Host header"));
    };
    match loopback {
        Some(bound) if !is_local(host, bound) => Err(AdminError::new(
            StatusCode::FORBIDDEN,
            "foreign_host",
            "this listener is bound to loopback: the Host must be localhost, 127.0.0.1 or [::1]",
        )),
        Some(_) | None => Ok(Some(host)),
    }
}

/// Returns true if `origin` is that of the pages of this listener, which has no TLS.
fn is_own(origin: &[u8], host: &str) -> bool {
    let authority = origin
        .split_at_checked(SCHEME.len())
        .and_then(|(scheme, authority)| scheme.eq_ignore_ascii_case(SCHEME).then_some(authority));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
}

/// Returns true if a browser says that a page of another origin has caused the request (Fetch Metadata,
/// section 2.4). Such a page cannot read the response, but an image of it could take up a stream. Browsers
/// send the field to loopback addresses and with https only. A link to the page of this listener is followed:
/// it may be in a runbook.
fn is_of_another_site<B>(request: &Request<B>) -> bool {
    let is = |name: &str, values: &[&[u8]]| {
        request.headers().get_all(name).iter().any(|value| values.contains(&value.as_bytes()))
    };
    let is_link = request.uri().path() == "/"
        && request.method() == Method::GET
        && is("sec-fetch-mode", &[b"navigate"])
        && is("sec-fetch-dest", &[b"document"]);
    is("sec-fetch-site", &[b"cross-site", b"same-site"]) && !is_link
}

fn browser_refused() -> AdminError {
    AdminError::new(
        StatusCode::FORBIDDEN,
        "browser_refused",
        "requests of web pages of another origin are refused: the Origin must be http:// and the Host",
    )
}

/// Requires the token. Without a configured token, only a loopback listener grants access.
pub(super) fn require_token(
    token: Option<&AdminToken>,
    headers: &HeaderMap,
    loopback: Option<IpAddr>,
) -> Result<(), AdminError> {
    let Some(token) = token else {
        return match loopback {
            Some(_) => Ok(()),
            None => Err(AdminError::new(
                StatusCode::FORBIDDEN,
                "no_token_configured",
                "this path requires a token: set admin.token, or bind admin.address to loopback",
            )),
        };
    };
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(AdminError::UNAUTHENTICATED) };
    let presented = field
        .as_bytes()
        .split_at_checked(BEARER.len())
        .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case(BEARER).then_some(token));
    match presented {
        Some(presented) if token.is(presented) => Ok(()),
        Some(_) | None => Err(AdminError::UNAUTHENTICATED),
    }
}

/// Returns true if `host` names this machine, with or without a port. The bound address cannot be a rebound
/// name either.
fn is_local(host: &str, bound: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5 => name,
        Some(_) | None => host,
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || name == "127.0.0.1"
        || bracketed == Some("::1")
        || bound.to_string() == bracketed.unwrap_or(name)
}

const BEARER: &[u8] = b"Bearer ";
const SCHEME: &[u8] = b"http://";
