//! The one-line status of the gateway, which `systemctl status` shows.

use std::{fmt, sync::Arc, time::Duration};

use switchboard_delivery::InstanceState;
use tokio::time::{MissedTickBehavior, interval};

use crate::process::{
    state::ProcessState,
    systemd::notifier::{Message, Notifier},
};

/// The state of the gateway as one plain sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatusReport {
    /// New calls go to `ready` of `instances`. The configuration is old if the last reload was refused.
    Serving { region: String, ready: usize, instances: usize, is_old: bool },
    /// The first failing condition of readiness.
    Waiting { region: String, condition: &'static str },
    /// The gateway drains.
    Draining { region: String, connections: usize },
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving { region, ready, instances, is_old } => {
                let refused = if *is_old { "; the last reload was refused" } else { "" };
                write!(f, "serving {region}: {ready} of {instances} instances ready{refused}")
            }
            Self::Waiting { region, condition } => {
                write!(f, "not ready in {region}: waiting for {condition}")
            }
            Self::Draining { region, connections } => {
                write!(f, "draining {region}: {connections} connections open")
            }
        }
    }
}

/// Reads the status of a process.
#[derive(Clone, Debug)]
pub(crate) struct StatusSource(pub(crate) Arc<ProcessState>);

impl StatusSource {
    /// The current status.
    pub(crate) fn read(&self) -> StatusReport {
        let gateway = self.0.gateway.load();
        let region = gateway.region.to_string();
        if gateway.is_draining() {
            return StatusReport::Draining { region, connections: self.0.metrics.open_connections() };
        }
        if let Some(condition) = gateway.readiness().failing().first().copied() {
            return StatusReport::Waiting { region, condition };
        }
        let mut instances = gateway.delivery.instances();
        instances.retain(|instance| instance.state != InstanceState::Gone);
        let ready = instances.iter().filter(|instance| instance.state == InstanceState::Ready).count();
        let is_old = gateway.observed.last_reload().is_some_and(|reload| !reload.ok);
        StatusReport::Serving { region, ready, instances: instances.len(), is_old }
    }

    /// Sends the status when it has changed. Runs until it is dropped.
    pub(crate) async fn report(self, notifier: Notifier) {
        let mut ticks = interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            ticks.tick().await;
            let status = self.read();
            if last.as_ref() != Some(&status) {
                notifier.send(Message::Status(status.to_string()));
                last = Some(status);
            }
        }
    }
}

/// Soon enough for a reader of `systemctl status`.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
