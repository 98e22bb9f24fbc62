//! Kubernetes as a source of the fleet: the EndpointSlices of a service, listed once and then watched.
//!
//! A list returns the state and its version, a watch the changes since a version. After a watch ends, the
//! next one continues from the last version received. If the server has forgotten that version (410 Gone), or
//! its response makes no sense, the slices are listed again. In between, however long it takes, the last
//! state stays.

mod api;
mod left_pods;
mod slices;
mod wire;

use openssl::rand::rand_bytes;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use self::{
    api::{Api, ReadEnd},
    left_pods::LeftPods,
    slices::Slices,
    wire::SliceChange,
};
use super::source::{EMPTY_HOLD, SourceError, SourceLog};
use crate::{delivery::Delivery, member::Member, settings::KubernetesSettings};

/// Follows a service of Kubernetes.
pub(super) struct Kubernetes<'s> {
    settings: &'s KubernetesSettings,
    slices: Slices,
    /// The version of `slices`; `None` until they are listed.
    version: Option<Box<str>>,
    /// The time at which the members are built again.
    due: Option<Instant>,
    empty_since: Option<Instant>,
    left_out_logged: bool,
    log: SourceLog,
}

impl<'s> Kubernetes<'s> {
    pub(super) fn new(settings: &'s KubernetesSettings) -> Self {
        Self {
            settings,
            slices: Slices::default(),
            version: None,
            due: None,
            empty_since: None,
            left_out_logged: false,
            log: SourceLog::default(),
        }
    }

    pub(super) async fn follow(self, delivery: &Delivery) {
        let settings = self.settings;
        self.follow_by(delivery, || Api::connect(settings)).await;
    }

    async fn follow_by<F: Future<Output = Result<Api, SourceError>>>(
        self,
        delivery: &Delivery,
        connect: impl Fn() -> F,
    ) {
        // Apart from each other: a request for a pod delays no change of the slices.
        tokio::join!(self.follow_slices(delivery, &connect), LeftPods::default().follow(delivery, &connect));
    }

    /// Lists and watches until it is dropped.
    async fn follow_slices<F: Future<Output = Result<Api, SourceError>>>(
        mut self,
        delivery: &Delivery,
        connect: impl Fn() -> F,
    ) {
        let mut pace = Pace::default();
        loop {
            let started = Instant::now();
            // Created for each connection: tokens, certificates and the server's address change.
            let read_end = match connect().await {
                Ok(api) => self.read(delivery, &api, &mut pace).await,
                Err(error) => ReadEnd::Unreached(error),
            };
            let now = Instant::now();
            let succeeded = match read_end {
                ReadEnd::Ended => now.saturating_duration_since(started) >= CALM,
                ReadEnd::Expired => {
                    self.version = None;
                    pace.ease(now)
                }
                ReadEnd::Unreached(error) => {
                    // While the server cannot be reached, an empty service may get pods again.
                    self.empty_since = None;
                    self.log.failed(&self.source(), &error, &delivery.source_times, now);
                    false
                }
                ReadEnd::Misread(error) => {
                    self.version = None;
                    self.log.failed(&self.source(), &error, &delivery.source_times, now);
                    false
                }
            };
            if !succeeded {
                sleep(pace.pause()).await;
            }
        }
    }

    /// Lists, if there is no version to continue from, and watches.
    async fn read(&mut self, delivery: &Delivery, api: &Api, pace: &mut Pace) -> ReadEnd {
        let version = match self.version.clone() {
            Some(version) => version,
            None => match api.list(&self.settings.port).await {
                Ok((slices, version)) => {
                    self.slices = slices;
                    self.build(delivery, api.namespace());
                    self.version = Some(version.clone());
                    version
                }
                Err(read_end) => return read_end,
            },
        };
        let mut watch = match api.watch(&version).await {
            Ok(watch) => watch,
            Err(read_end) => return read_end,
        };
        pace.ease(Instant::now());
        // The known state is current again, though it may not have changed. An error in it is logged again.
        self.build(delivery, api.namespace());
        let read_end = self.watch(delivery, api.namespace(), &mut watch).await;
        if self.due.is_some() {
            self.build(delivery, api.namespace());
        }
        read_end
    }

