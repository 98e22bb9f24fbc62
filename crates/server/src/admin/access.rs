//! The access checks of the admin listener: no web page may use it, and changes require the token.

use std::{fmt, net::IpAddr};

use http::{
    HeaderMap, Request, StatusCode, Version,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use openssl::{memcmp, sha::sha256};

use crate::admin::error::AdminError;

/// The token of the admin listener. It keeps only a digest.
#[derive(Clone)]
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

/// Refuses requests from a browser. `loopback` is the bound address if only this machine reaches it.
///
/// A web page that an operator visits may post to any address that the browser reaches. Such a request has an
/// `Origin` field (Fetch standard, section 3.2). A page whose host name was rebound to 127.0.0.1 has the same
/// origin and may read the responses as well, but its name is in `Host`.
pub(super) fn refuse_browsers<B>(request: &Request<B>, loopback: Option<IpAddr>) -> Result<(), AdminError> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) {
        return Err(AdminError::new(
            StatusCode::FORBIDDEN,
            "browser_refused",
            "requests with an Origin header come from web pages and are refused; use curl or a similar tool",
        ));
    }
    if request.uri().authority().is_some() {
        return Err(AdminError::new(
            StatusCode::BAD_REQUEST,
            "not_a_path",
            "the request target must be a path like /fleet",
        ));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/1.0 probes may omit the field (RFC 9112 section 3.2); browsers always send it.
        (None, None) if request.version() < Version::HTTP_11 => return Ok(()),
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
        Some(_) | None => Ok(()),
    }
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
