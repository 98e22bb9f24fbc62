//! The extent of the scene, and its instances.

use std::time::Duration;

use crate::rehearse::layout::{App, BotSettings, EVERY_APP, GraphAccess, Ingress, Layout};

/// The extent of the scene.
pub(in crate::rehearse) struct Plan {
    pub(super) about: &'static str,
    /// Calls per second.
    pub(super) rate: u32,
    /// The time of the calm load.
    pub(super) calm: Duration,
    /// The time in which the gateway may find out which instance hangs.
    pub(super) settling: Duration,
    /// The time without a DNS server.
    pub(super) dns_away: Duration,
    /// The time of the storm.
    pub(super) storm: Duration,
    /// True if the times are those of a deployment, so that the ratio to the calm load counts.
    pub(super) is_measured: bool,
}

pub(in crate::rehearse) const QUICK: Plan = Plan {
    about: "10 calls per second of 2 s, DNS away for 3 s",
    rate: 10,
    calm: Duration::from_secs(3),
    settling: Duration::from_secs(4),
    dns_away: Duration::from_secs(3),
    storm: Duration::from_secs(3),
    is_measured: false,
};

pub(in crate::rehearse) const WHOLE: Plan = Plan {
    about: "10 calls per second of 2 s, DNS away for 60 s",
    rate: 10,
    calm: Duration::from_secs(20),
    settling: Duration::from_secs(10),
    dns_away: Duration::from_secs(60),
    storm: Duration::from_secs(12),
    is_measured: true,
};

pub(super) const LAYOUT: Layout = Layout {
    platform: &[],
    apps: &[App { id: EVERY_APP, graph: GraphAccess::Valid }],
    bots: &[
        BotSettings { name: HEALTHY, app: EVERY_APP, answer: "graph" },
        BotSettings { name: GREY, app: EVERY_APP, answer: "graph" },
        BotSettings { name: SLOW, app: EVERY_APP, answer: "graph" },
        BotSettings { name: DEAD, app: EVERY_APP, answer: "graph" },
    ],
    ingress: Ingress::Scarce,
};

pub(super) const HEALTHY: &str = "bot-0";
/// Hangs on every notification. Its probe is fine.
pub(super) const GREY: &str = "bot-1";
pub(super) const SLOW: &str = "bot-2";
/// Dies under the storm.
pub(super) const DEAD: &str = "bot-3";
