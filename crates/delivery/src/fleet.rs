//! The instances of this region, as one immutable snapshot.
//!
//! A source turns what it knows into `Member`s, each in a file of its own. One that changes by itself has a new snapshot
//! built from the last one, as a reload does.

mod list;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use switchboard_routing::{AffinityKey, CallbackUris, Candidate, Choice, Name, Owner, choose, rank};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use self::list::members;
use crate::{
    instance::{Clock, Endpoint, Event, Instance, Live, Offer, Rankable, Shown, Standing},
    upstream_url::{Origin, UpstreamUrl},
};

/// The instances of this region. Never changes, so that reading it takes no lock.
#[derive(Debug)]
pub(crate) struct Fleet {
    instances: Vec<Arc<Instance>>,
    /// Those that serve all apps and are not leaving.
    for_all: Vec<Rankable>,
    /// Those that serve some apps, by app.
    for_app: HashMap<Uuid, Vec<Rankable>>,
    by_name: HashMap<Name, usize>,
    /// Those that left lately; nothing is sent to them.
    gone: Vec<Arc<Instance>>,
    /// Whether the source was read.
    known: bool,
    /// Grows with each snapshot of this process, so that a pool knows which of two is newer.
    generation: u64,
    /// Grows with each set of settings, and with it the trust anchors of TLS connections.
    trust: u64,
    slow_start: Duration,
    /// What times are counted from that are read without a lock: the same in all snapshots that follow each other.
    epoch: Instant,
    /// All hosts that the instances are reached at; an endpoint's slot is its place here.
    origins: Vec<Origin>,
}

/// One instance, as a source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Name,
    pub(crate) incarnation: Name,
    pub(crate) new_calls: UpstreamUrl,
    pub(crate) callbacks: UpstreamUrl,
    pub(crate) apps: Option<Vec<Uuid>>,
    pub(crate) weight: u32,
    /// What the source says of it.
    pub(crate) offer: Offer,
    /// Whether it may still be there when its source lists it no more: a pod that is not listed has ended, an address that
    /// DNS does not name any more may answer.
    pub(crate) lingers: bool,
}

/// What all instances of a fleet have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) region: Name,
    pub(crate) probed: bool,
    pub(crate) uris: Arc<CallbackUris>,
    /// How long an instance that left is kept at most.
    pub(crate) keep_leaving: Duration,
    /// Over how long the weight of an instance rises that has just become ready.
    pub(crate) slow_start: Duration,
    /// See [`Common::next_trust`].
    pub(crate) trust: u64,
}

impl Common {
    /// A number for settings that no others have.
    pub(crate) fn next_trust() -> u64 {
        GENERATIONS.fetch_add(1, Ordering::Relaxed)
    }
}

impl Fleet {
    /// A snapshot. What was learned of an instance is taken over from `before` if its name, its incarnation and its
    /// URLs are the same: at another address, or in another life, it is another process.
    ///
    /// An instance of `before` that is no member any more, and that may still be there, stays without new calls until its
    /// calls have ended or `keep_leaving` has passed.
    pub(crate) fn new(
        members: Vec<Member>,
        known: bool,
        common: &Common,
        before: Option<&Self>,
        now: Instant,
    ) -> Self {
        let epoch = before.map_or(now, |before| before.epoch);
        let mut builder = Builder {
            fleet: Self {
                instances: Vec::with_capacity(members.len()),
                for_all: Vec::with_capacity(members.len()),
                for_app: HashMap::new(),
                by_name: HashMap::with_capacity(members.len()),
                gone: Vec::new(),
                known,
                generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
                trust: common.trust,
                slow_start: common.slow_start,
                epoch,
                origins: Vec::new(),
            },
            slots: HashMap::with_capacity(members.len()),
            common,
        };
        let known_before: Vec<_> =
            members.iter().map(|member| before.and_then(|before| before.same(member))).collect();
        // Made one after the other, before anything else is, so that they lie close together: read from all over the heap
        // for each new call, ten thousand of them took twice as long.
        let mut shown: Vec<Arc<Shown>> =
            known_before.iter().filter(|live| live.is_none()).map(|_| Arc::default()).collect();
        shown.reverse();
        for (member, live) in members.into_iter().zip(known_before) {
            if builder.fleet.by_name.contains_key(&member.name) {
                continue;
            }
            let offer = member.offer;
            let live = match live {
                Some(live) => {
                    live.learn(Event::Probing(common.probed), now);
                    live.learn(Event::Offered(offer), now);
                    Arc::clone(live)
                }
                None => {
                    let shown = shown.pop().unwrap_or_default();
                    Arc::new(Live::new(member.name.clone(), shown, common.probed, offer, epoch, now))
                }
            };
            builder.add(member, live);
        }
        for old in before.iter().flat_map(|before| &before.instances) {
            let same =
                builder.fleet.instance(old.name().as_str()).map(|new| Arc::ptr_eq(&new.live, &old.live));
            match same {
                Some(true) => {}
                None if old.may_stay(common.keep_leaving, now) => {
                    old.live.learn(Event::Probing(common.probed), now);
                    old.live.learn(Event::Offered(Offer::Left), now);
                    builder.add(Member { offer: Offer::Left, ..old.member() }, Arc::clone(&old.live));
                }
                Some(false) | None => {
                    old.live.learn(Event::Offered(Offer::Gone), now);
                    builder.fleet.gone.push(Arc::clone(old));
                }
            }
        }
        let mut fleet = builder.fleet;
        // The newest last; only those whose name is free are shown.
        let earlier = before.iter().flat_map(|before| &before.gone).cloned();
        let mut gone: Vec<_> = earlier.chain(std::mem::take(&mut fleet.gone)).collect();
        gone.retain(|gone| !fleet.by_name.contains_key(gone.name()));
        let mut names = HashSet::new();
        gone.reverse();
        gone.retain(|gone| names.insert(gone.name().clone()));
        gone.truncate(GONE_MAX);
        gone.reverse();
        fleet.gone = gone;
        fleet
    }

