//! The events `overview` and `fleet` of the live view.

use serde_json::json;

use crate::admin::frame_context::FrameContext;

/// The state that was sent last.
#[derive(Debug, Default)]
pub(super) struct OverviewFrames {}

impl OverviewFrames {
    /// The data of the event `overview`.
    pub(super) fn overview(&mut self, context: &FrameContext<'_>) -> Vec<u8> {
        let FrameContext { state, metrics, draining, now: _ } = context;
        let observed = &state.observed;
        let peers: Vec<_> = state
            .peers
            .healths()
            .map(|(name, healthy)| json!({"name": name.as_str(), "healthy": healthy}))
            .collect();
        let overview = json!({
            "last_notification": observed.last_notification_ms(),
            "workers": metrics.workers(),
            "remembered": observed.calls().len(),
            "decisions": observed.decisions(),
            "refusals": {"latest": observed.refusals()},
            "peers": peers,
            "configuration": {
                "hash": state.config.hash,
                "loaded": state.config_loaded_ms,
                "last_reload": observed.last_reload(),
            },
            "draining": draining,
        });
        overview.to_string().into_bytes()
    }

    /// The data of the event `fleet` with all instances.
    pub(super) fn fleet(&mut self, _: &FrameContext<'_>) -> Vec<u8> {
        br#"{"full":true,"instances":[]}"#.to_vec()
    }

    /// The data of the event `fleet` with the instances that changed since the last call; `None` if none did.
    pub(super) fn fleet_changes(&mut self, _: &FrameContext<'_>) -> Option<Vec<u8>> {
        None
    }
}
