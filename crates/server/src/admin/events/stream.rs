//! `EventStream`: the task of one stream. It takes events from their source at the pace of its reader.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep, sleep_until},
};

use super::{body::EventBody, frame_events::FrameEvents, request_events::RequestEvents};
use crate::admin::{access::AdminToken, state::AdminState};

/// The task of one stream.
#[derive(Debug)]
pub(super) struct EventStream {
    source: EventSource,
    /// Has room for one piece: the reader decides the pace.
    events: mpsc::Sender<Bytes>,
    validity: StreamValidity,
    /// One of the streams that may be open.
    _permit: OwnedSemaphorePermit,
}

/// The source of the events.
#[derive(Debug)]
pub(super) enum EventSource {
    Requests(RequestEvents),
    Overview(FrameEvents),
}

/// The conditions under which a stream may stay open.
#[derive(Debug)]
pub(super) struct StreamValidity {
    pub(super) draining: Arc<AtomicBool>,
    pub(super) current: Arc<ArcSwap<AdminState>>,
    /// The token at the start of the stream.
    pub(super) token: Option<AdminToken>,
}

impl EventStream {
    /// Starts the task. It sends `hello` first, and ends when its body is dropped or the conditions of
    /// `validity` end.
    pub(super) fn start(
        source: EventSource,
        hello: Bytes,
        validity: StreamValidity,
        permit: OwnedSemaphorePermit,
    ) -> EventBody {
        let (events, received) = mpsc::channel(1);
        let stream = Self { source, events, validity, _permit: permit };
        tokio::spawn(stream.run(hello));
        EventBody::new(received)
    }

    async fn run(mut self, hello: Bytes) {
        let mut next = hello;
        loop {
            tokio::select! {
                sent = self.events.send(next) => if sent.is_err() { return },
                () = self.validity.ended() => return,
            }
            let comment_at = Instant::now() + COMMENT_INTERVAL;
            next = tokio::select! {
                () = self.events.closed() => return,
                () = self.validity.ended() => return,
                events = self.source.next() => events,
                () = sleep_until(comment_at) => self.source.comment(),
            };
        }
    }
}

impl EventSource {
    /// Waits for the next events. Can be cancelled and called again.
    async fn next(&mut self) -> Bytes {
        match self {
            Self::Requests(requests) => requests.next().await,
            Self::Overview(frames) => frames.next().await,
        }
    }

    fn comment(&self) -> Bytes {
        match self {
            Self::Requests(requests) => requests.comment(),
            Self::Overview(_) => super::message::comment(None).into(),
        }
    }
}

impl StreamValidity {
    /// Waits until the process drains, or until a reload has changed the token: the reader may have a token
    /// that was replaced because it leaked.
    async fn ended(&self) {
        while !self.draining.load(Relaxed) && self.current.load().admin_token == self.token {
            sleep(CHECK_INTERVAL).await;
        }
    }
}

/// Less than the 30 s after which common proxies close a silent connection. It also shows whether the reader
/// still reads.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// The streams end well before the drain does.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
