//! `rank`: the order of the instances for the attempts of a call.
//!
//! Weighted rendezvous hashing (Thaler, Ravishankar: "Using Name-Based Mappings to Increase Hit Rates",
//! 1998): key and instance give a score, and the first attempt goes to the highest score. Nothing is stored
//! or exchanged, yet all gateways with the same view rank alike. A new instance takes calls from all others,
//! and no other call moves. A ring of virtual nodes was refused: it needs a table per fleet and distributes
//! calls less evenly.

use std::cmp::{Ordering, Reverse};

use crate::{hash, name::Name};

/// The hash of an affinity key (call id, chain, thread, tenant; ASCII case folded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AffinityKey(u64);

impl AffinityKey {
    /// The key of [`fill_order`]: a constant, so that the order is the same for all calls. It is the fraction
    /// of the square root of 2.
    const FILL: Self = Self(0x6a09_e667_f3bc_c908);

    /// Returns the key of a text. The hash is the same in every process and version.
    pub fn of(text: &str) -> Self {
        Self(hash::folded(text, KEY_SEED))
    }
}

/// The facts about one instance that the ranking needs.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The hash of the instance's name. Compute it once, with `hash_name`.
    pub name_hash: u64,
    /// Its share of the calls, relative to the other instances. At least 1; 0 counts as 1.
    pub weight: u32,
    /// Its calls and its capacity, if it reports both.
    pub load: Option<Load>,
}

/// The reported load of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The number of calls.
    pub calls: u32,
    /// The capacity. 0 counts as not reported.
    pub capacity: u32,
}

/// Returns the stable hash of an instance's name.
pub fn hash_name(name: &Name) -> u64 {
    hash::exact(name.as_str(), NAME_SEED)
}

/// Returns the candidate for the first attempt of a call. `T` names a candidate.
///
/// It is the candidate that the key ranks highest, unless it is more than half full and its utilisation is
/// more than 25 % above the mean. Then it is the highest of the candidates without such a load (bounded
/// loads; Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded Loads", 2016). The mean is the
/// calls of all candidates that report, divided by their capacity.
///
/// `lists` has each candidate once, with no load and the greatest weight that it may have. `now` returns a
/// candidate with its load and weight of this moment, or `None` if it takes no call.
///
/// Each new call of a fleet of thousands costs this. So it makes one pass without allocation, and asks `now`
/// only for the candidates that may be better than the best one so far: some ten of ten thousand. It asks for
/// all of them only if the best one is more than half full.
///
/// ```
/// use switchboard_routing::{AffinityKey, Candidate, Name, choose, hash_name};
///
/// let names = [Name::parse("bot-0")?, Name::parse("bot-1")?];
/// let candidate = |name| Candidate { name_hash: hash_name(name), weight: 1, load: None };
/// let lists = [names.iter().map(|name| (name, candidate(name)))];
/// let key = AffinityKey::of("491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7");
/// let first = choose(key, lists, |name| Some(candidate(name))).unwrap();
/// assert_eq!(first.as_str(), "bot-0");
/// # Ok::<(), switchboard_routing::InvalidName>(())
/// ```
pub fn choose<T: Copy, L: Iterator<Item = (T, Candidate)>>(
    key: AffinityKey,
    lists: impl IntoIterator<Item = L> + Clone,
    now: impl Fn(T) -> Option<Candidate>,
) -> Option<T> {
    let (first, load) = best(key, lists.clone(), &now)?;
    if !load.is_some_and(Load::is_over_half) {
        return Some(first);
    }
    let mut fleet = FleetLoad::default();
    for list in lists.clone() {
        list.filter_map(|(name, _)| now(name)).for_each(|candidate| fleet.add(candidate.load));
    }
    if !fleet.is_exceeded_by(load) {
        return Some(first);
    }
    let other = best(key, lists, |name| now(name).filter(|one| !fleet.is_exceeded_by(one.load)));
    Some(other.map_or(first, |(other, _)| other))
}

/// The candidate with the highest score, and its load.
fn best<T: Copy, L: Iterator<Item = (T, Candidate)>>(
    key: AffinityKey,
    lists: impl IntoIterator<Item = L>,
    now: impl Fn(T) -> Option<Candidate>,
) -> Option<(T, Option<Load>)> {
    let mut best = Best::new(key);
    // One loop in another, each simple, takes half the time of a loop over a chain.
    for list in lists {
        for (name, at_most) in list {
            if !best.outranks(&at_most)
                && let Some(candidate) = now(name)
            {
                best.see(name, &candidate);
            }
        }
    }
    best.found
}

/// Returns the candidates in the order of the attempts: their indices, best first, each once.
///
/// The first is that of [`choose`]. All others follow in the order of their rank, including the ones that
/// were passed over.
pub fn rank(key: AffinityKey, candidates: &[Candidate]) -> impl Iterator<Item = usize> + use<> {
    let lists = [candidates.iter().copied().enumerate()];
    let first = choose(key, lists, |index| candidates.get(index).copied());
    let others = candidates.iter().enumerate().filter(|(index, _)| Some(*index) != first);
    let mut others: Vec<_> =
        others.map(|(index, candidate)| Reverse((Place::of(key, candidate), Reverse(index)))).collect();
    others.sort_unstable();
    first.into_iter().chain(others.into_iter().map(|Reverse((_, Reverse(index)))| index))
}

