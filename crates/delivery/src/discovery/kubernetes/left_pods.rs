//! Pods that are in no slice any more. A label may have taken them out of the service while they live.

use std::collections::HashMap;

use switchboard_routing::Name;
use tokio::time::{Duration, Instant, sleep};

use super::{
    super::source::SourceError,
    api::{Api, PodError},
};
use crate::{
    delivery::Delivery,
    instance::{Event, Instance},
    member::SourceState,
};

/// Finds out which of the pods that left the slices have ended.
///
/// A pod that has left keeps its callbacks while its probe reports its incarnation, or while the API server
/// has a pod of that name and uid that has not finished. Its calls and `keep_leaving` bound that as for any
/// instance that left. While the API server does not respond, the pod stays.
#[derive(Debug, Default)]
pub(super) struct LeftPods {
    /// The times at which the API server was last asked for a pod, by name and incarnation.
    asked: HashMap<(Name, Name), Instant>,
    /// True once the missing right was logged.
    forbidden_logged: bool,
}

impl LeftPods {
    /// Checks until it is dropped.
    pub(super) async fn follow<F: Future<Output = Result<Api, SourceError>>>(
        mut self,
        delivery: &Delivery,
        connect: impl Fn() -> F,
    ) {
        loop {
            sleep(CHECK_INTERVAL).await;
            let due = self.due(delivery, Instant::now());
            if due.is_empty() {
                continue;
            }
            match connect().await {
                Ok(api) => self.remove_ended(delivery, &api, due).await,
                // The reader of the slices logs it.
                Err(_) => self.asked.extend(due.into_iter().map(|pod| (pod, Instant::now()))),
            }
        }
    }

    /// The pods to ask for now: first the pods that left lately, then by the time of the last request.
    fn due(&mut self, delivery: &Delivery, now: Instant) -> Vec<(Name, Name)> {
        let recent = delivery.settings.probe.as_ref().map(|probe| probe.interval * PROBES);
        let fleet = delivery.fleet.load();
        let left = fleet.instances().iter().filter(|one| one.source_state == SourceState::Unlisted);
        let unsure = left.filter(|one| !recent.is_some_and(|recent| is_confirmed(one, recent, now)));
        let unsure: HashMap<_, _> = unsure.map(|one| (pod(one), one.tracker.unlisted_at())).collect();
        // A pod that has left again is asked for as one that left for the first time.
        self.asked.retain(|pod, asked| unsure.get(pod).is_some_and(|left_at| *left_at <= Some(*asked)));
        let with_time = unsure.into_keys().map(|pod| (self.asked.get(&pod).copied(), pod));
        let is_due = |at: Instant| now.saturating_duration_since(at) >= ASK_AGAIN;
        let mut due: Vec<_> = with_time.filter(|(asked, _)| asked.is_none_or(is_due)).collect();
        due.sort_by_key(|(asked, _)| *asked);
        due.truncate(ASKED_AT_ONCE);
        due.into_iter().map(|(_, pod)| pod).collect()
    }

    /// Asks for each of these pods, until the server does not respond.
    async fn remove_ended(&mut self, delivery: &Delivery, api: &Api, due: Vec<(Name, Name)>) {
        let mut any_ended = false;
        for pod in due {
            let answer = api.has_pod(&pod.0, &pod.1).await;
            self.asked.insert(pod.clone(), Instant::now());
            let has_ended = match answer {
                Ok(exists) => {
                    self.forbidden_logged = false;
                    !exists
                }
                Err(PodError::Forbidden(error)) => {
                    self.log_forbidden(&error);
                    true
                }
                Err(PodError::Unreached) => break,
            };
            if has_ended {
                any_ended |= end(delivery, &pod);
            }
        }
        if any_ended {
            delivery.replace_fleet(|fleet| Some((fleet.members(), fleet.is_known())));
        }
    }

    fn log_forbidden(&mut self, error: &SourceError) {
        if !self.forbidden_logged {
            self.forbidden_logged = true;
            tracing::warn!(
                error = error.to_string(),
                "pods that leave the slices count as ended: the gateway may not get pods"
            );
        }
    }
}

/// Returns true if a recent probe reported the incarnation of the pod.
fn is_confirmed(instance: &Instance, recent: Duration, now: Instant) -> bool {
    let is_recent = |at: Instant| now.saturating_duration_since(at) < recent;
    instance.probed_incarnation.current().as_ref() == Some(&instance.owner.incarnation)
        && instance.probed_incarnation.named_at().is_some_and(is_recent)
}

/// Notes that a pod has ended. Returns false if it is in the slices again, or gone already.
fn end(delivery: &Delivery, gone: &(Name, Name)) -> bool {
    let fleet = delivery.fleet.load();
    let Some(instance) = fleet.instance(gone.0.as_str()) else { return false };
    let has_left = instance.source_state == SourceState::Unlisted && pod(instance) == *gone;
    if has_left {
        instance.tracker.learn(Event::SourceChanged(SourceState::Removed), Instant::now());
    }
    has_left
}

fn pod(instance: &Instance) -> (Name, Name) {
    (instance.name().clone(), instance.owner.incarnation.clone())
}

/// The interval of checks for pods that left. Their callbacks are attempted meanwhile.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two requests for one pod. A pod that ends after it has left the slices is noticed then.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The requests in one check: a broken selector takes out thousands of pods at once.
const ASKED_AT_ONCE: usize = 20;
/// The probes within which a report is recent, as many as an instance may miss.
const PROBES: u32 = 3;

#[cfg(test)]
mod tests;
