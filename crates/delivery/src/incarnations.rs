//! Applying the incarnations that probes report: the fleet is built anew with the new owners.

use std::{sync::Arc, time::Duration};

use switchboard_routing::{Name, Owner};
use tokio::time::{Instant, sleep};

use crate::{
    delivery::Delivery,
    instance::{Instance, Tracker},
    member::is_known,
};

impl Delivery {
    /// Learns from the report of a probe that was sent at `sent`. Returns the tracker that the report is for:
    /// with another incarnation it is a new one.
    ///
    /// The fleet has the incarnation when this returns, so an instance takes no call under another one.
    pub(crate) async fn learn_incarnation(
        &self,
        instance: &Arc<Instance>,
        reported: Option<&Name>,
        sent: Instant,
    ) -> Arc<Tracker> {
        let interval = self.settings.probe.as_ref().map_or(Duration::ZERO, |probe| probe.interval);
        instance.probed_incarnation.reported(instance.name(), reported, sent, interval);
        if let Some(reported) = reported {
            self.warn_if_unused(instance, reported);
        }
        if !self.has_incarnation_of(instance) {
            let _turn = self.applying_incarnations.lock().await;
            if !self.has_incarnation_of(instance) {
                // A fleet of thousands reports within seconds. One snapshot applies all reports of this time.
                sleep(REPORTS_COLLECTED).await;
                self.replace_fleet(|fleet| Some((fleet.members(), fleet.is_known())));
            }
        }
        let fleet = self.fleet.load();
        let now = Self::of_same_name(&fleet, instance).unwrap_or(instance);
        Arc::clone(&now.tracker)
    }

    /// Returns true if the fleet has the incarnation that the instance reported last, or no longer has the
    /// instance.
    fn has_incarnation_of(&self, instance: &Arc<Instance>) -> bool {
        let fleet = self.fleet.load();
        Self::of_same_name(&fleet, instance).is_none_or(|now| now.owner.incarnation == now.incarnation_now())
    }

    /// The instance of this name and address in the fleet.
    fn of_same_name<'f>(fleet: &'f crate::fleet::Fleet, instance: &Instance) -> Option<&'f Arc<Instance>> {
        let now = fleet.instance(instance.name().as_str())?;
        Arc::ptr_eq(&now.probed_incarnation, &instance.probed_incarnation).then_some(now)
    }

    /// Warns once if an incarnation cannot be used.
    fn warn_if_unused(&self, instance: &Instance, reported: &Name) {
        let region = self.fleet_settings.region.clone();
        let (name, incarnation) = (instance.name().clone(), reported.clone());
        let owner = Owner { region, instance: name, incarnation };
        let checked = self.fleet_settings.uris.check(owner.as_ref());
        let source = &instance.owner.incarnation;
        let probed = &instance.probed_incarnation;
        if !instance.uses_probed_incarnation() {
            if source != reported && probed.is_first_warning() {
                tracing::warn!(
                    instance = %owner.instance,
                    incarnation = %source,
                    reported = %reported,
                    "reported incarnation is not used: the source of the fleet has another one"
                );
            }
        } else if let Err(error) = checked
            && is_known(reported)
            && probed.is_first_warning()
        {
            tracing::warn!(
                instance = %owner.instance,
                reported = %reported,
                %error,
                "reported incarnation is not used: the callback URI has no room for it"
            );
        }
    }
}

/// The time for which reports are collected before a snapshot is built with their incarnations.
const REPORTS_COLLECTED: Duration = Duration::from_millis(10);