    /// The members that its source lists, as they were when it was read last.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.instances
            .iter()
            .filter(|instance| instance.offer != Offer::Left)
            .map(|one| one.member())
            .collect()
    }

    /// Whether an instance that left can be let go now.
    pub(crate) fn has_overdue(&self, keep_leaving: Duration, now: Instant) -> bool {
        self.instances
            .iter()
            .any(|instance| instance.offer == Offer::Left && !instance.may_stay(keep_leaving, now))
    }

    /// Those that left lately, for `/fleet`.
    pub(crate) fn gone(&self) -> &[Arc<Instance>] {
        &self.gone
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn origins(&self) -> &[Origin] {
        &self.origins
    }

    pub(crate) fn trust(&self) -> u64 {
        self.trust
    }

    pub(crate) fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    pub(crate) fn instance(&self, name: &str) -> Option<&Arc<Instance>> {
        self.by_name.get(name).and_then(|at| self.instances.get(*at))
    }

    /// The instances that may take a new call of `app`, in the order in which `key` ranks them.
    pub(crate) fn candidates(&self, app: Uuid, key: AffinityKey) -> Candidates<'_> {
        Candidates { fleet: self, app, key, progress: Progress::Start }
    }

    /// The instance that `key` ranks first among all that serve `app`, whatever their health and load: the same one
    /// for as long as the fleet is the same, at every gateway. One that is leaving is nobody's heir.
    pub(crate) fn first(&self, key: AffinityKey, app: Uuid) -> Option<&Instance> {
        let ranked = self.rankable(app).map(|one| (one.at, one.unloaded()));
        choose(key, ranked).and_then(|choice| self.at(choice.first))
    }

    /// Those that serve `app` and are not leaving.
    fn rankable(&self, app: Uuid) -> impl Iterator<Item = &Rankable> + Clone {
        self.for_all.iter().chain(self.for_app.get(&app).into_iter().flatten())
    }

    fn at(&self, at: usize) -> Option<&Instance> {
        self.instances.get(at).map(|instance| &**instance)
    }

    fn same(&self, member: &Member) -> Option<&Arc<Live>> {
        let instance = self.instance(member.name.as_str())?;
        (instance.owner.incarnation == member.incarnation
            && instance.new_calls.target.is_at_the_place_of(&member.new_calls)
            && instance.callbacks.target.is_at_the_place_of(&member.callbacks))
        .then_some(&instance.live)
    }
}

/// A fleet in the making.
struct Builder<'a> {
    fleet: Fleet,
    /// Where each origin is in the fleet's list.
    slots: HashMap<Origin, usize>,
    common: &'a Common,
}

