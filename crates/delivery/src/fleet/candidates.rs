//! The instances that may take a new call, in the order of their rank.

use switchboard_routing::{AffinityKey, Candidate, Choice, choose, rank};
use tokio::time::Instant;
use uuid::Uuid;

use super::Fleet;
use crate::instance::{Clock, Eligibility, Instance};

impl Fleet {
    /// The instances that may take a new call of `app`, in the order in which `key` ranks them.
    pub(crate) fn candidates(&self, app: Uuid, key: AffinityKey) -> Candidates<'_> {
        Candidates { fleet: self, app, key, progress: Progress::Start }
    }

    /// The instance that `key` ranks first among all that serve `app`, whatever their health and load. It is
    /// the same one at every gateway for as long as the fleet is the same. An unlisted instance is never
    /// ranked.
    pub(crate) fn first_ranked(&self, key: AffinityKey, app: Uuid) -> Option<&Instance> {
        let ranked = self.rankable(app).map(|one| (one.at, one.unloaded()));
        choose(key, ranked).and_then(|choice| self.at(choice.first))
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
}

#[derive(Debug)]
enum Progress {
    Start,
    First(usize),
    Others(std::vec::IntoIter<usize>),
}

impl<'a> Candidates<'a> {
    /// The next candidate, and the number of candidates after it. With few eligible ones, those of last
    /// resort count, too.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(&'a Instance, usize)> {
        let clock = Clock::new(now, self.fleet.epoch, self.fleet.slow_start);
        let (at, left) = match &mut self.progress {
            Progress::Start => {
                let Choice { first, mut candidates } =
                    match choose(self.key, self.with(Eligibility::Eligible, clock)) {
                        Some(choice) => choice,
                        None => choose(self.key, self.with(Eligibility::LastResort, clock))?,
                    };
                // With many candidates nothing depends on the exact count, and counting is one more pass.
                if candidates < COUNTED_MIN {
                    let eligible = self.with(Eligibility::Eligible, clock);
                    candidates = eligible.chain(self.with(Eligibility::LastResort, clock)).count();
                }
                self.progress = Progress::First(first);
                (first, candidates.saturating_sub(1))
            }
            Progress::First(first) => {
                let first = *first;
                let mut others = self.others(first, clock).into_iter();
                let second = others.next()?;
                let left = others.len();
                self.progress = Progress::Others(others);
                (second, left)
            }
            Progress::Others(others) => (others.next()?, others.len()),
        };
        self.fleet.at(at).map(|instance| (instance, left))
    }

    /// The instances with this eligibility, as candidates for the ranking.
    fn with(
        &self,
        eligibility: Eligibility,
        clock: Clock,
    ) -> impl Iterator<Item = (usize, Candidate)> + Clone + use<'a> {
        self.fleet
            .rankable(self.app)
            .filter(move |one| one.eligibility(clock) == eligibility)
            .map(move |one| (one.at, one.candidate(clock)))
    }

    /// All but the first, in the order of their rank, whatever their load.
    fn others(&self, first: usize, clock: Clock) -> Vec<usize> {
        let in_order = |eligibility| {
            let others = self.with(eligibility, clock).filter(|(at, _)| *at != first);
            let (indices, candidates): (Vec<_>, Vec<_>) =
                others.map(|(at, candidate)| (at, Candidate { load: None, ..candidate })).unzip();
            rank(self.key, &candidates).filter_map(move |index| indices.get(index).copied())
        };
        in_order(Eligibility::Eligible).chain(in_order(Eligibility::LastResort)).collect()
    }
}

/// More candidates than the time share of an attempt depends on.
const COUNTED_MIN: usize = 4;
