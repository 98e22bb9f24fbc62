//! URLs and paths in a configuration.

use url::{Host, Url};

use super::section::Setting;

/// Parses an absolute URL without userinfo and fragment: https, or http for a loopback host. `like` is an
/// example.
pub(super) fn secure(setting: &Setting<'_>, like: &str) -> Option<Url> {
    if let Some(mistake) = setting.written().and_then(|text| host_mistake(text).or_else(|| placeholder(text)))
    {
        setting.problem(mistake);
        return None;
    }
    let right = format!("an absolute URL like \"{like}\", without user, password and fragment");
    let url = setting.parse(&right, absolute)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        setting.problem("plain http is for loopback hosts only; write https");
        return None;
    }
    Some(url)
}

/// Parses such a URL without a query, since the gateway adds one.
pub(super) fn secure_without_query(setting: &Setting<'_>, like: &str) -> Option<Url> {
    let url = secure(setting, like)?;
    if url.query().is_some() {
        setting.problem("has a query; leave it out");
        return None;
    }
    Some(url)
}

/// Parses a path of the gateway: `/a/b`, of letters, digits and `-._~`, without an empty or dotted segment.
/// The gateway compares it with raw request paths, so it must have one spelling.
pub(super) fn path(setting: &Setting<'_>) -> Option<String> {
    let is_segment = |segment: &str| {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(unreserved)
    };
    setting
        .parse(
            "a path like \"/api/calls\", of letters, digits and -._~, without a slash at its end",
            |text| text.strip_prefix('/')?.split('/').all(is_segment).then_some(text),
        )
        .filter(|path| {
            let fits = path.len() <= PATH_BYTES_MAX;
            if !fits {
                setting.problem(format!("longer than {PATH_BYTES_MAX} characters"));
            }
            fits
        })
        .map(str::to_owned)
}

/// Parses an absolute http or https URL without userinfo and fragment.
///
/// auth, graph and routing check their URLs again, each by a private rule: they are usable without this
/// crate. The checks here find the problem first, with its place in the file.
pub(crate) fn absolute(text: &str) -> Option<Url> {
    // The URL parser accepts spaces, `https:host` and `https:///host`. An operator who writes that means
    // something else.
    let (_, rest) = text.split_once("://")?;
    if rest.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (plain && matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The problem of a URL whose host cannot be looked up as it is written. The URL parser accepts a wildcard.
pub(super) fn host_mistake(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('*') {
        return Some("has a wildcard in its host; write the full name of one host".to_owned());
    }
    if authority.is_ascii() {
        return None;
    }
    let ascii = Url::parse(text).ok()?.host_str()?.to_owned();
    Some(format!("has a host outside ASCII; write it in punycode, \"{ascii}\""))
}

/// The problem of a URL with a placeholder. The gateway would request the braces.
fn placeholder(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('{')?;
    let name =
        rest.split_once('}').map(|(name, _)| name).filter(|name| name.bytes().all(|b| b.is_ascii_graphic()));
    let name = name.map_or_else(|| "a brace".to_owned(), |name| format!("{{{name}}}"));
    Some(format!("has {name}, which is not replaced here; write the URL as it is requested"))
}

/// True if the host of a URL is a loopback host. The libraries have this rule for their own settings; see
/// [`absolute`].
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The longest path. With the parts of a callback it stays within a request target of 2 KiB and a callback
/// URI of 250 characters.
const PATH_BYTES_MAX: usize = 100;
