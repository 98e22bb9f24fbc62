//! The instances that may take a new call, in the order of their rank.

use std::{collections::HashSet, ptr};

use switchboard_routing::{AffinityKey, Candidate, choose, rank};
use tokio::time::Instant;
use uuid::Uuid;

use super::Fleet;
use crate::instance::{Clock, Eligibility, Instance, Rankable, Tracker};

impl Fleet {
    /// The instances that may take a new call of `app`, in the order in which `key` ranks them.
    pub(crate) fn candidates(&self, app: Uuid, key: AffinityKey) -> Candidates<'_> {
        Candidates { fleet: self, app, key, progress: Progress::Start, deferred: Vec::new(), put_back: None }
    }

    /// The eligible instances without those in `asked`: for a call whose candidates were all asked.
    pub(crate) fn new_candidates(
        &self,
        app: Uuid,
        key: AffinityKey,
        asked: &[&Tracker],
        now: Instant,
    ) -> Candidates<'_> {
        let mut candidates = self.candidates(app, key);
        let mut others = candidates.in_order(Eligibility::Eligible, self.clock(now));
        let was_asked = |tracker: &Tracker| asked.iter().any(|asked| ptr::eq(*asked, tracker));
        others.retain(|one| self.at(one.at).is_some_and(|instance| !was_asked(&instance.tracker)));
        candidates.progress = Progress::Others(others.into_iter());
        candidates
    }

    /// The instance that `key` ranks first among all that serve `app`, whatever their health and load. It is
    /// the same one at every gateway for as long as the fleet is the same. An unlisted instance is never
    /// ranked.
    pub(crate) fn first_ranked(&self, key: AffinityKey, app: Uuid) -> Option<&Instance> {
        let ranked = self.rankable(app).map(|list| list.map(|one| (one, one.unloaded())));
        choose(key, ranked, |one| Some(one.unloaded())).and_then(|first| self.at(first.at))
    }

    /// The instance that the next new call of `app` fills. `None` if there is none, or if calls are spread.
    fn first_to_fill(&self, app: Uuid, clock: Clock) -> Option<usize> {
        self.pack.as_ref().and_then(|pack| pack.to_fill(self.rankable(app), clock).next())
    }

    /// Moves the instances that are to be filled to the front of a list, in their order.
    fn fill_first(&self, list: &mut Vec<usize>, app: Uuid, clock: Clock) {
        let Some(pack) = &self.pack else { return };
        let mut front: Vec<_> = pack.to_fill(self.rankable(app), clock).collect();
        let moved: HashSet<_> = front.iter().copied().collect();
        front.extend(list.iter().filter(|at| !moved.contains(*at)));
        *list = front;
    }
}

/// The instances that may take a new call, best first, computed on demand. Instances of last resort come
/// after all others.
///
/// The first costs one pass over the fleet and no memory. The others are ranked when the second is asked for,
/// which happens only when an instance has failed.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    fleet: &'a Fleet,
    app: Uuid,
    key: AffinityKey,
    progress: Progress,
    /// Candidates that are asked again after all others, as a last resort.
    deferred: Vec<RankedIndex>,
    /// A candidate that was taken and put back.
    put_back: Option<RankedCandidate<'a>>,
}

/// A candidate in the order of the ranking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RankedCandidate<'a> {
    pub(crate) instance: &'a Instance,
    /// The eligibility with which it is asked.
    pub(crate) eligibility: Eligibility,
    /// The number of candidates after it, those of last resort included. After the first one, no more than
    /// [`LEFT_COUNTED`] are counted.
    pub(crate) left: usize,
    /// Its index in the fleet.
    at: usize,
}

#[derive(Clone, Copy, Debug)]
struct RankedIndex {
    at: usize,
    eligibility: Eligibility,
}

#[derive(Debug)]
enum Progress {
    Start,
    First(usize),
    Others(std::vec::IntoIter<RankedIndex>),
}