impl Builder<'_> {
    fn add(&mut self, member: Member, live: Arc<Live>) {
        let Member { name, incarnation, new_calls, callbacks, apps, weight, offer, lingers } = member;
        let new_calls = self.endpoint(new_calls);
        let callbacks = self.endpoint(callbacks);
        let owner = Owner { region: self.common.region.clone(), instance: name, incarnation };
        self.fleet.by_name.insert(owner.instance.clone(), self.fleet.instances.len());
        let uris = Arc::clone(&self.common.uris);
        let mut instance = Instance::new(owner, new_calls, callbacks, apps, weight, uris, live);
        instance.offer = offer;
        instance.lingers = lingers;
        self.list(&instance);
        self.fleet.instances.push(Arc::new(instance));
    }

    /// Where placement looks for it, as the next of the instances.
    fn list(&mut self, instance: &Instance) {
        if instance.offer == Offer::Left {
            return;
        }
        let rankable = instance.rankable(self.fleet.instances.len());
        match &instance.apps {
            None => self.fleet.for_all.push(rankable),
            Some(apps) => {
                for app in apps.iter().collect::<HashSet<_>>() {
                    self.fleet.for_app.entry(*app).or_default().push(rankable.clone());
                }
            }
        }
    }

    fn endpoint(&mut self, target: UpstreamUrl) -> Endpoint {
        let origin = target.origin();
        let host = HeaderValue::from_str(&origin.authority()).expect("a parsed host is printable ASCII");
        let slot = match self.slots.get(origin) {
            Some(slot) => *slot,
            None => {
                let slot = self.fleet.origins.len();
                self.fleet.origins.push(origin.clone());
                self.slots.insert(origin.clone(), slot);
                slot
            }
        };
        Endpoint { target, slot, host }
    }
}

/// The instances that may take a new call, best first, found as they are asked for: who failed a moment ago comes after all
/// others.
///
/// The first costs one pass over the fleet and no memory. The others are put in order when the second is asked for, which
/// happens only when an instance has failed.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    fleet: &'a Fleet,
    app: Uuid,
    key: AffinityKey,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Start,
    First(usize),
    Rest(std::vec::IntoIter<usize>),
}

impl<'a> Candidates<'a> {
    /// The next one, and how many come after it. Those that failed a moment ago are counted where there are few others.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(&'a Instance, usize)> {
        let clock = Clock::new(now, self.fleet.epoch, self.fleet.slow_start);
        let (at, left) = match &mut self.progress {
            Progress::Start => {
                let Choice { first, mut candidates } =
                    match choose(self.key, self.of(Standing::Candidate, clock)) {
                        Some(choice) => choice,
                        None => choose(self.key, self.of(Standing::Last, clock))?,
                    };
                // Not counted where nothing depends on it: it is one more pass.
                if candidates < COUNTED_MIN {
                    candidates =
                        self.of(Standing::Candidate, clock).chain(self.of(Standing::Last, clock)).count();
                }
                self.progress = Progress::First(first);
                (first, candidates.saturating_sub(1))
            }
            Progress::First(first) => {
                let first = *first;
                let mut rest = self.others(first, clock).into_iter();
                let second = rest.next()?;
                let left = rest.len();
                self.progress = Progress::Rest(rest);
                (second, left)
            }
            Progress::Rest(rest) => (rest.next()?, rest.len()),
        };
        self.fleet.at(at).map(|instance| (instance, left))
    }

    /// Those with this standing, with what is needed to rank them.
    fn of(
        &self,
        standing: Standing,
        clock: Clock,
    ) -> impl Iterator<Item = (usize, Candidate)> + Clone + use<'a> {
        self.fleet
            .rankable(self.app)
            .filter(move |one| one.standing(clock) == standing)
            .map(move |one| (one.at, one.candidate(clock)))
    }

    /// In the order of their rank, whatever their load.
    fn others(&self, first: usize, clock: Clock) -> Vec<usize> {
        let in_order = |standing| {
            let others = self.of(standing, clock).filter(|(at, _)| *at != first);
            let (places, candidates): (Vec<_>, Vec<_>) =
                others.map(|(at, candidate)| (at, Candidate { load: None, ..candidate })).unzip();
            rank(self.key, &candidates).filter_map(move |index| places.get(index).copied())
        };
        in_order(Standing::Candidate).chain(in_order(Standing::Last)).collect()
    }
}

/// More candidates than a try's part of the time depends on.
const COUNTED_MIN: usize = 4;
/// Those that left and are still shown: a rollout replaces a fleet, and nobody reads more.
const GONE_MAX: usize = 100;

/// Numbers the snapshots. Only their order matters.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

#[cfg(test)]
mod tests;
