//! `X-Forwarded-For`, `-Host` and `-Proto`, by which a bot behind the gateway learns how the platform reached
//! it.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::request::sender::Sender;

/// Sets `X-Forwarded-For`, `-Host` and `-Proto`. `host` is the host that the request names.
///
/// The fields of a trusted proxy stay, and its address is appended to `X-Forwarded-For`. From any other
/// sender every field of this kind is removed first: it may say anything.
pub(crate) fn set(headers: &mut HeaderMap, sender: Sender, host: Option<HeaderValue>) {
    // A proxy writes the usual spelling. Another one is from the sender before it.
    let is_forged = |name: &str| is_claim(name) && (!sender.is_trusted_proxy || name.contains('_'));
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_forged(name.as_str())).cloned().collect();
    for name in &claims {
        headers.remove(name);
    }
    let address = sender.address.to_string();
    let earlier = headers.get_all(&FOR).iter().map(HeaderValue::as_bytes);
    let all: Vec<&[u8]> = earlier.chain([address.as_bytes()]).collect();
    if let Ok(value) = HeaderValue::from_bytes(&all.join(b", ".as_slice())) {
        headers.insert(&FOR, value);
    }
    if let Some(host) = host {
        headers.entry(&HOST).or_insert(host);
    }
    let scheme = if sender.is_secure { "https" } else { "http" };
    headers.entry(&PROTO).or_insert(HeaderValue::from_static(scheme));
}

/// Returns true for a field that says something about an earlier sender: `X-Forwarded-*`, and `Forwarded` of
/// RFC 7239. Frameworks that pass fields as environment variables cannot tell `_` from `-`.
fn is_claim(name: &str) -> bool {
    let is_same = |(one, other): (u8, u8)| one == other || one == b'_' && other == b'-';
    let starts_like =
        |prefix: &str| name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(is_same);
    starts_like("x-forwarded-") || name == "forwarded"
}

static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: Sender = Sender {
        address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
        is_trusted_proxy: false,
        is_secure: true,
    };
    const PROXY: Sender = Sender { is_trusted_proxy: true, is_secure: false, ..DIRECT };

    #[track_caller]
    fn check(sender: Sender, received: &[(&'static str, &'static str)], expected: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in received {
            headers.append(*name, HeaderValue::from_static(value));
        }
        set(&mut headers, sender, Some(HeaderValue::from_static("calls.contoso.com")));
        let mut fields: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        fields.sort_unstable();
        assert_eq!(fields, expected, "{received:?}");
    }

    const OURS: [(&str, &str); 3] = [
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "calls.contoso.com"),
        ("x-forwarded-proto", "https"),
    ];

    #[test]
    fn a_sender_that_is_no_trusted_proxy_cannot_write_the_fields() {
        check(DIRECT, &[], &OURS);
        for name in [
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-prefix",
            "x_forwarded_for",
            "x-forwarded_proto",
            "forwarded",
        ] {
            check(DIRECT, &[(name, "forged"), (name, "again")], &OURS);
        }
        let plain = Sender { is_secure: false, ..DIRECT };
        check(plain, &[], &[OURS[0], OURS[1], ("x-forwarded-proto", "http")]);
    }

    #[test]
    fn the_fields_of_a_trusted_proxy_stay_and_its_address_is_appended() {
        check(PROXY, &[], &[OURS[0], OURS[1], ("x-forwarded-proto", "http")]);
        check(
            PROXY,
            &[
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
                ("x_forwarded_proto", "forged"),
                ("x-forwarded-host", "bots.contoso.com"),
                ("x-forwarded-proto", "https"),
            ],
            &[
                ("x-forwarded-for", "203.0.113.9, 10.0.0.1, 10.0.0.2, 192.0.2.7"),
                ("x-forwarded-host", "bots.contoso.com"),
                ("x-forwarded-proto", "https"),
            ],
        );
    }
}
