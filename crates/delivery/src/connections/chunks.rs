//! A body in chunks (RFC 9112 section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use httparse::Status;

use super::response_head::HEAD_BYTES_MAX;
use crate::cause::Cause;

/// The position in a body in chunks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Before the size of a chunk.
    #[default]
    Size,
    /// In a chunk with this many bytes left.
    Data(u64),
    /// Before the line end of a chunk.
    DataEnd,
    /// In the trailers, of which this many bytes were dropped.
    Trailers(usize),
    End,
}

impl Chunks {
    pub(super) fn is_at_end(&self) -> bool {
        *self == Self::End
    }

    /// Takes the next data from `received`. Without data, more must arrive or the body has ended.
    ///
    /// Extensions and trailers are dropped: their fields are not checked (RFC 9110 section 6.5.1).
    pub(super) fn take(&mut self, received: &mut BytesMut) -> Result<Bytes, Cause> {
        loop {
            *self = match *self {
                // httparse takes a size without digits as zero.
                Self::Size if received.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(Cause::Closed);
                }
                Self::Size => match httparse::parse_chunk_size(received) {
                    Ok(Status::Complete((line, size))) => {
                        received.advance(line);
                        if size == 0 { Self::Trailers(0) } else { Self::Data(size) }
                    }
                    Ok(Status::Partial) if received.len() < LINE_BYTES_MAX => return Ok(Bytes::new()),
                    Ok(Status::Partial) | Err(_) => return Err(Cause::Closed),
                },
                Self::Data(left) => {
                    let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
                    let left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                    *self = if left == 0 { Self::DataEnd } else { Self::Data(left) };
                    return Ok(received.split_to(bytes).freeze());
                }
                Self::DataEnd => match received.get(..2) {
                    Some(b"\r\n") => {
                        received.advance(2);
                        Self::Size
                    }
                    Some(_) => return Err(Cause::Closed),
                    None => return Ok(Bytes::new()),
                },
                Self::Trailers(dropped) => {
                    let Some(at) = received.iter().position(|byte| *byte == b'\n') else {
                        let is_long = dropped.saturating_add(received.len()) >= HEAD_BYTES_MAX;
                        return if is_long { Err(Cause::Closed) } else { Ok(Bytes::new()) };
                    };
                    let line = received.split_to(at.saturating_add(1));
                    let dropped = dropped.saturating_add(line.len());
                    match &*line {
                        b"\r\n" => Self::End,
                        _ if dropped >= HEAD_BYTES_MAX => return Err(Cause::Closed),
                        _ => Self::Trailers(dropped),
                    }
                }
                Self::End => return Ok(Bytes::new()),
            };
        }
    }
}

/// The size of a chunk with its extensions.
const LINE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
