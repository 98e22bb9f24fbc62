//! `rank`: the order in which instances are asked to take a call.
//!
//! Weighted rendezvous hashing (Thaler, Ravishankar: "Using Name-Based Mappings to Increase Hit Rates", 1998): key and
//! instance give a score, and the highest is asked first. Nothing is stored and nobody is told, yet all gateways with
//! the same view rank alike; an instance that comes takes calls from all the others, and no other call moves.
//! A ring of virtual nodes was refused: it needs a table for each fleet and shares calls out less evenly.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{hash, name::Name};

/// The hash of an affinity key (call id, chain, thread, tenant; ASCII case folded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AffinityKey(u64);

impl AffinityKey {
    /// Of a text. The hash is the same in every process and version.
    pub fn of(text: &str) -> Self {
        Self(hash::folded(text, KEY_SEED))
    }
}

/// One candidate: what the ranking needs to know of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The hash of the instance's name, made once with `hash_name`.
    pub name_hash: u64,
    /// Its part of the calls relative to the others'. At least 1; 0 counts as 1.
    pub weight: u32,
    /// Calls and capacity, if both are reported.
    pub load: Option<Load>,
}

/// The reported load of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Calls.
    pub calls: u32,
    /// Capacity, more than 0; 0 counts as not reported.
    pub capacity: u32,
}

/// The stable hash of an instance's name.
pub fn hash_name(name: &Name) -> u64 {
    hash::exact(name.as_str(), NAME_SEED)
}

/// The order in which candidates are asked: their indices, best first, each once, found as they are asked for.
///
/// The first is the one that the key ranks highest, unless it is more than half full and its utilisation is more than
/// 25 % above the mean: then the highest of those that are not (bounded loads; Mirrokni, Thorup, Zadimoghaddam:
/// "Consistent Hashing with Bounded Loads", 2016). The mean is the calls of all candidates that report over the
/// capacity of all that report. All others follow in the order of their rank, the passed-over ones among them.
///
/// Finding the first takes time in proportion to the number of candidates, and no memory. The others are put into a
/// heap when the second is asked for, which happens only when an instance has failed.
pub fn rank(key: AffinityKey, candidates: &[Candidate]) -> impl Iterator<Item = usize> + use<'_> {
    Ranking { scores: Scores::new(key, candidates), candidates, progress: Progress::Start }
}

struct Ranking<'a> {
    candidates: &'a [Candidate],
    scores: Scores,
    progress: Progress,
}

enum Progress {
    Start,
    First(usize),
    Rest(BinaryHeap<Place>),
}

impl Iterator for Ranking<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match &mut self.progress {
            Progress::Start => {
                let first = self.first()?;
                self.progress = Progress::First(first);
                Some(first)
            }
            Progress::First(first) => {
                let first = *first;
                let others = self.candidates.iter().enumerate().filter(|(index, _)| *index != first);
                let mut heap: BinaryHeap<Place> =
                    others.map(|(index, candidate)| self.scores.place(index, candidate)).collect();
                let second = heap.pop();
                self.progress = Progress::Rest(heap);
                second.map(Place::index)
            }
            Progress::Rest(heap) => heap.pop().map(Place::index),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.progress {
            Progress::Start => self.candidates.len(),
            Progress::First(_) => self.candidates.len().saturating_sub(1),
            Progress::Rest(heap) => heap.len(),
        };
        (left, Some(left))
    }
}

impl Ranking<'_> {
    fn first(&self) -> Option<usize> {
        let best = self.scores.best(self.candidates, |_| true)?;
        let load = self.candidates.get(best).and_then(|candidate| candidate.load);
        // Most calls end here: the fleet's load is summed only for an instance that is half full.
        if !load.is_some_and(Load::is_over_half) {
            return Some(best);
        }
        let fleet = FleetLoad::of(self.candidates);
        if !fleet.is_exceeded_by(load) {
            return Some(best);
        }
        self.scores.best(self.candidates, |candidate| !fleet.is_exceeded_by(candidate.load)).or(Some(best))
    }
}

