//! `GET /events`: the live view of operators as server-sent events. `docs/admin.md` documents it.
//!
//! Reading order: `query` (what a stream sends), `stream` (one stream), `request_events` and `frame_events`
//! (its two kinds), `frames` (what all streams of the overview share), `message` (the format).

mod body;
mod frame_events;
mod frames;
mod message;
mod query;
mod request_events;
mod stream;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use http::HeaderMap;
use serde_json::json;
use tokio::sync::Semaphore;

pub(super) use self::body::EventBody;
use self::{
    frame_events::FrameEvents,
    frames::Frames,
    message::push_event,
    query::EventQuery,
    request_events::RequestEvents,
    stream::{EventSource, EventStream, StreamValidity},
};
use crate::{
    admin::{
        error::AdminError,
        response::{AdminResponse, event_stream},
        state::AdminState,
    },
    metrics::Metrics,
    wall_clock::unix_ms,
};

/// The open streams, and what they share.
#[derive(Debug)]
pub struct Feed {
    streams: Arc<Semaphore>,
    frames: Arc<Frames>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { streams: Arc::new(Semaphore::new(STREAMS_MAX)), frames: Arc::default() }
    }
}

impl Feed {
    /// The number of open streams.
    pub(super) fn open_streams(&self) -> usize {
        STREAMS_MAX - self.streams.available_permits()
    }

    /// Builds what all streams of the overview share, until the future is dropped.
    pub(super) async fn run(
        &self,
        state: &ArcSwap<AdminState>,
        metrics: &Arc<Metrics>,
        draining: &AtomicBool,
    ) {
        self.frames.run(state, metrics, draining).await;
    }

    /// Opens a stream of the events that `query` asks for. It ends when the process drains, or when a reload
    /// changes the token.
    pub(super) fn open(
        &self,
        current: &Arc<ArcSwap<AdminState>>,
        draining: &Arc<AtomicBool>,
        (headers, query): (&HeaderMap, Option<&str>),
        now: SystemTime,
    ) -> Result<AdminResponse, AdminError> {
        let (query, state) = (EventQuery::parse(query)?, current.load_full());
        if draining.load(Relaxed) {
            return Err(AdminError::busy("draining", "this gateway drains: open the stream at another one"));
        }
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            let message = format!("{STREAMS_MAX} streams are open: close one, or try again later");
            return Err(AdminError::busy("too_many_streams", message));
        };
        let source = match query {
            EventQuery::Requests(filter) => {
                EventSource::Requests(RequestEvents::start(&state.observed, filter, headers))
            }
            EventQuery::Overview => EventSource::Overview(FrameEvents::start(&self.frames)),
        };
        let mut hello = Vec::new();
        let data = json!({
            "now": unix_ms(now),
            "region": state.region.as_str(),
            "version": env!("CARGO_PKG_VERSION"),
            "started": state.observed.started_ms(),
        });
        push_event(&mut hello, "hello", None, data.to_string().as_bytes());
        let validity = StreamValidity {
            draining: Arc::clone(draining),
            current: Arc::clone(current),
            token: state.admin_token.clone(),
        };
        Ok(event_stream(EventStream::start(source, hello.into(), validity, permit)))
    }
}

/// A few operators with a few windows each.
pub(super) const STREAMS_MAX: usize = 16;