/// Returns the order in which new calls fill the candidates: their indices, each once.
///
/// It is the rank for a constant key, whatever the loads: all calls and all gateways have the same order, and
/// a new candidate changes no place but its own.
///
/// ```
/// use switchboard_routing::{Candidate, Load, Name, fill_order, hash_name};
///
/// let names = [Name::parse("bot-0")?, Name::parse("bot-1")?, Name::parse("bot-2")?];
/// let fleet =
///     names.each_ref().map(|name| Candidate { name_hash: hash_name(name), weight: 1, load: None });
/// let calls = [8, 3, 0];
/// let next = fill_order(&fleet).find(|at| Load { calls: calls[*at], capacity: 10 }.is_below(0.8));
/// assert_eq!(next, Some(2));
/// # Ok::<(), switchboard_routing::InvalidName>(())
/// ```
pub fn fill_order(candidates: &[Candidate]) -> impl Iterator<Item = usize> + use<> {
    let unloaded: Vec<_> = candidates.iter().map(|one| Candidate { load: None, ..*one }).collect();
    rank(AffinityKey::FILL, &unloaded)
}

/// The best of the candidates seen so far. Of two with one name, the first.
struct Best<T> {
    key: AffinityKey,
    found: Option<(T, Option<Load>)>,
    /// The place of the candidate found.
    place: Place,
}

impl<T> Best<T> {
    fn new(key: AffinityKey) -> Self {
        Self { key, found: None, place: Place::LAST }
    }

    /// Returns true if this candidate, or the same with a smaller weight, is surely not better than the best
    /// one.
    ///
    /// As 1 - u <= -ln(u), a score is at most weight / (1 - u). Few candidates come near the best one, and
    /// only they need the logarithm, which is most of the work. The margin exceeds all rounding errors.
    fn outranks(&self, candidate: &Candidate) -> bool {
        let hash = hash_of(self.key, candidate);
        if candidate.weight == self.place.weight {
            hash < self.place.hash
        } else {
            let weight = candidate.weight.max(1);
            f64::from(weight) * ROUNDING_MARGIN < self.place.score * (1.0 - hash::unit(hash))
        }
    }

    fn see(&mut self, name: T, candidate: &Candidate) {
        if self.outranks(candidate) {
            return;
        }
        let place = Place::of(self.key, candidate);
        if place > self.place {
            self.place = place;
            self.found = Some((name, candidate.load));
        }
    }
}

/// The place of one candidate in the ranking. Greater is better.
#[derive(Clone, Copy)]
struct Place {
    weight: u32,
    hash: u64,
    score: f64,
    name_hash: u64,
}

impl Place {
    /// A place after all others: weights are 1 or more, and scores are positive.
    const LAST: Self = Self { weight: 0, hash: 0, score: 0.0, name_hash: 0 };

    fn of(key: AffinityKey, candidate: &Candidate) -> Self {
        let (weight, hash) = (candidate.weight.max(1), hash_of(key, candidate));
        // The logarithm method (Schindelhauer, Schomaker: "Weighted Distributed Hash Tables", 2005). The
        // score is positive and finite.
        let score = -f64::from(weight) / hash::unit(hash).ln();
        Self { weight, hash, score, name_hash: candidate.name_hash }
    }
}

impl Ord for Place {
    /// If the weights are equal, the hashes have the same order as the scores, without rounding. Ties go to
    /// the greater name hash, so that the order in the list does not matter.
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

/// The calls and the capacity of all candidates that report both.
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

    /// Returns true if `load` is more than half full and more than 25 % above the mean: `calls / capacity > 5
    /// / 4 × fleet calls / fleet capacity`. It uses whole numbers, so that all gateways get the same result.
    fn is_exceeded_by(&self, load: Option<Load>) -> bool {
        load.is_some_and(|load| {
            let own = 4 * u128::from(load.calls) * u128::from(self.capacity);
            let bound = 5 * u128::from(load.capacity) * u128::from(self.calls);
            load.is_over_half() && own > bound
        })
    }
}

impl Load {
    /// Returns true if the calls are fewer than `share` of the capacity. Example: 7 of 10 are below 0.8, and
    /// 8 are not.
    pub fn is_below(self, share: f64) -> bool {
        // The margin exceeds the rounding error of a product such as 0.55 × 100.
        f64::from(self.calls) * ROUNDING_MARGIN < share * f64::from(self.capacity)
    }

    fn is_over_half(self) -> bool {
        self.capacity > 0 && u64::from(self.calls) * 2 > u64::from(self.capacity)
    }
}

/// Some thousand times the rounding error.
const ROUNDING_MARGIN: f64 = 1.0 + 1e-12;

/// Keys and names have different seeds: an instance with the name of a tenant does not attract its calls.
const KEY_SEED: u64 = 0;
const NAME_SEED: u64 = 1;

#[cfg(test)]
mod tests;
