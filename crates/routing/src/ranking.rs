//! `rank`: the order in which instances are asked to take a call.
//!
//! Weighted rendezvous hashing (Thaler, Ravishankar: "Using Name-Based Mappings to Increase Hit Rates", 1998): key and
//! instance give a score, and the highest is asked first. Nothing is stored and nobody is told, yet all gateways with
//! the same view rank alike; an instance that comes takes calls from all the others, and no other call moves.
//! A ring of virtual nodes was refused: it needs a table for each fleet and shares calls out less evenly.

use std::cmp::{Ordering, Reverse};

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

/// The first choice among the candidates of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<T> {
    /// Who is asked first.
    pub first: T,
    /// How many candidates there are, the first among them.
    pub candidates: usize,
}

/// Which candidate is asked first, each of them named by whatever the caller likes.
///
/// It is the one that the key ranks highest, unless it is more than half full and its utilisation is more than 25 % above
/// the mean: then the highest of those that are not (bounded loads; Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing
/// with Bounded Loads", 2016). The mean is the calls of all candidates that report over the capacity of all that report.
///
/// One pass over the candidates and no memory, since each new call of a fleet of thousands pays for it; a second pass
/// where the highest is passed over.
pub fn choose<T>(
    key: AffinityKey,
    candidates: impl Iterator<Item = (T, Candidate)> + Clone,
) -> Option<Choice<T>> {
    let mut fleet = FleetLoad::default();
    let mut count = 0_usize;
    let mut best = Best::new(key);
    // `for_each`, which costs half of what a loop does where the iterator is a chain.
    candidates.clone().for_each(|(name, candidate)| {
        count = count.saturating_add(1);
        fleet.add(candidate.load);
        best.see(name, &candidate);
    });
    let (mut first, load) = best.found?;
    if fleet.is_exceeded_by(load) {
        let mut best = Best::new(key);
        candidates
            .filter(|(_, candidate)| !fleet.is_exceeded_by(candidate.load))
            .for_each(|(name, candidate)| best.see(name, &candidate));
        if let Some((other, _)) = best.found {
            first = other;
        }
    }
    Some(Choice { first, candidates: count })
}

/// The order in which candidates are asked: their indices, best first, each once.
///
/// The first is that of [`choose`]. All others follow in the order of their rank, those that were passed over among them.
pub fn rank(key: AffinityKey, candidates: &[Candidate]) -> impl Iterator<Item = usize> + use<> {
    let first = choose(key, candidates.iter().copied().enumerate()).map(|choice| choice.first);
    let others = candidates.iter().enumerate().filter(|(index, _)| Some(*index) != first);
    let mut others: Vec<_> =
        others.map(|(index, candidate)| Reverse((Place::of(key, candidate), Reverse(index)))).collect();
    others.sort_unstable();
    first.into_iter().chain(others.into_iter().map(|Reverse((_, Reverse(index)))| index))
}

/// The best of the candidates seen so far; of two of one name the first.
struct Best<T> {
    key: AffinityKey,
    found: Option<(T, Option<Load>)>,
    /// That of the one found.
    place: Place,
}

impl<T> Best<T> {
    fn new(key: AffinityKey) -> Self {
        Self { key, found: None, place: Place::LAST }
    }

    fn see(&mut self, name: T, candidate: &Candidate) {
        let hash = hash_of(self.key, candidate);
        let weight = candidate.weight.max(1);
        let falls_behind = if weight == self.place.weight {
            hash <= self.place.hash
        } else {
            // As 1 - u <= -ln(u), a score is at most weight / (1 - u). Few candidates come near the best one, and only
            // those need the logarithm, which is most of the work. The margin is more than all that rounding can do.
            f64::from(weight) * ROUNDING_MARGIN < self.place.score * (1.0 - hash::unit(hash))
        };
        if falls_behind {
            return;
        }
        let place = Place::of(self.key, candidate);
        if place > self.place {
            self.place = place;
            self.found = Some((name, candidate.load));
        }
    }
}

/// One candidate's place; greater is better.
#[derive(Clone, Copy)]
struct Place {
    weight: u32,
    hash: u64,
    score: f64,
    name_hash: u64,
}

impl Place {
    /// Behind all others: weights are 1 or more, and scores positive.
    const LAST: Self = Self { weight: 0, hash: 0, score: 0.0, name_hash: 0 };

    fn of(key: AffinityKey, candidate: &Candidate) -> Self {
        let (weight, hash) = (candidate.weight.max(1), hash_of(key, candidate));
        // The logarithm method (Schindelhauer, Schomaker: "Weighted Distributed Hash Tables", 2005). The score is
        // positive and finite.
        let score = -f64::from(weight) / hash::unit(hash).ln();
        Self { weight, hash, score, name_hash: candidate.name_hash }
    }
}

impl Ord for Place {
    /// Of equal weights the hash alone gives the order of the scores, without their rounding. Ties go to the greater name
    /// hash, so that the order in the list does not matter.
    fn cmp(&self, other: &Self) -> Ordering {
        if self.weight == other.weight {
            self.hash.cmp(&other.hash)
        } else {
            self.score.total_cmp(&other.score).then(self.name_hash.cmp(&other.name_hash))
        }
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

fn hash_of(key: AffinityKey, candidate: &Candidate) -> u64 {
    hash::mix(key.0 ^ candidate.name_hash)
}

/// Calls and capacity of all candidates that report both.
#[derive(Default)]
struct FleetLoad {
    calls: u64,
    capacity: u64,
}

impl FleetLoad {
    fn add(&mut self, load: Option<Load>) {
        if let Some(load) = load.filter(|load| load.capacity > 0) {
            self.calls = self.calls.saturating_add(load.calls.into());
            self.capacity = self.capacity.saturating_add(load.capacity.into());
        }
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

/// Some thousand times the error of one rounding.
const ROUNDING_MARGIN: f64 = 1.0 + 1e-12;

/// Keys and names are hashed apart: an instance named like a tenant is not tied to its calls.
const KEY_SEED: u64 = 0;
const NAME_SEED: u64 = 1;

#[cfg(test)]
mod tests;