    async fn watch(&mut self, delivery: &Delivery, namespace: &str, watch: &mut api::Watch) -> ReadEnd {
        let end = Instant::now() + api::WATCH_TIME_MAX;
        loop {
            let line = tokio::select! {
                line = watch.line() => line,
                () = sleep_until(self.due.map_or(end, |due| due.min(end))) => {
                    if self.due.is_none_or(|due| due > Instant::now()) {
                        return ReadEnd::Ended;
                    }
                    self.build(delivery, namespace);
                    continue;
                }
            };
            let event = match line {
                Ok(Some(line)) => wire::event(&line, &self.settings.port),
                Ok(None) => return ReadEnd::Ended,
                Err(error) => Err(error),
            };
            let event = match event {
                Ok(event) => event,
                Err(error) => return ReadEnd::Misread(error),
            };
            match event.change {
                SliceChange::None => {}
                SliceChange::Put(name, slice) => {
                    if let Err(error) = self.slices.put(name, slice) {
                        return ReadEnd::Misread(error);
                    }
                    self.build_soon();
                }
                SliceChange::Removed(name) => {
                    self.slices.remove(&name);
                    self.build_soon();
                }
                SliceChange::Expired => return ReadEnd::Expired,
                SliceChange::Refused(why) => return ReadEnd::Misread(SourceError::NoResponse(why)),
            }
            // Bookmarks count: they come while nothing changes.
            if !delivery.source_times.is_failing() {
                delivery.source_times.source_answered();
            }
            if let Some(version) = event.version {
                self.version = Some(version);
            }
        }
    }

    /// Schedules a build. A rollout changes several slices many times, and one snapshot is enough.
    fn build_soon(&mut self) {
        let at = Instant::now() + GATHER;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Applies the members that the slices list, if they are plausible.
    fn build(&mut self, delivery: &Delivery, namespace: &str) {
        let now = Instant::now();
        let has_instances = !delivery.fleet.load().instances().is_empty();
        let settled = self.settle(namespace, has_instances, now);
        self.log_left_out();
        match settled {
            Ok(members) => {
                self.log.succeeded(&self.source());
                delivery.apply_members(members);
            }
            Err(error) => self.log.failed(&self.source(), &error, &delivery.source_times, now),
        }
    }

    /// The members that the slices list.
    ///
    /// Empty slices mean that the service has no pods, or that its selector was just broken. The current
    /// instances stay for [`EMPTY_HOLD`], during which the server must respond. A service without any slice
    /// does not exist, which says nothing about its pods.
    fn settle(
        &mut self,
        namespace: &str,
        has_instances: bool,
        now: Instant,
    ) -> Result<Vec<Member>, SourceError> {
        self.due = None;
        match self.slices.members(self.settings, namespace) {
            Err(SourceError::Empty) => {
                let counts_at = *self.empty_since.get_or_insert(now) + EMPTY_HOLD;
                if has_instances && now < counts_at {
                    self.due = Some(counts_at);
                    return Err(SourceError::Empty);
                }
                Ok(Vec::new())
            }
            settled => {
                self.empty_since = None;
                settled
            }
        }
    }

    fn log_left_out(&mut self) {
        let left_out = self.slices.left_out();
        if left_out.is_empty() {
            self.left_out_logged = false;
        } else if !self.left_out_logged {
            self.left_out_logged = true;
            tracing::warn!(
                source = self.source(),
                no_pods = left_out.no_pods,
                without_port = left_out.without_port,
                "endpoints left out: they name no pod with its uid, or lack an address or the port"
            );
        }
    }

    /// The service, for the log.
    fn source(&self) -> String {
        match &self.settings.namespace {
            Some(namespace) => format!("{namespace}/{}", self.settings.service),
            None => self.settings.service.to_string(),
        }
    }
}

/// The pace of requests to the server: the next one is sent at once after a long success, else after a pause
/// that grows.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
    eased_at: Option<Instant>,
}

impl Pace {
    /// Notes a response. Returns true if there was none just before: a server that responds and hangs up
    /// is not asked in a tight loop.
    fn ease(&mut self, now: Instant) -> bool {
        let just = self.eased_at.is_some_and(|at| now.saturating_duration_since(at) < CALM);
        if !just {
            self.eased_at = Some(now);
            self.failures = 0;
        }
        !just
    }

    /// The next pause: it doubles with each failure, less up to a quarter of jitter.
    fn pause(&mut self) -> Duration {
        let base =
            Duration::from_secs(1_u64 << self.failures.min(PAUSE_MAX.as_secs().ilog2() + 1)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        let mut random = [0; 2];
        // Jitter spreads load and protects no secret, so a failing generator may skip it.
        let random = rand_bytes(&mut random).map_or(0, |()| u16::from_ne_bytes(random));
        base - base / 4 * u32::from(random) / u32::from(u16::MAX)
    }
}

/// The time for which changes are collected before they apply: longer than a controller needs for one step of
/// a rollout, shorter than an operator notices.
const GATHER: Duration = Duration::from_millis(50);
/// A watch that lasted longer was successful, and the next one may start at once.
const CALM: Duration = Duration::from_secs(30);
/// The longest pause after a failure. The first is a second.
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