impl<'a> Candidates<'a> {
    /// The next candidate.
    pub(crate) fn next(&mut self, now: Instant) -> Option<RankedCandidate<'a>> {
        if let Some(candidate) = self.put_back.take() {
            return Some(candidate);
        }
        let clock = self.fleet.clock(now);
        let (RankedIndex { at, eligibility }, left) = match &mut self.progress {
            Progress::Start => {
                let choose = |eligibility| self.first(eligibility, clock).map(|first| (first, eligibility));
                let filled = self.fleet.first_to_fill(self.app, clock);
                let (at, eligibility) = filled
                    .map(|at| (at, Eligibility::Eligible))
                    .or_else(|| choose(Eligibility::Eligible))
                    .or_else(|| choose(Eligibility::LastResort))?;
                let eligible = self.with(Eligibility::Eligible, clock);
                let all = eligible.chain(self.with(Eligibility::LastResort, clock));
                let left = all.filter(|one| one.at != at).take(LEFT_COUNTED).count();
                self.progress = Progress::First(at);
                (RankedIndex { at, eligibility }, left)
            }
            Progress::First(first) => {
                let first = *first;
                let mut others = self.in_order(Eligibility::Eligible, clock);
                others.extend(self.in_order(Eligibility::LastResort, clock));
                others.retain(|one| one.at != first);
                self.progress = Progress::Others(others.into_iter());
                return self.next(now);
            }
            Progress::Others(others) => match others.next() {
                Some(other) => (other, others.len().saturating_add(self.deferred.len())),
                None => (self.deferred.pop()?, self.deferred.len()),
            },
        };
        self.fleet.at(at).map(|instance| RankedCandidate { instance, eligibility, left, at })
    }

    /// Makes a candidate the next one again.
    pub(crate) fn put_back(&mut self, candidate: RankedCandidate<'a>) {
        self.put_back = Some(candidate);
    }

    /// Asks a candidate that could not be reserved as eligible after all others, as a last resort: it may
    /// have failed an attempt since it was ranked.
    pub(crate) fn defer(&mut self, candidate: RankedCandidate<'a>) {
        if candidate.eligibility == Eligibility::Eligible {
            self.deferred.push(RankedIndex { at: candidate.at, eligibility: Eligibility::LastResort });
        }
    }

    /// The first instance with this eligibility.
    fn first(&self, eligibility: Eligibility, clock: Clock) -> Option<usize> {
        let all = self.fleet.rankable(self.app).map(|list| list.map(|one| (one, one.at_most())));
        let has_it = |one: &Rankable| one.eligibility(clock) == eligibility;
        choose(self.key, all, |one| has_it(one).then(|| one.candidate(clock))).map(|first| first.at)
    }

    /// The instances with this eligibility.
    fn with(&self, eligibility: Eligibility, clock: Clock) -> impl Iterator<Item = &'a Rankable> + use<'a> {
        self.fleet
            .rankable(self.app)
            .into_iter()
            .flatten()
            .filter(move |one| one.eligibility(clock) == eligibility)
    }

    /// The instances with this eligibility: first each that is to be filled, then the others in the order of
    /// their rank, whatever their load.
    fn in_order(&self, eligibility: Eligibility, clock: Clock) -> Vec<RankedIndex> {
        let (indices, candidates): (Vec<_>, Vec<_>) = self
            .with(eligibility, clock)
            .map(|one| (one.at, Candidate { load: None, ..one.candidate(clock) }))
            .unzip();
        let mut in_order: Vec<_> =
            rank(self.key, &candidates).filter_map(|index| indices.get(index).copied()).collect();
        if eligibility == Eligibility::Eligible {
            self.fleet.fill_first(&mut in_order, self.app, clock);
        }
        in_order.into_iter().map(|at| RankedIndex { at, eligibility }).collect()
    }
}

/// More candidates than the time share of an attempt depends on.
const LEFT_COUNTED: usize = 3;
