//! Networks, and the addresses that a discovered instance may not have unless the operator allows them.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// A network in CIDR notation, or one address.
///
/// ```
/// use switchboard_delivery::Network;
///
/// let network: Network = "10.0.0.0/8".parse().unwrap();
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// assert!("10.0.0.1/8".parse::<Network>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Returns true if an address is in the network. An IPv4 address that was mapped into IPv6 counts as
    /// IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| InvalidNetwork)?,
        };
        // Bits behind the mask are a mistake, and it is not clear whether the address or the mask is wrong.
        if network.trunc() == network { Ok(Self(network)) } else { Err(InvalidNetwork) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network like 10.0.0.0/8 or fd00::/8, without bits behind its mask")]
pub struct InvalidNetwork;

/// The kind of an address that a discovered instance may not have; `None` if it may have the address.
///
/// Otherwise a forged response of a source could make the gateway send tokens to itself, to its neighbours,
/// or to the credentials service of its machine (server-side request forgery).
pub(crate) fn forbidden(address: IpAddr, allow: &[Network]) -> Option<&'static str> {
    if allow.iter().any(|network| network.contains(address)) {
        return None;
    }
    match address.to_canonical() {
        IpAddr::V4(v4) if METADATA_V4.contains(&v4.octets()) => Some("a metadata address"),
        IpAddr::V4(v4) if v4.is_loopback() => Some("a loopback address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        // All of 0.0.0.0/8 means this host (RFC 6890, section 2.2.2).
        IpAddr::V4(v4) if v4.octets().starts_with(&[0]) => Some("an unspecified address"),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some("a multicast or broadcast address"),
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) if v6.segments() == METADATA_V6 => Some("a metadata address"),
        IpAddr::V6(v6) if v6.is_loopback() => Some("a loopback address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("an unspecified address"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("a multicast or broadcast address"),
        IpAddr::V6(v6) => match v6.segments() {
            // Addresses that stand for an IPv4 one: NAT64 (RFC 6052), and the deprecated compatible ones (RFC
            // 4291).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                forbidden(IpAddr::from([a, b, c, d]), &[])
            }
            _ => None,
        },
    }
}

/// The first of these addresses that a discovered instance may not have, and its kind.
pub(crate) fn first_forbidden(addresses: &[IpAddr], allow: &[Network]) -> Option<(IpAddr, &'static str)> {
    addresses.iter().find_map(|address| Some((*address, forbidden(*address, allow)?)))
}

/// Addresses at which clouds serve the credentials of a machine: most clouds, Azure's host service, and
/// Alibaba.
const METADATA_V4: [[u8; 4]; 3] = [[169, 254, 169, 254], [168, 63, 129, 16], [100, 100, 100, 200]];
/// `fd00:ec2::254`, the credentials service of AWS.
const METADATA_V6: [u16; 8] = [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: Option<&str>) {
        assert_eq!(forbidden(address.parse().unwrap(), &[]), expected, "{address}");
    }

    #[test]
    fn addresses_of_this_host_and_of_credentials_services_are_forbidden() {
        for address in
            ["10.0.0.1", "192.168.1.1", "100.64.0.1", "20.1.2.3", "fd00::1", "2001:db8::1", "64:ff9b::a00:1"]
        {
            check(address, None);
        }
        check("127.0.0.1", Some("a loopback address"));
        check("127.255.0.1", Some("a loopback address"));
        check("::1", Some("a loopback address"));
        check("::ffff:127.0.0.1", Some("a loopback address"));
        check("64:ff9b::7f00:1", Some("a loopback address"));
        check("::127.0.0.1", Some("a loopback address"));
        check("169.254.1.1", Some("a link-local address"));
        check("fe80::1", Some("a link-local address"));
        check("0.0.0.0", Some("an unspecified address"));
        check("0.1.2.3", Some("an unspecified address"));
        check("::", Some("an unspecified address"));
        check("224.0.0.1", Some("a multicast or broadcast address"));
        check("255.255.255.255", Some("a multicast or broadcast address"));
        check("ff02::1", Some("a multicast or broadcast address"));
        check("169.254.169.254", Some("a metadata address"));
        check("::ffff:169.254.169.254", Some("a metadata address"));
        check("64:ff9b::a9fe:a9fe", Some("a metadata address"));
        check("168.63.129.16", Some("a metadata address"));
        check("fd00:ec2::254", Some("a metadata address"));
    }

    #[test]
    fn addresses_that_the_operator_allows_may_be_used() {
        let allow = ["127.0.0.0/8", "::1"].map(|text| text.parse::<Network>().unwrap());
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "::1"] {
            assert_eq!(forbidden(address.parse().unwrap(), &allow), None, "{address}");
        }
        assert!(forbidden("169.254.169.254".parse().unwrap(), &allow).is_some());
    }

    #[test]
    fn a_network_with_bits_behind_its_mask_is_rejected() {
        for text in ["10.0.0.0/8", "10.0.0.1", "10.0.0.1/32", "fd00::/8", "::1", "0.0.0.0/0"] {
            assert!(text.parse::<Network>().is_ok(), "{text}");
        }
        for text in
            ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "fd00::1/8", "localhost", " 10.0.0.0/8", "10/8"]
        {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}");
        }
    }
}
