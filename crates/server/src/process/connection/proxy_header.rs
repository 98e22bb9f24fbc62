//! The header of the PROXY protocol, versions 1 and 2, with which a balancer says whose connection it relays.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. The header is read without a byte of what
//! follows it, which belongs to TLS or HTTP. Of the header, only the address of the sender is used.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::{io::AsyncReadExt, net::TcpStream};

/// A connection that does not begin with a valid header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    /// The connection begins with something else.
    #[error("no header of the PROXY protocol")]
    Absent,
    /// A part of the header breaks the protocol.
    #[error("header of the PROXY protocol with an invalid {0}")]
    Invalid(&'static str),
    /// The header is longer than the gateway accepts.
    #[error("header of the PROXY protocol of more than {limit_bytes} bytes")]
    TooLong {
        /// The bytes that are accepted.
        limit_bytes: usize,
    },
    /// The connection ended before the header did, as the health check of a balancer does.
    #[error("connection ended before its header of the PROXY protocol")]
    Ended(#[from] io::Error),
}

/// Reads the header at the start of a connection. Returns the address of the sender, or `None` if the proxy
/// speaks for itself (`LOCAL`, `UNKNOWN`) or names no TCP address.
pub(crate) async fn read_proxy_header(stream: &mut TcpStream) -> Result<Option<IpAddr>, ProxyHeaderError> {
    // No header of either version is shorter.
    let mut start = [0; V1_BYTES_MIN];
    stream.read_exact(&mut start).await?;
    if start.starts_with(V2_SIGNATURE) {
        let [.., command, family, length_high] = start;
        let length = u16::from_be_bytes([length_high, stream.read_u8().await?]);
        let length = usize::from(length);
        if length > V2_BYTES_MAX {
            return Err(ProxyHeaderError::TooLong { limit_bytes: V2_BYTES_MAX });
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        parse_v2(command, family, &rest).map_err(ProxyHeaderError::Invalid)
    } else if start.starts_with(V1_START) {
        let line = read_line(stream, &start).await?;
        parse_v1(&line).map_err(ProxyHeaderError::Invalid)
    } else {
        Err(ProxyHeaderError::Absent)
    }
}

/// Returns true if a connection that starts with these bytes begins with a header. They are neither TLS nor a
/// method of HTTP.
pub(crate) fn looks_like_proxy_header(start: &[u8; PROXY_START_BYTES]) -> bool {
    V1_START.starts_with(start) || V2_SIGNATURE.starts_with(start)
}

/// Reads the rest of a line of version 1. It peeks, and takes bytes only up to the end of the line.
async fn read_line(stream: &mut TcpStream, start: &[u8]) -> Result<Vec<u8>, ProxyHeaderError> {
    let mut line = start.to_vec();
    let mut peeked = [0; V1_BYTES_MAX];
    while !line.ends_with(b"\n") {
        let room = V1_BYTES_MAX.saturating_sub(line.len());
        let Some(window) = peeked.get_mut(..room).filter(|window| !window.is_empty()) else {
            return Err(ProxyHeaderError::TooLong { limit_bytes: V1_BYTES_MAX });
        };
        let available = stream.peek(window).await?;
        let available = window.get_mut(..available).unwrap_or_default();
        if available.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let end = available.iter().position(|byte| *byte == b'\n').map_or(available.len(), |at| at + 1);
        let own = available.get_mut(..end).unwrap_or_default();
        stream.read_exact(own).await?;
        line.extend_from_slice(own);
    }
    Ok(line)
}

/// Parses a line like `PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n`. The error is the part that is
/// invalid.
fn parse_v1(line: &[u8]) -> Result<Option<IpAddr>, &'static str> {
    let line = line.strip_suffix(b"\r\n").ok_or("end of line")?;
    let line = std::str::from_utf8(line).map_err(|_| "character")?;
    let mut words = line.split(' ').skip(1);
    let protocol = words.next();
    let address: fn(&str) -> Option<IpAddr> = match protocol {
        // The rest of the line must be ignored.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        Some(_) | None => return Err("protocol"),
    };
    let source = words.next().and_then(address).ok_or("source address")?;
    words.next().and_then(address).ok_or("destination address")?;
    for _ in 0..2 {
        words.next().filter(|word| is_port(word)).ok_or("port")?;
    }
    if words.next().is_some() { Err("end of line") } else { Ok(Some(source.to_canonical())) }
}

fn is_port(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok()
}

/// Parses what follows the signature and the length of version 2. Fields after the addresses (TLVs) are
/// ignored. The error is the part that is invalid.
fn parse_v2(command: u8, family: u8, rest: &[u8]) -> Result<Option<IpAddr>, &'static str> {
    match command {
        // The proxy checks the health of the gateway. All that follows must be ignored.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err("version or command"),
    }
    let source = match family {
        // TCP over IPv4: two addresses of 4 bytes, two ports.
        0x11 => {
            let (source, _) = rest.get(..12).and_then(<[u8]>::split_first_chunk::<4>).ok_or("length")?;
            IpAddr::from(*source)
        }
        // TCP over IPv6: two addresses of 16 bytes, two ports.
        0x21 => {
            let (source, _) = rest.get(..36).and_then(<[u8]>::split_first_chunk::<16>).ok_or("length")?;
            IpAddr::from(*source)
        }
        // Unspecified, UDP, and sockets of Unix: there is no TCP address.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Ok(None),
        _ => return Err("address family"),
    };
    Ok(Some(source.to_canonical()))
}