/// How candidates are scored for one key.
struct Scores {
    key: AffinityKey,
    /// Where all weights are equal, the hash alone gives the order of the weighted scores, without their logarithms.
    weighted: bool,
}

impl Scores {
    fn new(key: AffinityKey, candidates: &[Candidate]) -> Self {
        let common = candidates.first().map(|candidate| candidate.weight);
        Self { key, weighted: candidates.iter().any(|candidate| Some(candidate.weight) != common) }
    }

    fn best(&self, candidates: &[Candidate], eligible: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let eligible = candidates.iter().enumerate().filter(|(_, candidate)| eligible(candidate));
        if !self.weighted {
            return eligible.map(|(index, candidate)| self.place(index, candidate)).max().map(Place::index);
        }
        let mut best: Option<Place> = None;
        let mut score_min = 0.0;
        for (index, candidate) in eligible {
            // As 1 - u <= -ln(u), a score is at most weight / (1 - u). Few candidates come near the best one, and only
            // those need the logarithm, which is most of the work. The margin is more than all that rounding can do.
            if weight(candidate) * ROUNDING_MARGIN < score_min * (1.0 - hash::unit(self.hash(candidate))) {
                continue;
            }
            let place = self.place(index, candidate);
            if best.as_ref().is_none_or(|best| place > *best) {
                score_min = f64::from_bits(place.score);
                best = Some(place);
            }
        }
        best.map(Place::index)
    }

    fn place(&self, index: usize, candidate: &Candidate) -> Place {
        let hash = self.hash(candidate);
        let score = if self.weighted {
            // The logarithm method (Schindelhauer, Schomaker: "Weighted Distributed Hash Tables", 2005). The score is
            // positive and finite, and the bits of such numbers are in the order of the numbers.
            (-weight(candidate) / hash::unit(hash).ln()).to_bits()
        } else {
            hash
        };
        Place { score, name_hash: candidate.name_hash, index: Reverse(index) }
    }

    fn hash(&self, candidate: &Candidate) -> u64 {
        hash::mix(self.key.0 ^ candidate.name_hash)
    }
}

/// One candidate's place; greater is better. Ties go to the greater name hash, so that the order in the list does not
/// matter, and those of one name to the first in the list.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    score: u64,
    name_hash: u64,
    index: Reverse<usize>,
}

impl Place {
    fn index(self) -> usize {
        self.index.0
    }
}

/// Calls and capacity of all candidates that report both.
struct FleetLoad {
    calls: u64,
    capacity: u64,
}

impl FleetLoad {
    fn of(candidates: &[Candidate]) -> Self {
        let reported =
            candidates.iter().filter_map(|candidate| candidate.load).filter(|load| load.capacity > 0);
        reported.fold(Self { calls: 0, capacity: 0 }, |sum, load| Self {
            calls: sum.calls.saturating_add(load.calls.into()),
            capacity: sum.capacity.saturating_add(load.capacity.into()),
        })
    }

    /// More than half full, and more than 25 % above the mean: `calls / capacity > 5 / 4 × fleet calls / fleet capacity`.
    /// In whole numbers, so that no two gateways round apart.
    fn is_exceeded_by(&self, load: Option<Load>) -> bool {
        load.is_some_and(|load| {
            let own = 4 * u128::from(load.calls) * u128::from(self.capacity);
            let bound = 5 * u128::from(load.capacity) * u128::from(self.calls);
            load.is_over_half() && own > bound
        })
    }
}

impl Load {
    fn is_over_half(self) -> bool {
        self.capacity > 0 && u64::from(self.calls) * 2 > u64::from(self.capacity)
    }
}

fn weight(candidate: &Candidate) -> f64 {
    f64::from(candidate.weight.max(1))
}

/// Some thousand times the error of one rounding.
const ROUNDING_MARGIN: f64 = 1.0 + 1e-12;

/// Keys and names are hashed apart: an instance named like a tenant is not tied to its calls.
const KEY_SEED: u64 = 0;
const NAME_SEED: u64 = 1;

#[cfg(test)]
mod tests;
