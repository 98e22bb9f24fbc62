//! One probe of each instance, for a diagnosis.

use std::{sync::Arc, time::Duration};

use switchboard_routing::Name;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{INTERVAL_MIN, PROBES_MAX, ProbeReport, request_report};
use crate::{
    cause::Cause,
    connections::{Connector, connect_near},
    delivery::Delivery,
    instance::ReportedState,
    origins::Endpoint,
    settings::ProbeSettings,
};

/// An instance, and the outcome of its probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The name of the instance.
    pub name: Name,
    /// The origin that was connected to, like `http://10.0.0.10:3978`.
    pub origin: String,
    /// The state that it reports.
    pub outcome: Result<ExaminedState, ExaminedFailure>,
}

/// The failure of a probe or of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExaminedFailure {
    /// The label of the reason, as in the metrics.
    pub label: &'static str,
    /// The reason in a few words, with the fault of the certificate if TLS failed.
    pub reason: String,
}

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExaminedState {
    /// It accepts connections. The settings have no probe.
    Accepts,
    /// It takes new calls.
    Ready,
    /// It takes no new calls for now.
    Full,
    /// It takes no new calls any more.
    Draining,
}

impl Delivery {
    /// Reads the source of the fleet and probes each instance once, in place of [`Delivery::run`].
    ///
    /// The names are looked up and the connections made as `run` does, and the health of no instance changes.
    /// `limit` bounds the source, and each probe as far as its interval does not.
    ///
    /// Returns `None` if the source cannot be read.
    pub async fn examine(&self, limit: Duration) -> Option<Vec<Examined>> {
        tokio::select! {
            examined = self.probe_each_once(limit) => examined,
            () = async { tokio::join!(self.follow_names(), self.follow_source()); } => None,
        }
    }

    async fn probe_each_once(&self, limit: Duration) -> Option<Vec<Examined>> {
        let started = Instant::now();
        while !self.is_known() {
            if started.elapsed() >= limit {
                return None;
            }
            sleep(SOURCE_CHECK_INTERVAL).await;
        }
        let fleet = self.fleet.load_full();
        let permits = Arc::new(Semaphore::new(PROBES_MAX));
        let limit = match &self.settings.probe {
            Some(probe) => limit.min(probe.interval.max(INTERVAL_MIN) / 2),
            None => limit,
        };
        let mut probes = JoinSet::new();
        for (index, instance) in fleet.instances().iter().enumerate() {
            let (instance, connector) = (instance.clone(), self.connector.clone());
            let path = self.settings.probe.as_ref().map(|probe| ProbeSettings::request_path(&probe.path));
            let is_forwarded = self.settings.probe.as_ref().is_some_and(|probe| probe.is_forwarded);
            let permits = Arc::clone(&permits);
            probes.spawn(async move {
                let _permit = permits.acquire().await;
                let probe = async {
                    match &path {
                        Some(Some(path)) => request_report(&instance, path, &connector, is_forwarded)
                            .await
                            .map(|report| state(&report)),
                        Some(None) => Err(Cause::BadReport),
                        None => accepts(&instance.new_calls, &connector).await,
                    }
                };
                let outcome = timeout(limit, probe).await.unwrap_or(Err(Cause::Timeout));
                let failure = |endpoint: &Endpoint, cause: Cause| ExaminedFailure {
                    label: cause.label(),
                    reason: connector.explain(cause, endpoint.url.origin()),
                };
                // A new call needs this one, and each later notification the other.
                let outcome = match outcome {
                    Ok(state) => match accepts(&instance.callbacks, &connector).await {
                        Ok(_) => Ok(state),
                        Err(cause) => Err(failure(&instance.callbacks, cause)),
                    },
                    Err(cause) => Err(failure(&instance.new_calls, cause)),
                };
                let name = instance.name().clone();
                let origin = instance.new_calls.url.origin();
                let origin =
                    format!("{}://{}", if origin.secure { "https" } else { "http" }, origin.authority());
                (index, Examined { name, origin, outcome })
            });
        }
        let mut examined = probes.join_all().await;
        examined.sort_by_key(|(index, _)| *index);
        Some(examined.into_iter().map(|(_, examined)| examined).collect())
    }
}

/// Connects to an endpoint.
async fn accepts(endpoint: &Endpoint, connector: &Connector) -> Result<ExaminedState, Cause> {
    connect_near(endpoint.url.origin(), connector).await.map(|_| ExaminedState::Accepts)
}

fn state(report: &ProbeReport) -> ExaminedState {
    match report.report.state {
        ReportedState::Ready => ExaminedState::Ready,
        ReportedState::Full => ExaminedState::Full,
        ReportedState::Draining => ExaminedState::Draining,
    }
}

const SOURCE_CHECK_INTERVAL: Duration = Duration::from_millis(20);
