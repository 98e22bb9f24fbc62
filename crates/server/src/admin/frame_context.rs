//! `FrameContext`: the parts of the gateway that a frame of the live view is built from.

use std::time::SystemTime;

use crate::{admin::state::AdminState, metrics::Metrics};

/// The parts of the gateway that a frame is built from.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameContext<'a> {
    pub(super) state: &'a AdminState,
    pub(super) metrics: &'a Metrics,
    pub(super) draining: bool,
    pub(super) now: SystemTime,
}
