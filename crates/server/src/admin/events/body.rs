//! `EventBody`: the body of a response with server-sent events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::{sync::mpsc, time::Instant};

use crate::process::connection::OpenRequest;

/// The events of a stream, as its task sends them.
#[derive(Debug)]
pub(in crate::admin) struct EventBody {
    events: mpsc::Receiver<Bytes>,
    /// The request is in flight as long as the stream is open.
    open: Option<OpenRequest>,
}

impl EventBody {
    pub(super) fn new(events: mpsc::Receiver<Bytes>) -> Self {
        Self { events, open: None }
    }

    /// Holds the request until the stream ends: its connection is not idle, and keeps its slot.
    pub(in crate::admin) fn hold(&mut self, open: OpenRequest) {
        self.open = Some(open);
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // hyper asks for more when it has written what it had.
        if let Some(open) = &self.open {
            open.note_progress(Instant::now());
        }
        self.events.poll_recv(context).map(|events| events.map(|events| Ok(Frame::data(events))))
    }
}
