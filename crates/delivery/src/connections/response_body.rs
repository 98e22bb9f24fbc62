//! The body of a response.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::{
    chunks::Chunks,
    connection::UpstreamConnection,
    response_head::{BodyLength, IdleTime},
    slots::Slot,
};
use crate::cause::Cause;

/// The body of a response. Dropping it before its end closes the connection.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// It arrived together with its head, as most do.
    Whole(Bytes),
    Streamed(Box<StreamedBody>),
}

/// A body of which a part is still to arrive.
pub(crate) struct StreamedBody {
    /// `None` after the end.
    connection: Option<UpstreamConnection>,
    left: Left,
    /// The slot to which the connection returns if `idle` says that it stays open.
    slot: Option<Arc<Slot>>,
    idle: Option<IdleTime>,
}

enum Left {
    Exact(u64),
    Chunked(Chunks),
    UntilClose,
}

impl StreamedBody {
    pub(super) fn new(
        connection: UpstreamConnection,
        length: BodyLength,
        slot: Option<Arc<Slot>>,
        idle: Option<IdleTime>,
    ) -> Self {
        let left = match length {
            BodyLength::Exact(bytes) => Left::Exact(bytes),
            BodyLength::Chunked => Left::Chunked(Chunks::default()),
            BodyLength::UntilClose => Left::UntilClose,
        };
        Self { connection: Some(connection), left, slot, idle }
    }

    /// The next bytes, or `None` at the end. Also writes what is left of the request.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cause>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
        // The response does not depend on the rest of its request.
        let _ = connection.poll_send(context, &AtomicBool::new(true));
        loop {
            let received = connection.received();
            let data = match &mut self.left {
                Left::Exact(left) => {
                    let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                    *left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                    received.split_to(bytes).freeze()
                }
                Left::Chunked(chunks) => chunks.take(received)?,
                Left::UntilClose => received.split().freeze(),
            };
            if self.left.is_at_end() {
                self.end();
                return Poll::Ready(Ok(Some(data).filter(|data| !data.is_empty())));
            }
            if !data.is_empty() {
                return Poll::Ready(Ok(Some(data)));
            }
            match ready!(connection.poll_receive(context)) {
                Ok(0) if matches!(self.left, Left::UntilClose) => {
                    self.end();
                    return Poll::Ready(Ok(None));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(Cause::Closed)),
                Ok(_) => {}
            }
        }
    }

    /// Keeps the connection, or closes it.
    fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            release(connection, self.slot.as_ref(), self.idle);
        }
    }
}

/// Keeps a connection whose response was read whole for the next request, if it can be. Else it is closed.
pub(super) fn release(connection: UpstreamConnection, slot: Option<&Arc<Slot>>, idle: Option<IdleTime>) {
    match (slot, idle) {
        (Some(slot), Some(idle)) if connection.is_idle() => slot.keep(connection, idle),
        _ => connection.finish(),
    }
}

impl Left {
    fn is_at_end(&self) -> bool {
        match self {
            Self::Exact(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_at_end(),
            Self::UntilClose => false,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let data = match self.get_mut() {
            Self::Whole(bytes) => Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Self::Streamed(body) => {
                let data = ready!(body.poll_data(context));
                if data.is_err() {
                    body.connection = None;
                }
                data
            }
        };
        Poll::Ready(data.transpose().map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(body) => body.connection.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Streamed(body) => match (&body.connection, &body.left) {
                (None, _) => SizeHint::with_exact(0),
                (Some(_), Left::Exact(left)) => SizeHint::with_exact(*left),
                (Some(_), Left::Chunked(_) | Left::UntilClose) => SizeHint::default(),
            },
        }
    }
}

impl std::fmt::Debug for StreamedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamedBody").field("ended", &self.connection.is_none()).finish_non_exhaustive()
    }
}
