//! Kubernetes as a source of the fleet: the EndpointSlices of a service, listed once and then watched.
//!
//! A list gives the state and its version, a watch the changes since a version. A watch that ends goes on from the last version
//! that it told. Where the server has forgotten that version (410 Gone), or says what makes no sense, the slices are listed
//! anew. In between, however long it takes, the last state holds.

mod api;
mod slices;
mod wire;

use openssl::rand::rand_bytes;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use self::{
    api::{Api, ReadEnd},
    slices::Slices,
    wire::SliceChange,
};
use super::source::{EMPTY_HOLD, SourceError, SourceLog};
use crate::{delivery::Delivery, member::Member, settings::KubernetesSettings};

/// Follows a service.
pub(super) struct Kubernetes<'s> {
    settings: &'s KubernetesSettings,
    slices: Slices,
    /// Of `slices`; `None` until they are listed.
    version: Option<Box<str>>,
    /// When the members are to be made again.
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

    /// Lists and watches, for as long as the fleet is there.
    async fn follow_by<F: Future<Output = Result<Api, SourceError>>>(
        mut self,
        delivery: &Delivery,
        connect: impl Fn() -> F,
    ) {
        let mut pace = Pace::default();
        loop {
            let began = Instant::now();
            // Made anew each time: tokens, certificates and the server's address change.
            let stop = match connect().await {
                Ok(api) => self.read(delivery, &api, &mut pace).await,
                Err(fault) => ReadEnd::Unreached(fault),
            };
            let now = Instant::now();
            let in_order = match stop {
                ReadEnd::Ended => now.saturating_duration_since(began) >= CALM,
                ReadEnd::Expired => {
                    self.version = None;
                    pace.ease(now)
                }
                ReadEnd::Unreached(fault) => {
                    // While nobody hears the server, a service that named nobody may have pods again.
                    self.empty_since = None;
                    self.log.failed(&self.source(), &fault, now);
                    false
                }
                ReadEnd::Misread(fault) => {
                    self.version = None;
                    self.log.failed(&self.source(), &fault, now);
                    false
                }
            };
            if !in_order {
                sleep(pace.pause()).await;
            }
        }
    }

    /// Lists, if there is no version to go on from, and watches.
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
                Err(stop) => return stop,
            },
        };
        let mut watch = match api.watch(&version).await {
            Ok(watch) => watch,
            Err(stop) => return stop,
        };
        pace.ease(Instant::now());
        // What is known is true again, though nothing may have changed; a fault of what it says is told again.
        self.build(delivery, api.namespace());
        let stop = self.watch(delivery, api.namespace(), &mut watch).await;
        if self.due.is_some() {
            self.build(delivery, api.namespace());
        }
        stop
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
                Err(fault) => Err(fault),
            };
            let event = match event {
                Ok(event) => event,
                Err(fault) => return ReadEnd::Misread(fault),
            };
            match event.change {
                SliceChange::None => {}
                SliceChange::Put(name, slice) => {
                    if let Err(fault) = self.slices.put(name, slice) {
                        return ReadEnd::Misread(fault);
                    }
                    self.build_soon();
                }
                SliceChange::Removed(name) => {
                    self.slices.remove(&name);
                    self.build_soon();
                }
                SliceChange::Expired => return ReadEnd::Expired,
                SliceChange::Refused(why) => return ReadEnd::Misread(SourceError::Unanswered(why)),
            }
            if let Some(version) = event.version {
                self.version = Some(version);
            }
        }
    }

    /// A roll-out touches a slice many times, and several of them: one snapshot will do.
    fn build_soon(&mut self) {
        let at = Instant::now() + GATHER;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Puts what the slices say to work, if it can be believed.
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
            Err(fault) => self.log.failed(&self.source(), &fault, now),
        }
    }

    /// The members, as the slices name them.
    ///
    /// Slices that name nobody are what a service without pods has, and one whose selector was just mistaken. So whoever is
    /// there stays for a while, in which the server must be heard. A service without any slice is not there at all, which says nothing about its pods.
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
                "some endpoints are left out: they name no pod and its uid, or have no address or not the port"
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

/// How build_soon the server is asked again: at once, if it had answered for a while; else after a pause that grows.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
    eased_at: Option<Instant>,
}

impl Pace {
    /// The server answers. True if it had not just done so: one that answers and hangs up is not asked in a tight loop.
    fn ease(&mut self, now: Instant) -> bool {
        let just = self.eased_at.is_some_and(|at| now.saturating_duration_since(at) < CALM);
        if !just {
            self.eased_at = Some(now);
            self.failures = 0;
        }
        !just
    }

    /// Twice as long after each failure, with up to a quarter of jitter less.
    fn pause(&mut self) -> Duration {
        let base =
            Duration::from_secs(1_u64 << self.failures.min(PAUSE_MAX.as_secs().ilog2() + 1)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        let mut random = [0; 2];
        // Jitter spreads load and guards nothing, so a failing generator may leave it out.
        let random = rand_bytes(&mut random).map_or(0, |()| u16::from_ne_bytes(random));
        base - base / 4 * u32::from(random) / u32::from(u16::MAX)
    }
}

/// How long changes are gathered before they are put to work: longer than a controller needs for one roll-out step, shorter
/// than anybody notices.
const GATHER: Duration = Duration::from_millis(50);
/// What lasted longer was in order, and may be repeated at once.
const CALM: Duration = Duration::from_secs(30);
/// The longest pause after a failure. The first is a second.
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
