//! The topic `overview` of one stream: the whole state, then the changes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::frames::{Frame, Frames};

/// The frames of one stream.
#[derive(Debug)]
pub(super) struct FrameEvents {
    frames: Arc<Frames>,
    latest: watch::Receiver<Arc<Frame>>,
    /// The number of the last frame that the stream has sent. `None` until it has sent the whole state.
    last: Option<u64>,
}

impl FrameEvents {
    pub(super) fn start(frames: &Arc<Frames>) -> Self {
        // First the subscription: the frame with the state may come at once.
        let latest = frames.subscribe();
        frames.ask_for_state();
        Self { frames: Arc::clone(frames), latest, last: None }
    }

    /// Waits for the next events. Can be cancelled and called again.
    pub(super) async fn next(&mut self) -> Bytes {
        loop {
            if self.latest.changed().await.is_err() {
                // Cannot happen: the stream holds the sender.
                return std::future::pending().await;
            }
            let frame = Arc::clone(&self.latest.borrow_and_update());
            let follows = self.last.is_some_and(|last| last + 1 == frame.number);
            match &frame.state {
                _ if follows => {
                    self.last = Some(frame.number);
                    if !frame.changes.is_empty() {
                        return frame.changes.clone();
                    }
                }
                Some(state) => {
                    self.last = Some(frame.number);
                    return state.clone();
                }
                // The stream is new, or its reader was slow and has missed a frame.
                None => self.frames.ask_for_state(),
            }
        }
    }
}
