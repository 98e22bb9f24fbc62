//! The URL of an instance: its origin, and the path of requests.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{
    HeaderValue,
    uri::{Authority, InvalidUri, PathAndQuery},
};
use url::{Host, Url};
use uuid::Uuid;

use crate::{
    names::{Names, ResolvedName},
    trust_anchors::TrustAnchors,
};

/// A URL of an instance, possibly with `{app}` in its path or query.
///
/// ```
/// use switchboard_delivery::UpstreamUrl;
///
/// let url = UpstreamUrl::parse("http://bot-0.bots.svc:3978/{app}/api/calls").unwrap();
/// assert_eq!(url.to_string(), "http://bot-0.bots.svc:3978/{app}/api/calls");
/// assert_eq!(UpstreamUrl::parse("http://{app}.bots.svc/").unwrap_err().label(), "placeholder_outside_path");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    text: Box<str>,
    origin: Origin,
    /// The path and query of requests, with `{app}` still in them.
    template: Box<str>,
    /// The value of `Host`, if it is not that of the origin.
    host: Option<HeaderValue>,
}

impl UpstreamUrl {
    /// Parses an absolute http or https URL without userinfo or fragment. `{app}` may occur in its path and
    /// query.
    ///
    /// # Errors
    ///
    /// The text is not such a URL; the error says why.
    pub fn parse(text: &str) -> Result<Self, InvalidUpstreamUrl> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidUpstreamUrl::Characters);
        }
        let url = Url::parse(text).map_err(InvalidUpstreamUrl::Syntax)?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(InvalidUpstreamUrl::Scheme),
        };
        // The parser accepts `http:host` and `http:///host`, but the operator probably meant something else.
        let absolute = text.split_once("://").is_some_and(|(scheme, rest)| {
            scheme.eq_ignore_ascii_case(url.scheme()) && !rest.starts_with('/')
        });
        if !absolute {
            return Err(InvalidUpstreamUrl::Relative);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUpstreamUrl::Userinfo);
        }
        if url.fragment().is_some() {
            return Err(InvalidUpstreamUrl::Fragment);
        }
        let host = match url.host().ok_or(InvalidUpstreamUrl::Relative)? {
            Host::Domain(name) if name.contains(['{', '}']) => {
                return Err(InvalidUpstreamUrl::PlaceholderOutsidePath);
            }
            Host::Domain(name) => Hostname::Name(Arc::new(ResolvedName::new(name))),
            Host::Ipv4(address) => Hostname::Address(address.into()),
            Host::Ipv6(address) => Hostname::Address(address.into()),
        };
        let port = match url.port_or_known_default() {
            Some(0) | None => return Err(InvalidUpstreamUrl::Port),
            Some(port) => port,
        };
        let mut template = url.path().replace("%7Bapp%7D", APP);
        if let Some(query) = url.query() {
            template.push('?');
            template.push_str(&query.replace("%7Bapp%7D", APP));
        }
        let rest = template.replace(APP, "");
        if rest.contains(['{', '}']) || rest.contains("%7B") || rest.contains("%7D") {
            return Err(InvalidUpstreamUrl::UnknownPlaceholder);
        }
        // Checked with an id: a path that is short enough with `{app}` may be too long with the id.
        if request_path(&template, Uuid::nil()).is_err() {
            return Err(InvalidUpstreamUrl::Path);
        }
        let origin = Origin { secure, host, port, tls_name: None, anchors: None };
        Ok(Self { text: text.into(), origin, template: template.into(), host: None })
    }

    /// The same URL, with `host` as the value of `Host` in requests: a server that is reached by its address
    /// may know itself by a name only. It is sent as it is, so it needs the port if the server expects one.
    ///
    /// # Errors
    ///
    /// The text is not a host with an optional port.
    pub fn with_host(self, host: &str) -> Result<Self, InvalidUpstreamUrl> {
        let authority = host.parse::<Authority>().map_err(|_| InvalidUpstreamUrl::Host)?;
        let is_valid = match host.strip_prefix(authority.host()) {
            Some(_) if authority.host().is_empty() => false,
            Some("") => true,
            Some(rest) => authority.port_u16().is_some_and(|port| rest == format!(":{port}")),
            // Userinfo comes first.
            None => false,
        };
        let value = HeaderValue::from_str(host).ok().filter(|_| is_valid);
        Ok(Self { host: Some(value.ok_or(InvalidUpstreamUrl::Host)?), ..self })
    }

    /// The same URL, whose server sends a certificate for the DNS name `name`, and receives it as the server
    /// name of the TLS handshake. Without https it changes nothing.
    ///
    /// # Errors
    ///
    /// The text is not a DNS name.
    pub fn with_tls_name(self, name: &str) -> Result<Self, InvalidUpstreamUrl> {
        let is_label = |label: &str| (1..=63).contains(&label.len());
        let is_name = name.len() <= 253
            && name.split('.').all(is_label)
            && Hostname::is_plain(name)
            && name.parse::<IpAddr>().is_err();
        if !is_name {
            return Err(InvalidUpstreamUrl::TlsName);
        }
        let tls_name = self.origin.secure.then(|| name.into());
        Ok(Self { origin: Origin { tls_name, ..self.origin }, ..self })
    }

    /// The same URL, whose server is verified by these authorities alone; with `None` by those of the TLS
    /// client. Without https it changes nothing.
    #[must_use]
    pub fn with_trust_anchors(self, anchors: Option<&Arc<TrustAnchors>>) -> Self {
        let anchors = anchors.filter(|_| self.origin.secure).map(Arc::clone);
        Self { origin: Origin { anchors, ..self.origin }, ..self }
    }

    /// Returns true if it is an https URL.
    pub fn is_secure(&self) -> bool {
        self.origin.secure
    }

    /// The same URL, whose host shares its addresses with the others of `names` if it is a name.
    pub(crate) fn with_shared_name(self, names: &mut Names) -> Self {
        let host = match self.origin.host {
            Hostname::Name(name) => Hostname::Name(names.share(name)),
            host @ (Hostname::Found(..) | Hostname::Address(_)) => host,
        };
        Self { origin: Origin { host, ..self.origin }, ..self }
    }

    /// The URL of a discovered instance.
    pub(crate) fn of_parts(
        secure: bool,
        host: &str,
        port: u16,
        path: &str,
    ) -> Result<Self, InvalidUpstreamUrl> {
        let scheme = if secure { "https" } else { "http" };
        Self::parse(&format!("{scheme}://{host}:{port}{path}"))
    }

    /// The same URL, reached at these addresses only.
    pub(crate) fn found_at(self, addresses: &[IpAddr]) -> Self {
        let host = match self.origin.host {
            Hostname::Name(name) => Hostname::Found(name.to_string().into(), addresses.into()),
            Hostname::Found(name, _) => Hostname::Found(name, addresses.into()),
            // Only the found addresses were checked.
            Hostname::Address(address) => Hostname::Found(address.to_string().into(), addresses.into()),
        };
        Self { origin: Origin { host, ..self.origin }, ..self }
    }

    /// Returns true if both lead to the same place: they are equal, or share some of the addresses that were
    /// found. The addresses of the second family may be found later.
    pub(crate) fn has_same_place(&self, other: &Self) -> bool {
        let (one, two) = (&self.origin, &other.origin);
        let same_host = match (&one.host, &two.host) {
            (Hostname::Found(name, addresses), Hostname::Found(other_name, others)) => {
                name == other_name && addresses.iter().any(|address| others.contains(address))
            }
            (host, other_host) => host == other_host,
        };
        same_host && one.port == two.port && one.secure == two.secure && self.text == other.text
    }

    /// The value of `Host`, if it is not that of the origin.
    pub(crate) fn own_host(&self) -> Option<&str> {
        self.host.as_ref().and_then(|host| host.to_str().ok())
    }

    /// The origin to connect to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The value of `Host`.
    pub(crate) fn host_value(&self) -> HeaderValue {
        let of_origin = || HeaderValue::from_str(&self.origin.authority());
        self.host.clone().unwrap_or_else(|| of_origin().expect("a parsed host is printable ASCII"))
    }

    /// The path and query for an app.
    pub(crate) fn path(&self, app: Uuid) -> PathAndQuery {
        request_path(&self.template, app)
            .expect("parse accepted it with another GUID, and all have one length")
    }
}

