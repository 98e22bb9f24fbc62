//! The events `overview` and `fleet`: the state of the gateway as the page for operators shows it. Their
//! members are documented in `docs/page.md`.
//!
//! Reading order: `fleet_rows` (the instances), `headline` (the sentence at the top), `overview_json`.

mod fleet_rows;
mod headline;
mod moment;
mod overview_json;

use serde::Serialize;
use tokio::time::Instant;

use self::{
    fleet_rows::FleetRows,
    moment::FrameTime,
    overview_json::{OverviewJson, TrustJson},
};
use crate::{
    admin::{frame_context::FrameContext, instance_json::whole_ms},
    wall_clock::unix_ms,
};

/// The frame that was sent last, and the next one from it.
#[derive(Debug, Default)]
pub(super) struct OverviewFrames {
    rows: FleetRows,
    trusts: Vec<TrustJson>,
    /// The time of the first frame.
    began: Option<Instant>,
}

impl OverviewFrames {
    /// The JSON of the event `fleet` with the rows that changed since the last call; `None` if none did.
    pub(super) fn fleet_changes(&mut self, context: &FrameContext<'_>) -> Option<Vec<u8>> {
        let now = self.time(context);
        let instances = context.state.delivery.instances();
        self.rows.update(&instances, now).map(|event| json(&event))
    }

    /// The JSON of the event `fleet` with every row, as of the last call of [`Self::fleet_changes`].
    pub(super) fn fleet(&mut self, _: &FrameContext<'_>) -> Vec<u8> {
        json(&self.rows.full())
    }

    /// The JSON of the event `overview`, for the fleet as of the last call of [`Self::fleet_changes`].
    pub(super) fn overview(&mut self, context: &FrameContext<'_>) -> Vec<u8> {
        let now = self.time(context);
        json(&OverviewJson::new(context, now, &self.rows.sums(), &mut self.trusts))
    }

    fn time(&mut self, context: &FrameContext<'_>) -> FrameTime {
        let began = *self.began.get_or_insert_with(Instant::now);
        FrameTime { unix_ms: unix_ms(context.now), elapsed_ms: whole_ms(began.elapsed()) }
    }
}

fn json(event: &impl Serialize) -> Vec<u8> {
    // Cannot fail: the types of this module have string keys only. If it did, an empty event would be right.
    serde_json::to_vec(event).unwrap_or_default()
}
