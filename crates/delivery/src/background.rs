//! The tasks of a delivery that run beside its requests.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{delivery::Delivery, fleet::Fleet};

impl Delivery {
    /// Looks up the names of instances, probes the instances, follows the fleet's source and removes
    /// instances that left, until it is dropped. Spawn it once, on any runtime.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.follow_names(), self.probe_all(), self.follow_source(), self.remove_unlisted());
    }

    /// Removes instances that are no longer listed once their calls have ended.
    async fn remove_unlisted(&self) {
        let keep_leaving = self.fleet_settings.keep_leaving;
        let has_removable = |fleet: &Fleet| fleet.has_removable(keep_leaving, Instant::now());
        loop {
            sleep(CHECK_INTERVAL).await;
            if has_removable(&self.fleet.load()) {
                self.replace_fleet(|fleet| has_removable(fleet).then(|| (fleet.members(), fleet.is_known())));
            }
        }
    }
}

/// The interval of checks for instances to remove. No request waits for it.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