fn request_path(template: &str, app: Uuid) -> Result<PathAndQuery, InvalidUri> {
    let mut buffer = Uuid::encode_buffer();
    PathAndQuery::try_from(template.replace(APP, app.hyphenated().encode_lower(&mut buffer)))
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for UpstreamUrl {
    type Err = InvalidUpstreamUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUpstreamUrl> {
        Self::parse(text)
    }
}

/// A text is not an [`UpstreamUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpstreamUrl {
    /// The URL parser rejects it.
    #[error("not a URL")]
    Syntax(#[source] url::ParseError),
    /// It contains a space, a control character or a character beyond ASCII.
    #[error("not a URL: only printable ASCII without spaces is allowed")]
    Characters,
    /// No host after `http://` or `https://`.
    #[error("not an absolute URL, like http://10.0.0.10:3978/api/calls")]
    Relative,
    /// The scheme is neither http nor https.
    #[error("neither an http nor an https URL")]
    Scheme,
    /// A user name or a password.
    #[error("contains a user name or password, which would not be sent")]
    Userinfo,
    /// A `#`.
    #[error("contains a fragment, which would not be sent")]
    Fragment,
    /// Port 0.
    #[error("port 0 cannot be connected to; write the real one")]
    Port,
    /// The host contains `{app}`.
    #[error("`{{app}}` may occur in the path and the query only")]
    PlaceholderOutsidePath,
    /// It contains a placeholder other than `{app}`.
    #[error("contains a placeholder other than `{{app}}`")]
    UnknownPlaceholder,
    /// The value of `Host` is not one.
    #[error("not a host with or without a port, like bots.contoso.com")]
    Host,
    /// The name of the certificate is not a DNS name.
    #[error("not a DNS name, like bots.contoso.com")]
    TlsName,
    /// A path that cannot be sent in a request line.
    #[error("the path cannot be sent in a request")]
    Path,
}

impl InvalidUpstreamUrl {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::Characters => "characters",
            Self::Relative => "relative",
            Self::Scheme => "scheme",
            Self::Userinfo => "userinfo",
            Self::Fragment => "fragment",
            Self::Port => "port",
            Self::PlaceholderOutsidePath => "placeholder_outside_path",
            Self::UnknownPlaceholder => "unknown_placeholder",
            Self::Host => "host",
            Self::TlsName => "tls_name",
            Self::Path => "path",
        }
    }
}

