//! The scenarios of restarts and failures, and the testbed that they use.

use crate::rehearse::layout::{App, BotSettings, EVERY_APP, GraphAccess, Ingress, Layout};

/// An event of the fleet, under a load.
pub(in crate::rehearse) struct Scenario {
    pub(super) about: &'static str,
    /// Calls per second.
    pub(super) rate: u32,
    /// The duration of each call.
    pub(super) duration: &'static str,
    pub(super) event: FleetEvent,
}

/// The change in the fleet while calls are placed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FleetEvent {
    /// Every gateway and every instance restarts in turn.
    RollingRestart,
    /// One instance is killed, and another one is suspended for a while.
    Failures,
}

pub(in crate::rehearse) const QUICK: [Scenario; 2] = [
    Scenario {
        about: "a rolling restart, 20 calls per second of 1 s",
        rate: 20,
        duration: "1s",
        event: FleetEvent::RollingRestart,
    },
    Scenario {
        about: "one instance killed, another one suspended; 20 calls per second of 1 s",
        rate: 20,
        duration: "1s",
        event: FleetEvent::Failures,
    },
];

pub(in crate::rehearse) const WHOLE: [Scenario; 2] = [
    Scenario {
        about: "a rolling restart, 50 calls per second of 5 s",
        rate: 50,
        duration: "5s",
        event: FleetEvent::RollingRestart,
    },
    Scenario {
        about: "one instance killed, another one suspended; 50 calls per second of 5 s",
        rate: 50,
        duration: "5s",
        event: FleetEvent::Failures,
    },
];

/// Half of the bots answer by themselves, and half let the gateway answer. The platform waits longer than the
/// gateways' patience.
pub(super) const LAYOUT: Layout = Layout {
    platform: &["--post-timeout", "20s"],
    apps: &[App { id: EVERY_APP, graph: GraphAccess::Valid }],
    bots: &[
        BotSettings { name: "bot-0", app: EVERY_APP, answer: "graph" },
        BotSettings { name: "bot-1", app: EVERY_APP, answer: "action" },
        BotSettings { name: "bot-2", app: EVERY_APP, answer: "graph" },
        BotSettings { name: "bot-3", app: EVERY_APP, answer: "action" },
        BotSettings { name: "bot-4", app: EVERY_APP, answer: "graph" },
        BotSettings { name: "bot-5", app: EVERY_APP, answer: "action" },
    ],
    ingress: Ingress::Balanced,
};

/// The instance that an operator drains at each gateway. The others report by themselves that they drain.
pub(super) const DRAINED_BY_HAND: &str = "bot-1";
pub(super) const KILLED: &str = "bot-3";
pub(super) const SUSPENDED: &str = "bot-4";
