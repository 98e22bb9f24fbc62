//! One connection to an upstream.

use std::{
    future::Future,
    thread::{self, ThreadId},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1::SendRequest},
};
use tokio::task::JoinHandle;

/// A connection to an upstream. It sends one request at a time, from any thread.
pub(crate) struct UpstreamConnection {
    sender: SendRequest<Full<Bytes>>,
    /// The task that reads and writes. It ends, and the connection with it, when the sender is dropped.
    driver: JoinHandle<()>,
    /// The thread that made the connection. Its runtime drives it.
    thread: ThreadId,
}

impl UpstreamConnection {
    /// A connection that this thread has just made.
    pub(super) fn new(sender: SendRequest<Full<Bytes>>, driver: JoinHandle<()>) -> Self {
        Self { sender, driver, thread: thread::current().id() }
    }

    /// Sends a request. An error hands it back if not a byte of it was written.
    pub(crate) fn try_send_request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Sends a request.
    pub(crate) fn send_request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        self.sender.send_request(request)
    }

    /// Returns true if `thread` drives it.
    pub(super) fn is_driven_by(&self, thread: ThreadId) -> bool {
        self.thread == thread
    }

    /// Returns true if it can send a request now: it is open, and the last response was read whole.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Returns true if the upstream closed it, or the thread that drove it has stopped.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Closes it. The task that is returned ends when the descriptor is free.
    pub(super) fn close(self) -> JoinHandle<()> {
        drop(self.sender);
        self.driver
    }
}
