//! The requests of a load, and the responses to them.

use std::{io::Write as _, ops::Range};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::target::Target;

/// Requests that all have the same length and layout.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    length: usize,
    /// The place of the number in the message id of a request, and the number of the first request.
    message: Range<usize>,
    first_message: u64,
}

impl Requests {
    /// Reads the file of a load.
    pub(crate) fn read(target: &Target) -> Result<Self, String> {
        let path = target.requests.display();
        let bytes = std::fs::read(&target.requests).map_err(|error| format!("{path}: {error}"))?;
        Self::of(bytes, target.length, target.first_message).map_err(|problem| format!("{path}: {problem}"))
    }

    fn of(bytes: Vec<u8>, length: usize, first_message: u64) -> Result<Self, String> {
        if length == 0 || bytes.is_empty() || !bytes.len().is_multiple_of(length) {
            return Err(format!("no requests of {length} bytes"));
        }
        let field = bytes.windows(MESSAGE_ID.len()).take(length).position(|window| window == MESSAGE_ID);
        let start = field.ok_or("no message id")? + MESSAGE_ID.len() + GROUPS_BEFORE_NUMBER;
        let message = start..start + NUMBER;
        if message.end > length {
            return Err("a message id is too short".to_owned());
        }
        Ok(Self { bytes, length, message, first_message })
    }

    /// Writes the request of this number to `request`. The file repeats; no message id does.
    pub(crate) fn write(&self, number: usize, request: &mut Vec<u8>) {
        let start = number % (self.bytes.len() / self.length) * self.length;
        request.clear();
        request.extend_from_slice(self.bytes.get(start..start + self.length).unwrap_or_default());
        let message = self.first_message + u64::try_from(number).unwrap_or_default();
        if let Some(mut place) = request.get_mut(self.message.clone()) {
            let _ = write!(place, "{message:0NUMBER$}");
        }
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

/// The field of the message id: the platform gives each message another one. The last group of 12 digits is
/// the number here.
const MESSAGE_ID: &[u8] = b"X-Microsoft-Skype-Message-ID: ";
const GROUPS_BEFORE_NUMBER: usize = "2f6b7d10-5c1e-4a7b-9d3e-".len();
const NUMBER: usize = 12;

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
    fn requests_repeat_with_new_message_ids() {
        let field = "X-Microsoft-Skype-Message-ID: 2f6b7d10-5c1e-4a7b-9d3e-000000000000";
        let (first, second) = (format!("a\r\n{field}\r\n"), format!("b\r\n{field}\r\n"));
        let requests = Requests::of(format!("{first}{second}").into_bytes(), first.len(), 98).unwrap();
        let mut request = Vec::new();
        for (number, name, id) in [(0, "a", "098"), (1, "b", "099"), (2, "a", "100")] {
            requests.write(number, &mut request);
            let expected = format!("{name}\r\n{}{id}\r\n", field.strip_suffix("000").unwrap());
            assert_eq!(String::from_utf8_lossy(&request), expected);
        }
        assert!(Requests::of(b"aabb".to_vec(), 2, 0).is_err());
        assert!(Requests::of(first.into_bytes(), 2, 0).is_err());
    }
}