/// The destination of a connection. Two requests can share a connection if their origins are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) secure: bool,
    pub(crate) host: Hostname,
    pub(crate) port: u16,
    /// The name that the certificate must have, in place of `host`. Only with `secure`.
    pub(crate) tls_name: Option<Box<str>>,
    /// The authorities that verify the server, in place of those of the TLS client. Only with `secure`.
    pub(crate) anchors: Option<Arc<TrustAnchors>>,
}

impl Origin {
    /// The value of `Host`: the default port of the scheme is left out (RFC 9110, section 4.2.3).
    pub(crate) fn authority(&self) -> String {
        let default = if self.secure { 443 } else { 80 };
        let host = match &self.host {
            Hostname::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Hostname::Address(IpAddr::V4(_)) | Hostname::Name(_) | Hostname::Found(..) => {
                self.host.to_string()
            }
        };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }
}

/// The host of an origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hostname {
    Address(IpAddr),
    /// A name that is looked up in the background.
    Name(Arc<ResolvedName>),
    /// A name for `Host` and the certificate, and the addresses that its source found, already checked.
    Found(Box<str>, Box<[IpAddr]>),
}

impl Hostname {
    /// Returns true if a text has only characters of host names. Any other could change the rest of the URL.
    pub(crate) fn is_plain(host: &str) -> bool {
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Found(name, _) => name.fmt(f),
        }
    }
}

