//! What the URL of a peer or of our own callbacks must be.

use std::net::IpAddr;

use url::{Host, Url};

/// What is wrong with a configured URL, and what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Tokens and calls would travel in the clear.
    #[error("is not https; plain http is for localhost, 127.0.0.0/8 and [::1] only")]
    NotHttps,
    /// A user name or password would be published in every `Location` and `callbackUri`.
    #[error("carries a user name or password; write it without")]
    Userinfo,
    /// A fragment is never sent to a server.
    #[error("has a fragment; write it without `#`")]
    Fragment,
    /// A path where only an origin belongs.
    #[error("has a path; write scheme, host and port only")]
    Path,
    /// A query where only an origin belongs.
    #[error("has a query; write scheme, host and port only")]
    Query,
}

impl InvalidUrl {
    /// A stable name for logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotHttps => "not_https",
            Self::Userinfo => "userinfo",
            Self::Fragment => "fragment",
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

/// `https` (or `http` to a loopback host), without userinfo and fragment.
pub(crate) fn check_address(url: &Url) -> Result<(), InvalidUrl> {
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(url)) {
        Err(InvalidUrl::NotHttps)
    } else if !url.username().is_empty() || url.password().is_some() {
        Err(InvalidUrl::Userinfo)
    } else if url.fragment().is_some() {
        Err(InvalidUrl::Fragment)
    } else {
        Ok(())
    }
}

/// The same, and neither path nor query.
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
    fn https_is_required_but_for_loopback() {
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
            check(other, Err(InvalidUrl::NotHttps), Err(InvalidUrl::NotHttps));
        }
    }

    #[test]
    fn nothing_secret_and_nothing_unsent_is_accepted() {
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
    fn every_fault_has_a_label() {
        let labels = [
            InvalidUrl::NotHttps,
            InvalidUrl::Userinfo,
            InvalidUrl::Fragment,
            InvalidUrl::Path,
            InvalidUrl::Query,
        ];
        assert_eq!(labels.map(InvalidUrl::label), ["not_https", "userinfo", "fragment", "path", "query"]);
    }
}
