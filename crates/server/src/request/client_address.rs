//! The address of a request's sender, for the log. Nothing is authenticated by it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Proxies, ProxyProtocol};

/// Returns the address of the sender of a request. `address` is that of its connection: of the socket, or of
/// the header of the PROXY protocol.
///
/// With `x-forwarded-for`, the rightmost address outside of the networks of the proxies counts: a sender may
/// have written what is on its left. An entry that is no address ends the search at the proxy that added it.
pub(crate) fn client_address(proxies: Option<&Proxies>, address: IpAddr, headers: &HeaderMap) -> IpAddr {
    let Some(proxies) = proxies.filter(|proxies| proxies.protocol == ProxyProtocol::XForwardedFor) else {
        return address;
    };
    let mut nearest = address;
    // All fields together are one list (RFC 9110 section 5.3).
    let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut entries = values.map(HeaderValue::as_bytes).flat_map(|value| value.rsplit(|byte| *byte == b','));
    while proxies.contains(nearest) {
        let Some(entry) = entries.next().and_then(entry_address) else { break };
        nearest = entry;
    }
    nearest
}

/// Reads an entry: an address, also with a port, as the Application Gateway of Azure writes it.
fn entry_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(protocol: ProxyProtocol) -> Proxies {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().unwrap());
        Proxies { networks: networks.into(), protocol }
    }

    #[track_caller]
    fn check(address: &str, fields: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(X_FORWARDED_FOR, field.parse().unwrap());
        }
        let address = address.parse().unwrap();
        let client = client_address(Some(&proxies(ProxyProtocol::XForwardedFor)), address, &headers);
        assert_eq!(client.to_string(), expected, "{address} {fields:?}");
        assert_eq!(client_address(Some(&proxies(ProxyProtocol::Header)), address, &headers), address);
        assert_eq!(client_address(None, address, &headers), address);
    }

    #[test]
    fn the_rightmost_address_outside_of_the_networks_counts() {
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["192.0.2.7"], "192.0.2.7");
        check("10.0.0.1", &["203.0.113.9, 192.0.2.7"], "192.0.2.7");
        check("10.0.0.1", &["203.0.113.9 ,192.0.2.7, 10.0.0.2 "], "192.0.2.7");
        check("10.0.0.1", &["203.0.113.9", "192.0.2.7", "10.0.0.2,10.0.0.3"], "192.0.2.7");
        check("10.0.0.1", &["192.0.2.7:56324"], "192.0.2.7");
        check("10.0.0.1", &["2001:db8::7"], "2001:db8::7");
        check("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7");
        check("10.0.0.1", &["[2001:db8::7]:443, 2001:db8:1::2"], "2001:db8::7");
        check("10.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7");
        // All of them are proxies: the farthest one.
        check("10.0.0.1", &["10.0.0.9, 10.0.0.2"], "10.0.0.9");
        // An entry that is no address: the proxy that added it.
        check("10.0.0.1", &["192.0.2.7, unknown"], "10.0.0.1");
        check("10.0.0.1", &["192.0.2.7, _hidden, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["192.0.2.7,"], "10.0.0.1");
        check("10.0.0.1", &["\"192.0.2.7\""], "10.0.0.1");
    }

    #[test]
    fn the_header_of_a_sender_that_is_no_proxy_is_not_read() {
        check("192.0.2.1", &["203.0.113.9"], "192.0.2.1");
        check("192.0.2.1", &["10.0.0.9"], "192.0.2.1");
    }

    proptest! {
        #[test]
        fn a_sender_cannot_change_what_the_nearest_proxy_wrote(
            forged in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let Ok(forged) = HeaderValue::from_bytes(&forged) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.append(X_FORWARDED_FOR, forged);
            let proxies = proxies(ProxyProtocol::XForwardedFor);
            // Any bytes are safe.
            client_address(Some(&proxies), "10.0.0.1".parse().unwrap(), &headers);
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.7"));
            let client = client_address(Some(&proxies), "10.0.0.1".parse().unwrap(), &headers);
            prop_assert_eq!(client.to_string(), "192.0.2.7");
        }
    }
}
