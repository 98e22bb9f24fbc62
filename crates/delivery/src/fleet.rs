//! The instances of this region, as one immutable snapshot.
//!
//! A source turns what it knows into `Member`s; today that is the static list (`fleet/list.rs`). A source that changes
//! by itself would build a new snapshot from the last one, as a reload does.

mod list;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::HeaderValue;
use switchboard_routing::{AffinityKey, CallbackUris, Candidate, Name, Owner, rank};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use self::list::members;
use crate::{
    instance::{Endpoint, Event, Instance, Live, Standing},
    target::{Origin, Target},
};

/// The instances of this region. Never changes, so that reading it takes no lock.
#[derive(Debug)]
pub(crate) struct Fleet {
    instances: Vec<Instance>,
    by_name: HashMap<Name, usize>,
    /// Whether the source was read.
    known: bool,
    /// Grows with each snapshot of this process, so that a pool knows which of two is newer.
    generation: u64,
    /// All hosts that the instances are reached at; an endpoint's slot is its place here.
    origins: Vec<Origin>,
}

/// One instance, as a source describes it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Name,
    pub(crate) incarnation: Name,
    pub(crate) new_calls: Target,
    pub(crate) callbacks: Target,
    pub(crate) apps: Option<Vec<Uuid>>,
    pub(crate) weight: u32,
}

/// What all instances of a fleet have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) region: Name,
    pub(crate) probed: bool,
    pub(crate) uris: Arc<CallbackUris>,
}

impl Fleet {
    /// A snapshot. What was learned of an instance is taken over from `before` if its name, its incarnation and its
    /// URLs are the same: at another address, or in another life, it is another process.
    pub(crate) fn new(
        members: Vec<Member>,
        known: bool,
        common: &Common,
        before: Option<&Self>,
        now: Instant,
    ) -> Self {
        let mut fleet = Self {
            instances: Vec::with_capacity(members.len()),
            by_name: HashMap::with_capacity(members.len()),
            known,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            origins: Vec::new(),
        };
        for member in members {
            if fleet.by_name.contains_key(&member.name) {
                continue;
            }
            let live = match before.and_then(|before| before.same(&member)) {
                Some(live) => {
                    live.learn(Event::Probing(common.probed), now);
                    Arc::clone(live)
                }
                None => Arc::new(Live::new(member.name.clone(), common.probed, now)),
            };
            let new_calls = fleet.endpoint(member.new_calls);
            let callbacks = fleet.endpoint(member.callbacks);
            let owner = Owner {
                region: common.region.clone(),
                instance: member.name,
                incarnation: member.incarnation,
            };
            fleet.by_name.insert(owner.instance.clone(), fleet.instances.len());
            fleet.instances.push(Instance::new(
                owner,
                new_calls,
                callbacks,
                member.apps,
                member.weight,
                Arc::clone(&common.uris),
                live,
            ));
        }
        fleet
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

    pub(crate) fn instances(&self) -> &[Instance] {
        &self.instances
    }

    pub(crate) fn instance(&self, name: &str) -> Option<&Instance> {
        self.by_name.get(name).and_then(|at| self.instances.get(*at))
    }

    /// The instances that may take a new call of `app`, with what is needed to rank them.
    pub(crate) fn candidates(&self, app: Uuid, now: Instant) -> Candidates<'_> {
        let mut candidates = Candidates::default();
        for instance in self.instances.iter().filter(|instance| instance.serves(app)) {
            let group = match instance.live.standing(now) {
                Standing::Candidate => &mut candidates.first,
                Standing::Last => &mut candidates.last,
                Standing::Never => continue,
            };
            group.instances.push(instance);
            group.ranked.push(instance.candidate(instance.live.load()));
        }
        candidates
    }

    /// The instance that `key` ranks first among all that serve `app`, whatever their health and load: the same one
    /// for as long as the fleet is the same, at every gateway.
    pub(crate) fn first(&self, key: AffinityKey, app: Uuid) -> Option<&Instance> {
        let mut group = Group::default();
        for instance in self.instances.iter().filter(|instance| instance.serves(app)) {
            group.instances.push(instance);
            group.ranked.push(instance.candidate(None));
        }
        group.in_order(key).next()
    }

    fn same(&self, member: &Member) -> Option<&Arc<Live>> {
        let instance = self.instance(member.name.as_str())?;
        (instance.owner.incarnation == member.incarnation
            && instance.new_calls.target == member.new_calls
            && instance.callbacks.target == member.callbacks)
            .then_some(&instance.live)
    }

    fn endpoint(&mut self, target: Target) -> Endpoint {
        let origin = target.origin();
        let host = HeaderValue::from_str(&origin.authority()).expect("a parsed host is printable ASCII");
        let slot = match self.origins.iter().position(|known| known == origin) {
            Some(slot) => slot,
            None => {
                self.origins.push(origin.clone());
                self.origins.len().saturating_sub(1)
            }
        };
        Endpoint { target, slot, host }
    }
}

/// The instances that may take a new call.
#[derive(Debug, Default)]
pub(crate) struct Candidates<'a> {
    first: Group<'a>,
    /// Those that failed a moment ago.
    last: Group<'a>,
}

impl<'a> Candidates<'a> {
    pub(crate) fn len(&self) -> usize {
        self.first.instances.len().saturating_add(self.last.instances.len())
    }

    /// Best first.
    pub(crate) fn in_order(&self, key: AffinityKey) -> impl Iterator<Item = &'a Instance> {
        self.first.in_order(key).chain(self.last.in_order(key))
    }
}

#[derive(Debug, Default)]
struct Group<'a> {
    instances: Vec<&'a Instance>,
    ranked: Vec<Candidate>,
}

impl<'a> Group<'a> {
    fn in_order(&self, key: AffinityKey) -> impl Iterator<Item = &'a Instance> {
        rank(key, &self.ranked).filter_map(|at| self.instances.get(at).copied())
    }
}

/// Numbers the snapshots. Only their order matters.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

#[cfg(test)]
mod tests;
