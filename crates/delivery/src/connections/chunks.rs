//! A body in chunks (RFC 9112 section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use httparse::Status;

use super::response_head::HEAD_BYTES_MAX;
use crate::cause::Cause;

/// A body in chunks, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    position: Position,
    /// The bytes of extensions and trailers that were dropped.
    dropped: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    /// Before the size of a chunk.
    #[default]
    Size,
    /// In a chunk with this many bytes left.
    Data(u64),
    /// Before the line end of a chunk.
    DataEnd,
    /// At the start of a line of the trailers.
    Trailers,
    End,
}

impl Chunks {
    pub(super) fn is_at_end(&self) -> bool {
        self.position == Position::End
    }

    /// Takes the next data from `received`. Without data, more must arrive or the body has ended.
    ///
    /// Extensions and trailers are dropped: their fields are not checked (RFC 9110 section 6.5.1).
    pub(super) fn take(&mut self, received: &mut BytesMut) -> Result<Bytes, Cause> {
        loop {
            self.position = match self.position {
                // httparse takes a size without digits as zero.
                Position::Size if received.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(Cause::Closed);
                }
                Position::Size => match httparse::parse_chunk_size(received) {
                    Ok(Status::Complete((line, size))) => {
                        let digits = received.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                        received.advance(line);
                        self.drop_bytes(line.saturating_sub(digits).saturating_sub(2))?;
                        if size == 0 { Position::Trailers } else { Position::Data(size) }
                    }
                    Ok(Status::Partial) if received.len() < LINE_BYTES_MAX => return Ok(Bytes::new()),
                    Ok(Status::Partial) | Err(_) => return Err(Cause::Closed),
                },
                Position::Data(left) => {
                    let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
                    let left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                    self.position = if left == 0 { Position::DataEnd } else { Position::Data(left) };
                    return Ok(received.split_to(bytes).freeze());
                }
                Position::DataEnd => match received.get(..2) {
                    Some(b"\r\n") => {
                        received.advance(2);
                        Position::Size
                    }
                    Some(_) => return Err(Cause::Closed),
                    None => return Ok(Bytes::new()),
                },
                Position::Trailers => {
                    let Some(at) = received.iter().position(|byte| *byte == b'\n') else {
                        let is_long = self.dropped.saturating_add(received.len()) >= HEAD_BYTES_MAX;
                        return if is_long { Err(Cause::Closed) } else { Ok(Bytes::new()) };
                    };
                    let line = received.split_to(at.saturating_add(1));
                    if &*line == b"\r\n" {
                        Position::End
                    } else {
                        self.drop_bytes(line.len())?;
                        Position::Trailers
                    }
                }
                Position::End => return Ok(Bytes::new()),
            };
        }
    }

    /// Counts bytes that no reader of the body sees. Without a bound a small body could be long.
    fn drop_bytes(&mut self, bytes: usize) -> Result<(), Cause> {
        self.dropped = self.dropped.saturating_add(bytes);
        if self.dropped < HEAD_BYTES_MAX { Ok(()) } else { Err(Cause::Closed) }
    }
}

/// The size of a chunk with its extensions.
const LINE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
