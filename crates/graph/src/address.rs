//! `CallbackUri` and `GraphCallId`: URLs that are safe to use, and the path of a call.

use std::fmt;

use url::{Host, Url};

/// The URI to which the platform posts the notifications of a call: https, or http to a loopback host. It is
/// kept byte for byte, since its path may be sealed.
///
/// Graph documents no maximum length (call: answer). Up to 2048 bytes are allowed, which most servers accept.
///
/// ```
/// use switchboard_graph::{CallbackUri, InvalidCallbackUri};
///
/// let uri = CallbackUri::parse("https://emea.bots.contoso.com/api/callbacks/emea/bot-1/k1.0.x")?;
/// assert_eq!(uri.as_str(), "https://emea.bots.contoso.com/api/callbacks/emea/bot-1/k1.0.x");
/// assert_eq!(CallbackUri::parse("http://emea.bots.contoso.com/"), Err(InvalidCallbackUri::Scheme));
/// # Ok::<(), InvalidCallbackUri>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackUri(String);

impl CallbackUri {
    /// Parses a callback URI.
    ///
    /// # Errors
    ///
    /// `text` is too long, contains a character that is not allowed, or is not a safe absolute URL.
    pub fn parse(text: &str) -> Result<Self, InvalidCallbackUri> {
        if text.len() > CALLBACK_BYTES_MAX {
            return Err(InvalidCallbackUri::TooLong);
        }
        // `Url` accepts blanks, tabs and backslashes, as browsers do. The next parser may read another URL.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(InvalidCallbackUri::Character);
        }
        let url = Url::parse(text).map_err(|_| InvalidCallbackUri::Syntax)?;
        if !is_safe(&url) {
            return Err(InvalidCallbackUri::Scheme);
        }
        if has_userinfo(&url) || url.fragment().is_some() {
            return Err(InvalidCallbackUri::UserinfoOrFragment);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallbackUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a callback URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbackUri {
    /// It is too long.
    #[error("callback URI has more than {CALLBACK_BYTES_MAX} bytes")]
    TooLong,
    /// It contains a blank, a control character, a backslash, or a character that is not ASCII.
    #[error("callback URI has a character that is not allowed")]
    Character,
    /// It is not an absolute URL.
    #[error("callback URI is not an absolute URL")]
    Syntax,
    /// It is neither https nor http to a loopback host.
    #[error("callback URI is not https (http is for loopback hosts only)")]
    Scheme,
    /// It has a user name, a password or a fragment.
    #[error("callback URI has userinfo or a fragment")]
    UserinfoOrFragment,
}

/// The id of a call: opaque, 1 to 128 visible ASCII characters without `/`, `\`, `?` and `#`. It is neither
/// `.` nor `..`, which have another meaning in a path. Real ids are GUIDs.
///
/// ```
/// use switchboard_graph::{GraphCallId, InvalidGraphCallId};
///
/// let id = GraphCallId::parse("a31f5a00-44dc-4b21-9c3e-0d07d53b1001")?;
/// assert_eq!(id.as_str(), "a31f5a00-44dc-4b21-9c3e-0d07d53b1001");
/// assert_eq!(GraphCallId::parse("../users"), Err(InvalidGraphCallId::Character));
/// # Ok::<(), InvalidGraphCallId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphCallId(String);

impl GraphCallId {
    /// Parses an id.
    ///
    /// # Errors
    ///
    /// `text` is empty or too long, or contains a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidGraphCallId> {
        if text.is_empty() || text.len() > CALL_ID_BYTES_MAX {
            return Err(InvalidGraphCallId::Length);
        }
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'?' | b'#');
        if !text.bytes().all(allowed) || text == "." || text == ".." {
            return Err(InvalidGraphCallId::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id as one segment of a path. Everything except RFC 3986's unreserved characters is
    /// escaped, also `%` and OData's `$` and `(`: no id can change the path.
    fn segment(&self) -> String {
        let mut segment = String::with_capacity(self.0.len());
        for character in self.0.chars() {
            if character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_' | '~') {
                segment.push(character);
            } else {
                segment.push_str(&format!("%{:02X}", u32::from(character)));
            }
        }
        segment
    }
}

impl fmt::Display for GraphCallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a participant of a call. The same rules hold as for [`GraphCallId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantId(GraphCallId);

impl ParticipantId {
    /// Parses an id.
    ///
    /// # Errors
    ///
    /// `text` is empty or too long, or contains a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidGraphCallId> {
        GraphCallId::parse(text).map(Self)
    }

    /// Returns the text as it was given.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns `participants/{id}`, the path below the call.
    pub(crate) fn path(&self) -> String {
        format!("participants/{}", self.0.segment())
    }
}

/// The text is not the id of a call or of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGraphCallId {
    /// It is empty or too long.
    #[error("id is not 1 to {CALL_ID_BYTES_MAX} bytes long")]
    Length,
    /// It contains a character that is not allowed.
    #[error("id has a character that is not allowed")]
    Character,
}

/// Returns `{endpoint}/v1.0/communications/calls/{id}/{action}`, or the URL of the call itself (Microsoft
/// Graph REST reference, "call").
pub(crate) fn call_url(endpoint: &Url, call: &GraphCallId, action: Option<&str>) -> Url {
    let action = action.map(|action| format!("/{action}")).unwrap_or_default();
    below(endpoint, &format!("v1.0/communications/calls/{}{action}", call.segment()))
}

/// Returns the URL of the collection of calls.
pub(crate) fn calls_url(endpoint: &Url) -> Url {
    below(endpoint, "v1.0/communications/calls")
}

/// Returns the URL of `path` below the path of `base`. `path` needs no escaping.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Returns true if a request to `url` cannot be read on its way: https, or http to a loopback host.
///
/// auth, routing and server have a copy of this rule and of `has_userinfo`. None of the first three may
/// depend on another (docs/architecture.md), and ten lines do not justify a crate for all to depend on.
pub(crate) fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => match url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        },
        _ => false,
    }
}

/// Returns true if `url` has a user name or a password.
pub(crate) fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Most servers accept a URI of this length.
const CALLBACK_BYTES_MAX: usize = 2048;

/// Real ids are GUIDs of 36 bytes.
const CALL_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_callback(text: &str, expected: Result<(), InvalidCallbackUri>) {
        let parsed = CallbackUri::parse(text);
        assert_eq!(parsed.as_ref().map(|_| ()).map_err(|error| *error), expected, "{text}");
        assert!(parsed.map_or(true, |uri| uri.as_str() == text));
    }

    #[track_caller]
    fn check_path(id: &str, expected: Result<&str, InvalidGraphCallId>) {
        let url = GraphCallId::parse(id).map(|id| {
            call_url(&Url::parse("https://graph.example/base/").unwrap(), &id, Some("answer")).to_string()
        });
        let expected = expected
            .map(|segment| format!("https://graph.example/base/v1.0/communications/calls/{segment}/answer"));
        assert_eq!(url, expected, "{id}");
    }

    #[test]
    fn a_callback_is_https_or_on_loopback() {
        for text in [
            "https://emea.bots.example/api/callbacks/emea/bot-1/k1.0.abc",
            "https://emea.bots.example:9441/a?b=c%2F",
            "http://localhost:8443/a",
            "http://127.0.0.1/",
            "http://[::1]:1/a",
        ] {
            check_callback(text, Ok(()));
        }
        for text in ["http://bots.example/", "http://localhost.example/", "ftp://a/", "file:///etc/passwd"] {
            check_callback(text, Err(InvalidCallbackUri::Scheme));
        }
        for text in ["", "/api/callbacks", "https://", "bots.example"] {
            check_callback(text, Err(InvalidCallbackUri::Syntax));
        }
        for text in ["https://u@a/", "https://:p@a/", "https://a/#f", "https://a/#"] {
            check_callback(text, Err(InvalidCallbackUri::UserinfoOrFragment));
        }
        for text in [" https://a/", "https://a/\n", "https://a/b c", "https:\\\\a", "https://ä/"] {
            check_callback(text, Err(InvalidCallbackUri::Character));
        }
        check_callback(&format!("https://a/{}", "b".repeat(2039)), Err(InvalidCallbackUri::TooLong));
    }

    #[test]
    fn a_call_id_cannot_leave_its_segment() {
        let guid = "a31f5a00-44dc-4b21-9c3e-0d07d53b1001";
        check_path(guid, Ok(guid));
        check_path("57DAB8B1", Ok("57DAB8B1"));
        check_path("a:b@c=d", Ok("a%3Ab%40c%3Dd"));
        check_path("%2e%2e", Ok("%252e%252e"));
        check_path("a%2fb", Ok("a%252fb"));
        check_path("$count", Ok("%24count"));
        check_path("a(1)", Ok("a%281%29"));
        check_path("...", Ok("..."));
        for id in ["", &"a".repeat(129)] {
            check_path(id, Err(InvalidGraphCallId::Length));
        }
        for id in [".", "..", "a/b", "a\\b", "a?b", "a#b", "a b", "a\n", "a\0", "ä"] {
            check_path(id, Err(InvalidGraphCallId::Character));
        }
    }
}
