//! The rules for the URL of a peer and of this gateway's callbacks.

use std::net::IpAddr;

use url::{Host, Url};

/// A problem of a configured URL. `Display` also says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Tokens and calls would be sent unencrypted.
    #[error("is not https; plain http is for localhost, 127.0.0.0/8 and [::1] only")]
    Scheme,
    /// The user name or password would be in every `Location` and `callbackUri`.
    #[error("has a user name or password; write it without")]
    Userinfo,
    /// A fragment is never sent to a server.
    #[error("has a fragment; write it without `#`")]
    Fragment,
    /// The URL must be an origin, and has a path.
    #[error("has a path; write scheme, host and port only")]
    Path,
    /// The URL must be an origin, and has a query.
    #[error("has a query; write scheme, host and port only")]
    Query,
}

impl InvalidUrl {
    /// Returns a stable name for logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Scheme => "not_https",
            Self::Userinfo => "userinfo",
            Self::Fragment => "fragment",
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

/// Checks that `url` is `https` (or `http` to a loopback host), without userinfo and fragment.
pub(crate) fn check_address(url: &Url) -> Result<(), InvalidUrl> {
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(url)) {
        Err(InvalidUrl::Scheme)
    } else if !url.username().is_empty() || url.password().is_some() {
        Err(InvalidUrl::Userinfo)
    } else if url.fragment().is_some() {
        Err(InvalidUrl::Fragment)
    } else {
        Ok(())
    }
}

/// Checks the same, and that `url` has neither path nor query.
pub(crate) fn check_origin(url: &Url) -> Result<(), InvalidUrl> {
    check_address(url)?;
    if url.path() != "/" {
        Err(InvalidUrl::Path)
    } else if url.query().is_some() {
        Err(InvalidUrl::Query)
    } else {
        Ok(())
    }
}

/// Returns true if `url` can only lead to this machine.
///
/// auth, graph and server have a copy of this rule. None of the first three may depend on another
/// (docs/architecture.md), and ten lines do not justify a crate for all to depend on.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{InvalidUrl, check_address, check_origin};

    #[track_caller]
    fn check(text: &str, address: Result<(), InvalidUrl>, origin: Result<(), InvalidUrl>) {
        let url = Url::parse(text).unwrap();
        assert_eq!(check_address(&url), address, "{text} as an address");
        assert_eq!(check_origin(&url), origin, "{text} as an origin");
    }

    #[test]
    fn https_is_required_except_for_loopback_hosts() {
        check("https://bots.contoso.com", Ok(()), Ok(()));
        check("https://bots.contoso.com:8443/", Ok(()), Ok(()));
        for loopback in ["http://localhost:1", "http://127.0.0.1", "http://127.9.9.9:80", "http://[::1]:9"] {
            check(loopback, Ok(()), Ok(()));
        }
        for other in [
            "http://bots.contoso.com",
            "http://localhost.contoso.com",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://[::ffff:127.0.0.1]",
            "ftp://localhost",
            "file:///etc/passwd",
            "mailto:a@localhost",
        ] {
            check(other, Err(InvalidUrl::Scheme), Err(InvalidUrl::Scheme));
        }
    }

    #[test]
    fn userinfo_and_fragments_are_refused() {
        check("https://me@contoso.com", Err(InvalidUrl::Userinfo), Err(InvalidUrl::Userinfo));
        check("https://:word@contoso.com", Err(InvalidUrl::Userinfo), Err(InvalidUrl::Userinfo));
        check("https://contoso.com#top", Err(InvalidUrl::Fragment), Err(InvalidUrl::Fragment));
    }

    #[test]
    fn an_origin_has_neither_path_nor_query() {
        check("https://contoso.com/api", Ok(()), Err(InvalidUrl::Path));
        check("https://contoso.com?a", Ok(()), Err(InvalidUrl::Query));
    }

    #[test]
    fn each_problem_has_a_label() {
        let labels = [
            InvalidUrl::Scheme,
            InvalidUrl::Userinfo,
            InvalidUrl::Fragment,
            InvalidUrl::Path,
            InvalidUrl::Query,
        ];
        assert_eq!(labels.map(InvalidUrl::label), ["not_https", "userinfo", "fragment", "path", "query"]);
    }
}
