//! The head of a response: status, fields, and the length of the body (RFC 9112 sections 4 to 6).

use std::{mem::MaybeUninit, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::{Header, ParserConfig, Status};

use crate::{cause::Cause, headers};

/// The head of a response.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    /// After a success the fields that are relayed, else all.
    pub(super) headers: HeaderMap,
    pub(super) length: BodyLength,
    /// The time for which the connection may be idle after the response, unless it then ends.
    pub(super) idle: Option<IdleTime>,
}

/// The end of a body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// After this many bytes.
    Exact(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The time for which a connection may be idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleTime {
    /// The upstream does not say.
    Default,
    /// The upstream closes it after somewhat more.
    Of(Duration),
}

impl ResponseHead {
    /// Parses the head at the start of `bytes`, and returns its length, too. `None`: more bytes must arrive.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Cause> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parsed =
            ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
        match parsed {
            Ok(Status::Complete(length)) if length <= HEAD_BYTES_MAX => {
                let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
                let head = Self::read(status.ok_or(Cause::BadHead)?, response.version, response.headers)?;
                Ok(Some((head, length)))
            }
            Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => Ok(None),
            Ok(_) | Err(_) => Err(Cause::BadHead),
        }
    }

    fn read(status: StatusCode, version: Option<u8>, fields: &[Header<'_>]) -> Result<Self, Cause> {
        let is_http_1_0 = version == Some(0);
        let mut headers = HeaderMap::new();
        let (mut exact, mut coding) = (None, None);
        let (mut closes, mut keeps, mut idle) = (false, !is_http_1_0, IdleTime::Default);
        for Header { name, value } in fields {
            if name.eq_ignore_ascii_case("content-length") {
                exact = Some(content_length(value, exact)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                coding = Some(*value);
            } else if name.eq_ignore_ascii_case("connection") {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    closes |= option.eq_ignore_ascii_case(b"close");
                    keeps |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if name.eq_ignore_ascii_case("keep-alive") {
                idle = idle_time(value);
            }
            if !status.is_success() || headers::is_relayed(name) {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Cause::BadHead)?;
                headers.append(name, HeaderValue::from_bytes(value).map_err(|_| Cause::BadHead)?);
            }
        }
        let has_no_body = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = match (coding, exact) {
            // After a 101 the connection has another protocol, for which the gateway never asks.
            _ if has_no_body || status.is_informational() => BodyLength::Exact(0),
            // HTTP/1.0 has no codings (section 6.1).
            (Some(_), _) if is_http_1_0 => return Err(Cause::BadHead),
            (Some(coding), _) if is_chunked(coding) => BodyLength::Chunked,
            (Some(_), _) | (None, None) => BodyLength::UntilClose,
            (None, Some(bytes)) => BodyLength::Exact(bytes),
        };
        // Some servers send the body that such a response cannot have. It would follow the next request.
        let is_in_doubt = match (coding, exact) {
            _ if status == StatusCode::SWITCHING_PROTOCOLS => true,
            (Some(_), _) if has_no_body || exact.is_some() => true,
            (_, Some(bytes)) => status == StatusCode::NO_CONTENT && bytes > 0,
            (_, None) => false,
        };
        let is_kept = keeps && !closes && !is_in_doubt && length != BodyLength::UntilClose;
        Ok(Self { status, headers, length, idle: is_kept.then_some(idle) })
    }

    /// Returns true if the final response is still to come: 1xx but for 101, after which none comes.
    pub(super) fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// The length in a `Content-Length`. All values of the field must be the same (RFC 9110 section 8.6).
fn content_length(value: &[u8], mut known: Option<u64>) -> Result<u64, Cause> {
    for length in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
            return Err(Cause::BadHead);
        }
        let length = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
        let length: u64 = length.ok_or(Cause::BadHead)?;
        if known.is_some_and(|known| known != length) {
            return Err(Cause::BadHead);
        }
        known = Some(length);
    }
    known.ok_or(Cause::BadHead)
}

/// Returns true if the last coding is `chunked`, so that the body has an end of its own (section 6.3).
fn is_chunked(codings: &[u8]) -> bool {
    let last = codings.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// The time for which a connection may be idle if the instance says so: `Keep-Alive: timeout=5` of Node.js.
///
/// The result is a second less than that, for the delay of the network: the instance may be closing the
/// connection while a request is on its way.
fn idle_time(keep_alive: &[u8]) -> IdleTime {
    let promised = str::from_utf8(keep_alive).ok().and_then(|value| {
        value
            .split(',')
            .filter_map(|parameter| parameter.trim().strip_prefix("timeout="))
            .find_map(|seconds| seconds.parse::<u64>().ok())
    });
    promised.map_or(IdleTime::Default, |seconds| {
        IdleTime::Of(Duration::from_secs(seconds.saturating_sub(1)).min(IDLE_TIME_MAX))
    })
}

/// The upper bound, whatever the instance says. Load balancers in between forget connections after 60 s and
/// more.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// The head of a response. Bots send some hundred bytes.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The fields of a response.
const FIELDS_MAX: usize = 100;

#[cfg(test)]
mod tests;
