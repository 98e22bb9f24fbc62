//! The requests of a load, and the responses to them.

use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Requests that all have the same length.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    bytes: Bytes,
    length: usize,
}

impl Requests {
    /// Reads a file.
    pub(crate) fn read(path: &Path, length: usize) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if length == 0 || bytes.is_empty() || bytes.len() % length != 0 {
            return Err(format!("{} has no requests of {length} bytes", path.display()));
        }
        Ok(Self { bytes: bytes.into(), length })
    }

    /// The request of this number. The file repeats.
    pub(crate) fn get(&self, number: usize) -> Bytes {
        let start = number % (self.bytes.len() / self.length) * self.length;
        self.bytes.slice(start..start + self.length)
    }
}

/// Sends a request, and returns the status of the response. `buffer` is empty between two exchanges.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<u16, String> {
    stream.write_all(request).await.map_err(|error| format!("cannot send: {error}"))?;
    // A TLS stream keeps what it has encrypted.
    stream.flush().await.map_err(|error| format!("cannot send: {error}"))?;
    loop {
        let count = stream.read_buf(buffer).await.map_err(|error| format!("cannot receive: {error}"))?;
        if let Some((status, length)) = response(buffer) {
            buffer.drain(..length);
            return Ok(status);
        }
        if count == 0 {
            return Err("the server closed the connection".to_owned());
        }
    }
}

/// The status and the length of a whole response.
fn response(bytes: &[u8]) -> Option<(u16, usize)> {
    let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(bytes.get(..head_length)?).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let body_length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, value)| value.trim().parse::<usize>().ok())?;
    let length = head_length.checked_add(body_length)?;
    (length <= bytes.len()).then_some((status, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_with_its_body() {
        assert_eq!(response(b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"), Some((204, 33)));
        let whole = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nokHTTP";
        assert_eq!(response(whole), Some((202, 46)));
        assert_eq!(response(&whole[..45]), None);
        assert_eq!(response(&whole[..30]), None);
        assert_eq!(response(b"HTTP/1.1 202 A\r\nContent-Length: -1\r\n\r\n"), None);
    }

    #[test]
    fn requests_repeat() {
        let requests = Requests { bytes: Bytes::from_static(b"aabb"), length: 2 };
        assert_eq!([0, 1, 2].map(|number| requests.get(number)), ["aa", "bb", "aa"]);
    }
}
