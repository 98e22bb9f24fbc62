//! The background tasks of a gateway: they refresh its keys, its fleet, and the addresses and health
//! of its peers.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{gateway::Gateway, wall_clock::wall_clock};

/// The running background tasks. They stop when this value is dropped, which a reload does.
#[derive(Debug)]
pub(super) struct BackgroundTasks(JoinSet<()>);

impl BackgroundTasks {
    /// Starts the tasks of `gateway`.
    pub(super) fn start(gateway: &Gateway) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&gateway.authenticator).run(wall_clock));
        tasks.spawn(Arc::clone(&gateway.delivery).run());
        tasks.spawn(Arc::clone(&gateway.delivery).run_store(wall_clock));
        tasks.spawn(Arc::clone(&gateway.peer_gateways).run());
        tasks.spawn(Arc::clone(&gateway.connections).run());
        tasks.spawn(Arc::clone(&gateway.peers).run(Arc::clone(&gateway.metrics)));
        Self(tasks)
    }
}

impl Drop for BackgroundTasks {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}