/// The placeholder of the app id.
const APP: &str = "{app}";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, authority: &str, path: &str) {
        let url = UpstreamUrl::parse(text).unwrap();
        assert_eq!(url.to_string(), text);
        assert_eq!(url.origin().authority(), authority, "{text}");
        assert_eq!(url.path(Uuid::nil()), path, "{text}");
    }

    #[track_caller]
    fn check_rejected(text: &str, label: &str) {
        let error = UpstreamUrl::parse(text).unwrap_err();
        assert_eq!(error.label(), label, "{text}: {error}");
    }

    #[test]
    fn a_url_has_an_authority_and_a_path() {
        check("http://10.0.0.10:3978/api/calls", "10.0.0.10:3978", "/api/calls");
        check("http://10.0.0.10", "10.0.0.10", "/");
        check("https://bot.example:443/x", "bot.example", "/x");
        check("https://bot.example:80/x", "bot.example:80", "/x");
        check("HTTP://Bot.Example/x?y=1", "bot.example", "/x?y=1");
        check("http://[::1]:8080/x", "[::1]:8080", "/x");
        check("https://[::1]/x", "[::1]", "/x");
    }

    #[test]
    fn the_app_id_replaces_its_placeholder_in_path_and_query() {
        let nil = "00000000-0000-0000-0000-000000000000";
        check("http://h/{app}/x", "h", &format!("/{nil}/x"));
        check("http://h/x?app={app}&again={app}", "h", &format!("/x?app={nil}&again={nil}"));
        check("http://h/%7Bapp%7D", "h", &format!("/{nil}"));
    }

    /// The target of an SRV record may look like an address.
    #[test]
    fn a_host_that_looks_like_an_address_is_reached_at_the_found_addresses() {
        let found = IpAddr::from([10, 0, 0, 1]);
        for url in ["http://169.254.169.254:3978/api/calls", "http://bot-0.example:3978/api/calls"] {
            let url = UpstreamUrl::parse(url).unwrap().found_at(&[found]);
            let Hostname::Found(_, addresses) = &url.origin().host else { panic!("{url:?}") };
            assert_eq!(**addresses, [found]);
        }
    }

    #[test]
    fn host_and_certificate_can_have_another_name_than_the_url() {
        let url = || UpstreamUrl::parse("https://10.0.0.10:3978/x").unwrap();
        assert_eq!(url().host_value(), "10.0.0.10:3978");
        for host in ["bots.contoso.com", "bots.contoso.com:8443", "[::1]", "[::1]:443", "10.0.0.1:80"] {
            assert_eq!(url().with_host(host).unwrap().host_value(), host);
        }
        let hosts =
            ["", ":80", "a b", "user@h", "user@h:80", "h:", "h:x", "h:65536", "h/x", "h\r\nX: y", "é"];
        for host in hosts {
            assert_eq!(url().with_host(host), Err(InvalidUpstreamUrl::Host), "{host}");
        }
        let named = url().with_tls_name("bots.contoso.com").unwrap();
        assert_eq!(named.origin().tls_name.as_deref(), Some("bots.contoso.com"));
        // Connections are shared by origin: a name that was verified is part of it.
        assert_ne!(named.origin(), url().origin());
        for name in ["", "10.0.0.1", "::1", "a..b", ".a", "a.", "*.contoso.com", "a:1", &"a".repeat(64)] {
            assert_eq!(url().with_tls_name(name), Err(InvalidUpstreamUrl::TlsName), "{name}");
        }
        let plain = UpstreamUrl::parse("http://10.0.0.10/").unwrap().with_tls_name("h").unwrap();
        assert_eq!((plain.is_secure(), plain.origin().tls_name.as_deref()), (false, None));
    }

    #[test]
    fn any_other_text_is_rejected_with_a_label() {
        check_rejected("", "syntax");
        check_rejected("/api/calls", "syntax");
        check_rejected("ftp://h/x", "scheme");
        check_rejected("localhost:3978/x", "scheme");
        check_rejected("http:h/x", "relative");
        check_rejected("http:///h/x", "relative");
        check_rejected("http://user@h/x", "userinfo");
        check_rejected("http://user:secret@h/x", "userinfo");
        check_rejected("http://:secret@h/x", "userinfo");
        check_rejected("http://h/x#y", "fragment");
        check_rejected("http://h:0/x", "port");
        check_rejected("http://{app}.h/x", "placeholder_outside_path");
        check_rejected("http://h/{tenant}/x", "unknown_placeholder");
        check_rejected("http://h/x?y={", "unknown_placeholder");
        check_rejected("http://h/a b", "characters");
        check_rejected(" http://h/", "characters");
        check_rejected("http://h/\r\nX: y", "characters");
        check_rejected("http://münchen.example/", "characters");
        check_rejected(&format!("http://h/{}", "x".repeat(70_000)), "path");
        check_rejected(&format!("http://h/{}", "{app}".repeat(10_000)), "path");
    }
}
