//! `TokenSummary`: the content of an unverified token as a log may show it.

use std::{fmt, ops::Deref};

use url::{Host, Url};

use crate::{
    claims::Claims,
    issuer::guid,
    json::Value,
    token::{HeaderMembers, is_key_id},
};

/// The content of a refused token. Nothing of it is proven. A value is `None` if the token does not have it,
/// or was refused before it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenSummary {
    /// The issuer if a trust has it, else its length and host.
    pub issuer: Option<LogValue>,
    /// The key id, or the length of a malformed one.
    pub key_id: Option<LogValue>,
    /// The audience if it is a GUID or a configured one, else its length.
    pub audience: Option<LogValue>,
    /// The tenant if it is a GUID, else its length.
    pub tenant: Option<LogValue>,
    /// The calling app if it is a GUID, else its length.
    pub calling_app: Option<LogValue>,
    /// The time in seconds since `iat`, or since `nbf` without one. Negative if it is in the future.
    pub age_s: Option<i64>,
    /// The time in seconds until `exp`. Negative if it has passed.
    pub expires_in_s: Option<i64>,
}

/// A value that is safe in a log: visible ASCII of bounded length, with spaces only between words of this
/// crate.
///
/// Only constructors that enforce a grammar create one, so no other text of a token can reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct LogValue(Box<str>);

impl TokenSummary {
    /// Summarises the parts that could be read. `issuer_is_known`: a trust has the issuer;
    /// `audience_is_known`: an app has the audience. `now` is in Unix seconds.
    pub(crate) fn of(
        header: Option<&HeaderMembers<'_>>,
        claims: Option<&Claims<'_>>,
        issuer_is_known: bool,
        audience_is_known: bool,
        now: u64,
    ) -> Self {
        let key_id = header.and_then(HeaderMembers::key_id).map(LogValue::key_id);
        let Some(claims) = claims else { return Self { key_id, ..Self::default() } };
        let named = claims.named();
        Self {
            issuer: claims.issuer().ok().map(|issuer| LogValue::issuer(issuer, issuer_is_known)),
            key_id,
            audience: named.audience.map(|audience| LogValue::audience(audience, audience_is_known)),
            tenant: named.tenant.map(LogValue::guid),
            calling_app: named.calling_app.map(LogValue::guid),
            age_s: claims.issued_at().map(|issued_at| difference(now, issued_at)),
            expires_in_s: claims.expires_at().map(|expires_at| difference(expires_at, now)),
        }
    }
}

impl LogValue {
    fn key_id(value: &Value<'_>) -> Self {
        Self::checked(value, |text| is_key_id(text).then(|| text.into()))
    }

    fn guid(value: &Value<'_>) -> Self {
        Self::checked(value, |text| guid(text).map(|id| id.to_string().into()))
    }

    /// `is_known`: the text is that of a setting, except for the case of a GUID.
    fn audience(value: &Value<'_>, is_known: bool) -> Self {
        Self::checked(value, |text| {
            guid(text).map(|id| id.to_string().into()).or_else(|| is_known.then(|| text.into()))
        })
    }

    /// `is_known`: the text is that of a setting, with a GUID in place of `{tid}`.
    fn issuer(text: &str, is_known: bool) -> Self {
        if is_known {
            return Self(text.into());
        }
        let bytes = text.len();
        Self(match host(text) {
            Some(host) => format!("{bytes} bytes, host {host}").into(),
            None => format!("{bytes} bytes, no host").into(),
        })
    }

    /// Returns the text if `accepted` returns it, else only its length.
    fn checked(value: &Value<'_>, accepted: impl FnOnce(&str) -> Option<Box<str>>) -> Self {
        match value {
            Value::Text(text) | Value::OneText(text) => {
                Self(accepted(text).unwrap_or_else(|| format!("{} bytes", text.len()).into()))
            }
            Value::Number(_) | Value::Other => Self("not a text".into()),
        }
    }
}

impl Deref for LogValue {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LogValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for LogValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the host of an http or https URL: an address, or a name with the grammar of RFC 1123 section 2.1.
fn host(text: &str) -> Option<String> {
    if text.len() > ISSUER_BYTES_MAX {
        return None;
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    match url.host()? {
        Host::Domain(name) => is_host_name(name).then(|| name.to_owned()),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(format!("[{address}]")),
    }
}

fn is_host_name(name: &str) -> bool {
    name.len() <= HOST_BYTES_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

fn difference(later: u64, earlier: u64) -> i64 {
    i64::try_from(i128::from(later) - i128::from(earlier)).unwrap_or(if later > earlier {
        i64::MAX
    } else {
        i64::MIN
    })
}

/// A longer issuer is not parsed: the work grows with its length, and its host is not worth it.
const ISSUER_BYTES_MAX: usize = 512;

/// RFC 1035 section 2.3.4.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    #[test]
    fn an_unknown_issuer_shows_its_length_and_host() {
        for (issuer, expected) in [
            ("https://evil.example/11111111-2222-4333-8444-555555555555/v2.0", "62 bytes, host evil.example"),
            ("https://user:secret@evil.example:8443/?a=b", "42 bytes, host evil.example"),
            ("https://api.botframew\u{43e}rk.com", "29 bytes, host api.xn--botframewrk-znj.com"),
            ("http://169.254.169.254/", "23 bytes, host 169.254.169.254"),
            ("https://[::1]/", "14 bytes, host [::1]"),
            ("https://evil_\".example", "22 bytes, no host"),
            ("data:text/html,evil", "19 bytes, no host"),
            ("redis://evil%20host/", "20 bytes, no host"),
            ("evil\r\nINFO forged", "17 bytes, no host"),
            ("", "0 bytes, no host"),
        ] {
            assert_eq!(&*LogValue::issuer(issuer, false), expected, "{issuer}");
        }
        let long = format!("https://{}.example/", "a".repeat(600));
        assert_eq!(&*LogValue::issuer(&long, false), "617 bytes, no host");
        assert_eq!(&*LogValue::issuer("https://known.example", true), "https://known.example");
    }

    #[test]
    fn a_value_without_its_grammar_shows_its_length() {
        for (found, expected) in [
            (LogValue::key_id(&text("skype-1")), "skype-1"),
            (LogValue::key_id(&text("a\r\nINFO")), "7 bytes"),
            (LogValue::key_id(&text(&"k".repeat(129))), "129 bytes"),
            (LogValue::key_id(&Value::Number(1)), "not a text"),
            (
                LogValue::guid(&text("11111111-2222-4333-8444-55555555555A")),
                "11111111-2222-4333-8444-55555555555a",
            ),
            (LogValue::guid(&text("contoso.com")), "11 bytes"),
            (LogValue::audience(&text("api://unknown"), false), "13 bytes"),
            (LogValue::audience(&text("api://known"), true), "api://known"),
            (LogValue::audience(&Value::Other, false), "not a text"),
        ] {
            assert_eq!(&*found, expected);
        }
    }

    #[test]
    fn differences_are_bounded() {
        assert_eq!((difference(5, 3), difference(3, 5)), (2, -2));
        assert_eq!((difference(u64::MAX, 0), difference(0, u64::MAX)), (i64::MAX, i64::MIN));
    }
}
