//! The end of a connection whose client may still be sending (RFC 9112 section 9.6).
//!
//! A socket that is closed with unread bytes, or that receives bytes after the close, answers with a reset.
//! The reset may overtake the response: its sender sees a broken connection and no status. So the gateway
//! announces the close, stops writing, and discards what still arrives, until the client closes as well.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::process::connection::activity::Activity;

/// The shutdown of a stream, step by step.
#[derive(Debug)]
pub(super) enum Linger {
    /// The gateway still writes.
    Writing,
    /// The gateway discards what arrives.
    Discarding {
        /// The bytes that it still discards.
        bytes_left: usize,
    },
    /// The stream may be closed.
    Done,
}

impl Linger {
    /// Stops writing, and discards what arrives. Ready when the stream may be closed: when the client has
    /// closed it, or when `activity` allows no more time.
    pub(super) fn poll_shutdown<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        activity: &Activity,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self {
                Self::Writing => {
                    let shut_down = ready!(Pin::new(&mut *stream).poll_shutdown(context));
                    let lingers = shut_down.is_ok() && activity.start_lingering();
                    *self = if lingers { Self::Discarding { bytes_left: BYTES_MAX } } else { Self::Done };
                    shut_down?;
                }
                Self::Discarding { bytes_left } => {
                    let ended =
                        !activity.may_linger() || poll_discard(stream, bytes_left, context).is_ready();
                    if !ended {
                        return Poll::Pending;
                    }
                    *self = Self::Done;
                }
                Self::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Reads until the stream ends or fails, or until `bytes_left` is used up.
fn poll_discard<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes_left: &mut usize,
    context: &mut Context<'_>,
) -> Poll<()> {
    let mut space = [MaybeUninit::uninit(); READ_BYTES];
    // The runtime bounds the number of reads of one poll.
    loop {
        let mut buffer = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
        let bytes = buffer.filled().len();
        if read.is_err() || bytes == 0 || bytes >= *bytes_left {
            return Poll::Ready(());
        }
        *bytes_left -= bytes;
    }
}

/// Twice the default `limits.body`: a sender that learns of its refusal only after it has sent all.
const BYTES_MAX: usize = 8 << 20;
const READ_BYTES: usize = 16 * 1024;
