//! Instances whose URL leads back to this gateway.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use ::url::{Host, Url};
use switchboard_delivery::{InstanceSettings, UpstreamUrl};

use super::section::Section;

/// Checks that no instance of the setting `list` has the host and port of the public listener or of the
/// callback URIs. `listen` and `base` are `None` if they have a problem already.
///
/// Names are not looked up: an answer of DNS may differ later. At run time the gateway refuses a request that
/// it sent itself.
pub(super) fn check<'i>(
    root: &Section<'_>,
    list: &str,
    listen: Option<SocketAddr>,
    base: Option<&Url>,
    instances: impl IntoIterator<Item = &'i InstanceSettings>,
) {
    for (index, instance) in instances.into_iter().enumerate() {
        let urls = [("url", Some(&instance.url)), ("callback_url", instance.callback_url.as_ref())];
        for (name, url) in urls {
            let Some(url) = url.and_then(parsed) else { continue };
            let setting = if listen.is_some_and(|listen| leads_to(&url, listen)) {
                "listen.address"
            } else if base.is_some_and(|base| has_same_authority(&url, base)) {
                "callback.base"
            } else {
                continue;
            };
            root.problem(
                &format!("{list}[{index}].{name}"),
                format!(
                    "leads to this gateway, whose {setting} has the same host and port; write the URL at \
                     which the bot itself listens"
                ),
            );
        }
    }
}

fn parsed(url: &UpstreamUrl) -> Option<Url> {
    Url::parse(&url.to_string()).ok()
}

/// True if a connection to the host and port of `url` reaches a listener that is bound to `listen`.
fn leads_to(url: &Url, listen: SocketAddr) -> bool {
    // Port 0 is another free port each time.
    if listen.port() == 0 || url.port_or_known_default() != Some(listen.port()) {
        return false;
    }
    let bound = listen.ip().to_canonical();
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical(),
        // Either loopback address; RFC 6761 section 6.3.
        Some(Host::Domain(name)) => {
            return is_localhost(name) && (bound.is_unspecified() || bound.is_loopback());
        }
        None => return false,
    };
    match bound {
        // A socket bound to `::` takes connections over IPv4, too.
        IpAddr::V6(any) if any.is_unspecified() => is_local(address),
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4() && is_local(address),
        // A connection to an unspecified address goes to loopback.
        IpAddr::V4(_) | IpAddr::V6(_) => {
            address == bound || (address.is_unspecified() && bound.is_loopback())
        }
    }
}

fn has_same_authority(url: &Url, base: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_owned());
    host(url) == host(base) && url.port_or_known_default() == base.port_or_known_default()
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// True for an address of this machine: only to these can a socket be bound.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_the_listener_if_a_connection_to_it_would_arrive_there() {
        for (listen, url, expected) in [
            ("127.0.0.1:8443", "http://127.0.0.1:8443/api/calls", true),
            ("127.0.0.1:8443", "https://127.0.0.1:8443/{app}/calls", true),
            ("127.0.0.1:8443", "http://localhost:8443/", true),
            ("127.0.0.1:8443", "http://LOCALHOST.:8443/", true),
            ("127.0.0.1:8443", "http://0.0.0.0:8443/", true),
            ("127.0.0.1:8443", "http://[::ffff:127.0.0.1]:8443/", true),
            ("127.0.0.1:8443", "http://127.0.0.1:3978/", false),
            ("127.0.0.1:8443", "http://127.0.0.2:8443/", false),
            ("127.0.0.1:8443", "http://[::1]:8443/", false),
            ("127.0.0.1:80", "http://127.0.0.1/", true),
            ("127.0.0.1:443", "https://127.0.0.1/", true),
            ("127.0.0.1:0", "http://127.0.0.1:8443/", false),
            ("0.0.0.0:8443", "http://127.0.0.1:8443/", true),
            ("0.0.0.0:8443", "http://127.9.9.9:8443/", true),
            ("0.0.0.0:8443", "http://localhost:8443/", true),
            ("0.0.0.0:8443", "http://[::1]:8443/", false),
            // Documentation addresses (RFC 5737, RFC 3849) belong to no machine.
            ("0.0.0.0:8443", "http://192.0.2.1:8443/", false),
            ("[::]:8443", "http://127.0.0.1:8443/", true),
            ("[::]:8443", "http://[::1]:8443/", true),
            ("[::]:8443", "http://[2001:db8::1]:8443/", false),
            ("[::1]:8443", "http://[::1]:8443/", true),
            ("[::1]:8443", "http://127.0.0.1:8443/", false),
            ("192.0.2.1:8443", "http://192.0.2.1:8443/", true),
            ("192.0.2.1:8443", "http://localhost:8443/", false),
            ("0.0.0.0:8443", "http://bot-0.bots.svc:8443/", false),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(leads_to(&parsed, listen.parse().unwrap()), expected, "{listen} {url}");
        }
    }

    #[test]
    fn an_address_of_this_machine_is_local() {
        // The address from which this machine would reach another one. Nothing is sent.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
        // A machine without a network has none.
        if let Ok(own) = own {
            assert!(is_local(own.ip()), "{own}");
        }
        assert!(!is_local("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_host_is_compared_whatever_its_spelling() {
        for (url, expected) in [
            ("https://emea.bots.contoso.com/api/calls", true),
            ("https://EMEA.bots.contoso.com:443/", true),
            ("https://emea.bots.contoso.com./", true),
            ("http://emea.bots.contoso.com/", false),
            ("https://emea.bots.contoso.com:8443/", false),
            ("https://amer.bots.contoso.com/", false),
        ] {
            let base = Url::parse("https://emea.bots.contoso.com").unwrap();
            assert_eq!(has_same_authority(&Url::parse(url).unwrap(), &base), expected, "{url}");
        }
    }
}
