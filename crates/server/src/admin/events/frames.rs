//! The frames of the topic `overview`: what changed in a second. All streams share their bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::message::push_event;
use crate::{
    admin::{
        frame_context::FrameContext, off_thread::off_thread, overview::OverviewFrames, state::AdminState,
    },
    metrics::Metrics,
    observed::{FoundCalls, RememberedCall},
    wall_clock::{unix_ms, wall_clock},
};

/// The latest frame, for all streams.
#[derive(Debug, Default)]
pub(super) struct Frames {
    latest: watch::Sender<Arc<Frame>>,
    /// Signals that a stream waits for its first frame.
    wanted: Notify,
    /// A stream has no state yet that changes apply to.
    wants_state: AtomicBool,
}

/// The changes of a second.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) number: u64,
    /// The events with what changed since the frame before. Empty if nothing did.
    pub(super) changes: Bytes,
    /// The events with the whole state, if a stream asked for them.
    pub(super) state: Option<Bytes>,
}

impl Frames {
    /// Waits for frames from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Frame>> {
        self.latest.subscribe()
    }

    /// Asks for a frame with the whole state.
    pub(super) fn ask_for_state(&self) {
        self.wants_state.store(true, Relaxed);
        self.wanted.notify_one();
    }

    /// Builds a frame each second while a stream is open, until the future is dropped.
    pub(super) async fn run(
        &self,
        state: &ArcSwap<AdminState>,
        metrics: &Arc<Metrics>,
        draining: &AtomicBool,
    ) {
        let mut builder = FrameBuilder::default();
        let mut next = Instant::now();
        let mut number = 0;
        loop {
            if self.latest.receiver_count() == 0 {
                // What was sent last is of no use to the next stream.
                builder = FrameBuilder::default();
                self.wanted.notified().await;
                continue;
            }
            sleep_until(next).await;
            next = Instant::now() + FRAME_INTERVAL;
            number += 1;
            let wants_state = self.wants_state.swap(false, Relaxed);
            let (state, metrics) = (state.load_full(), Arc::clone(metrics));
            let (draining, now) = (draining.load(Relaxed), wall_clock());
            let built = off_thread(move || {
                let context = FrameContext { state: &state, metrics: &metrics, draining, now };
                let frame = builder.build(&context, number, wants_state);
                (builder, frame)
            });
            match built.await {
                Some((kept, frame)) => {
                    builder = kept;
                    self.latest.send_replace(Arc::new(frame));
                }
                // A bug: the streams ask for the state again.
                None => builder = FrameBuilder::default(),
            }
        }
    }
}

/// The state that was sent last.
#[derive(Debug, Default)]
struct FrameBuilder {
    frames: OverviewFrames,
    overview: Vec<u8>,
}

impl FrameBuilder {
    fn build(&mut self, context: &FrameContext<'_>, number: u64, wants_state: bool) -> Frame {
        let (calls, now_ms) = (context.state.observed.calls(), unix_ms(context.now));
        let mut changes = Vec::new();
        if let Some(fleet) = self.frames.fleet_changes(context) {
            push_event(&mut changes, "fleet", None, &fleet);
        }
        let fleet = wants_state.then(|| self.frames.fleet(context));
        let overview = self.frames.overview(context);
        if overview != self.overview {
            push_event(&mut changes, "overview", None, &overview);
        }
        let changed = calls.changes(CALLS_MAX, now_ms);
        if changed.matched > 0 {
            push_event(&mut changes, "calls", None, &calls_event(&changed));
        }
        let state = fleet.map(|fleet| {
            let mut state = Vec::new();
            push_event(&mut state, "overview", None, &overview);
            push_event(&mut state, "fleet", None, &fleet);
            push_event(&mut state, "calls", None, &calls_event(&calls.search("", CALLS_MAX, now_ms)));
            state.into()
        });
        self.overview = overview;
        Frame { number, changes: changes.into(), state }
    }
}

fn calls_event(found: &FoundCalls) -> Vec<u8> {
    let FoundCalls { calls, matched, remembered } = found;
    let event = CallsEvent { calls, omitted: matched.saturating_sub(calls.len()), remembered: *remembered };
    serde_json::to_vec(&event).unwrap_or_default()
}

/// The data of the event `calls`.
#[derive(Serialize)]
struct CallsEvent<'a> {
    /// The newest first.
    calls: &'a [RememberedCall],
    /// The calls that changed and have no room.
    omitted: usize,
    remembered: usize,
}

/// Often enough for a person who watches.
const FRAME_INTERVAL: Duration = Duration::from_secs(1);
/// More than a person follows within a second.
const CALLS_MAX: usize = 200;