const V1_START: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// `PROXY UNKNOWN\r\n`
const V1_BYTES_MIN: usize = 15;
/// With two addresses of IPv6, says the protocol.
const V1_BYTES_MAX: usize = 107;
/// After the signature and the length: two addresses, and some KiB of TLVs, such as a client's certificate.
const V2_BYTES_MAX: usize = 4096;
/// The bytes that show whether a header is likely: OpenSSL reads as many first.
pub(crate) const PROXY_START_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{
        io::AsyncWriteExt,
        net::TcpListener,
        time::{Duration, timeout},
    };

    use super::*;

    /// Builds a header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn v1(line: &str) -> Vec<u8> {
        format!("PROXY {line}\r\n").into_bytes()
    }

    /// Sends `bytes` in pieces of `piece` bytes. Returns the result, with its error as text, and the bytes
    /// that were not read.
    async fn sent(bytes: &[u8], piece: usize) -> (Result<Option<IpAddr>, String>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let mut stream = listener.accept().await.unwrap().0;
        let write = async {
            for piece in bytes.chunks(piece) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let read = async {
            let header = read_proxy_header(&mut stream).await.map_err(|error| error.to_string());
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            (header, rest)
        };
        let exchange = async { tokio::join!(read, write).0 };
        timeout(Duration::from_secs(20), exchange).await.expect("the header is read or refused")
    }

    fn ipv4(source: [u8; 4]) -> Vec<u8> {
        [&source[..], &[198, 51, 100, 1], &[0xdc, 0x04, 0x01, 0xbb]].concat()
    }

    fn ipv6(source: Ipv6Addr) -> Vec<u8> {
        [&source.octets()[..], &[0; 16], &[0xdc, 0x04, 0x01, 0xbb]].concat()
    }

    #[tokio::test]
    async fn a_header_gives_the_address_and_takes_no_byte_after_it() {
        let v4 = Some("192.0.2.7".parse().unwrap());
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
        let tlvs = [ipv4([192, 0, 2, 7]), vec![0xea; 2000]].concat();
        let longest = format!("TCP6 {0} {0} 65535 65535", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        let all_ones = Some(IpAddr::from([0xff; 16]));
        let cases: &[(Vec<u8>, Option<IpAddr>)] = &[
            (v1("TCP4 192.0.2.7 198.51.100.1 56324 443"), v4),
            (v1("TCP6 2001:db8::7 2001:db8::1 56324 443"), Some(v6.into())),
            (v1("TCP6 ::ffff:192.0.2.7 ::1 0 65535"), v4),
            (v1(&longest), all_ones),
            (v1("UNKNOWN"), None),
            (v1("UNKNOWN ffff:f...f:ffff what ever 1 2 3"), None),
            (v2(0x21, 0x11, &ipv4([192, 0, 2, 7])), v4),
            (v2(0x21, 0x11, &tlvs), v4),
            (v2(0x21, 0x21, &ipv6(v6)), Some(v6.into())),
            (v2(0x21, 0x21, &ipv6(mapped)), v4),
            (v2(0x21, 0x00, b""), None),
            (v2(0x21, 0x12, &ipv4([192, 0, 2, 7])), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, &ipv4([192, 0, 2, 7])), None),
            (v2(0x20, 0xff, &[7; V2_BYTES_MAX]), None),
        ];
        for (header, expected) in cases {
            for piece in [1, 7, 5000] {
                let (address, rest) = sent(&[header, &b"\r\nGET /\r\n"[..]].concat(), piece).await;
                assert_eq!(address, Ok(*expected), "{}", header.escape_ascii());
                assert_eq!(rest, b"\r\nGET /\r\n", "{}", header.escape_ascii());
                assert!(looks_like_proxy_header(header.first_chunk().unwrap()));
            }
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let four = "198.51.100.1 56324 443";
        let cases: &[(Vec<u8>, &str)] = &[
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "no header"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh".to_vec(), "no header"),
            (b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(), "no header"),
            (v1(&format!("TCP5 192.0.2.7 {four}")), "invalid protocol"),
            (v1(&format!("TCP4 192.0.2.07 {four}")), "invalid source address"),
            (v1(&format!("TCP4 2001:db8::7 {four}")), "invalid source address"),
            (v1("TCP6 192.0.2.7 ::1 1 2   "), "invalid source address"),
            (v1("TCP4  192.0.2.7 198.51.100.1 1 2"), "invalid source address"),
            (v1("TCP4 192.0.2.7 x 1 2"), "invalid destination address"),
            (v1("TCP4 192.0.2.7 198.51.100.1 +1 2"), "invalid port"),
            (v1("TCP4 192.0.2.7 198.51.100.1 1 65536"), "invalid port"),
            (v1("TCP4 192.0.2.7 198.51.100.1 1"), "invalid port"),
            (v1("TCP4 192.0.2.7 198.51.100.1 1 2 3"), "invalid end of line"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n".to_vec(), "invalid end of line"),
            (b"PROXY TCP4 192.0.2.7\xff 198.51.100.1 1 2\r\n".to_vec(), "invalid character"),
            (v1(&format!("UNKNOWN {}", "x".repeat(120))), "more than 107 bytes"),
            (b"PROXY TCP4 192.0.2.7".to_vec(), "ended before"),
            (b"PROXY".to_vec(), "ended before"),
            (Vec::new(), "ended before"),
            (v2(0x11, 0x11, &ipv4([192, 0, 2, 7])), "invalid version or command"),
            (v2(0x22, 0x11, &ipv4([192, 0, 2, 7])), "invalid version or command"),
            (v2(0x21, 0x41, &ipv4([192, 0, 2, 7])), "invalid address family"),
            (v2(0x21, 0x13, &ipv4([192, 0, 2, 7])), "invalid address family"),
            (v2(0x21, 0x11, &[1; 11]), "invalid length"),
            (v2(0x21, 0x21, &[1; 35]), "invalid length"),
            (v2(0x21, 0x11, &[1; V2_BYTES_MAX + 1]), "more than 4096 bytes"),
            (v2(0x21, 0x11, &[1; 100])[..50].to_vec(), "ended before"),
        ];
        for (bytes, expected) in cases {
            for piece in [1, 7, 5000] {
                let (address, _) = sent(bytes, piece).await;
                let error = address.expect_err("refused");
                assert!(error.contains(expected), "{}: {error}", bytes.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(
            line in prop::collection::vec(any::<u8>(), 0..120),
            rest in prop::collection::vec(any::<u8>(), 0..60),
            command: u8,
            family: u8,
        ) {
            let _ = parse_v1(&line);
            let _ = parse_v2(command, family, &rest);
        }

        #[test]
        fn every_address_is_read_back(source: [u8; 16], destination: [u8; 16], ports: [u16; 2]) {
            let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
            let expected = Some(IpAddr::V6(source).to_canonical());
            let line = v1(&format!("TCP6 {source} {destination} {} {}", ports[0], ports[1]));
            prop_assert_eq!(parse_v1(&line).unwrap(), expected);
            prop_assert_eq!(parse_v2(0x21, 0x21, &ipv6(source)).unwrap(), expected);
        }
    }
}
