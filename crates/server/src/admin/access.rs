//! Who may ask the admin listener: no web page, and for what matters only who has the token.

use std::net::IpAddr;

use http::{
    HeaderMap, Request, StatusCode, Version,
    header::{AUTHORIZATION, HOST, ORIGIN},
};

use super::{
    Desk,
    answer::{Fault, UNAUTHENTICATED},
};

impl Desk {
    /// Refuses what comes from a browser.
    ///
    /// A page that an operator visits may post to any address that the operator's browser reaches, and says so in `Origin`
    /// (Fetch standard, section 3.2). A page whose host name is rebound to 127.0.0.1 is of the same origin and may read
    /// the answers as well, but its name stands in `Host`.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Fault> {
        let headers = request.headers();
        if headers.contains_key(ORIGIN) {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "browser_refused",
                "requests with an Origin header come from web pages and are refused; use curl or the like",
            ));
        }
        if request.uri().authority().is_some() {
            return Err(Fault::new(
                StatusCode::BAD_REQUEST,
                "not_a_path",
                "the request target must be a path like /fleet",
            ));
        }
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            // Probes that still speak HTTP/1.0 need not name one (RFC 9112 section 3.2); browsers always do.
            (None, None) if request.version() < Version::HTTP_11 => return Ok(()),
            (None, _) | (Some(_), Some(_)) => None,
        };
        let Some(host) = host else {
            return Err(Fault::new(StatusCode::BAD_REQUEST, "bad_host", "send exactly one Host header"));
        };
        match self.loopback {
            Some(bound) if !is_local(host, bound) => Err(Fault::new(
                StatusCode::FORBIDDEN,
                "foreign_host",
                "this listener is bound to loopback: the Host must be localhost, 127.0.0.1 or [::1]",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Asks for the token, unless there is none and only this machine can ask.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let parts = self.admin.parts.load();
        let Some(token) = &parts.admin_token else {
            return match self.loopback {
                Some(_) => Ok(()),
                None => Err(Fault::new(
                    StatusCode::FORBIDDEN,
                    "no_token_configured",
                    "this needs a token: set admin.token, or bind admin.address to loopback",
                )),
            };
        };
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return Err(UNAUTHENTICATED) };
        let presented = field
            .as_bytes()
            .split_at_checked(BEARER.len())
            .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case(BEARER).then_some(token));
        match presented {
            Some(presented) if token.is(presented) => Ok(()),
            Some(_) | None => Err(UNAUTHENTICATED),
        }
    }
}

/// Whether `host` names this machine, with any port or none. The bound address itself cannot be a rebound name either.
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
