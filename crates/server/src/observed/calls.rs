//! `CallMemory`: the calls, as far as this gateway saw them, for operators.
//!
//! Each request with a call id ends with one look-up here, so a known call costs no allocation and one short
//! lock. Calls of other gateways of the region are not in it, nor calls before the start of the process.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Serialize, Serializer};
use switchboard_notification::Call;
use switchboard_routing::Name;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::prehashed::Prehashed;

/// The calls that this gateway saw last.
///
/// Bounded: a call id that is too long is not remembered, and a shard that is full forgets the call that it
/// has not seen for the longest time.
#[derive(Debug)]
pub(crate) struct CallMemory {
    shards: Box<[Mutex<Shard>]>,
    /// Differs between processes: a participant of calls may know ids, and must not choose their hashes.
    seed: u64,
    /// The number of the current frame of the live view. Each sighting notes it.
    frame: AtomicU64,
}

/// A request about a call, at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallSighting<'a> {
    pub(crate) call_id: &'a str,
    pub(crate) chain_id: Option<&'a str>,
    pub(crate) message_id: Option<&'a str>,
    pub(crate) instance: &'a Name,
    /// The state of the call in Graph's words, if the request has one.
    pub(crate) state: Option<&'static str>,
    /// The kind of the call, if the request announced it as new and an instance of this gateway took it.
    pub(crate) placed: Option<CallKind>,
}

/// A call, as `/calls` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RememberedCall {
    id: Box<str>,
    chain: Option<Box<str>>,
    message: Option<String>,
    kind: Option<CallKind>,
    #[serde(serialize_with = "name")]
    instance: Name,
    state: Option<&'static str>,
    placed_here: bool,
    first_seen: u64,
    last_seen: u64,
    #[serde(skip)]
    frame: u64,
}

/// The kind of a call, as far as its first notification tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallKind {
    /// A recording policy applies.
    Recording,
    /// A meeting.
    Meeting,
    /// A call with a chat of several people that is not a meeting.
    Group,
    /// Any other call.
    OneToOne,
}

impl CallKind {
    /// The kind of a new call.
    pub(crate) fn of(call: &Call<'_>) -> Self {
        // Microsoft Teams: the threads of meetings begin so, those of other chats do not.
        let is_meeting_thread = |thread: &str| thread.starts_with("19:meeting_");
        if call.policy_recording {
            Self::Recording
        } else if call.organizer.is_some()
            || call.organizer_tenant.is_some()
            || call.thread_id.as_deref().is_some_and(is_meeting_thread)
        {
            Self::Meeting
        } else if call.thread_id.is_some() {
            Self::Group
        } else {
            Self::OneToOne
        }
    }
}

/// Some calls, and the numbers of the memory.
#[derive(Debug)]
pub(crate) struct FoundCalls {
    /// The newest first.
    pub(crate) calls: Vec<RememberedCall>,
    /// The calls that match, of which the oldest may be left out.
    pub(crate) matched: usize,
    /// All calls in the memory.
    pub(crate) remembered: usize,
}

impl CallMemory {
    /// Remembers a request about a call.
    pub(crate) fn note(&self, seen: &CallSighting<'_>, now_ms: u64) {
        let Some((hash, shard)) = self.shard_of(seen.call_id) else { return };
        let mut shard = lock(shard);
        // Under the lock: a frame that collects this shard afterwards has a higher number, or finds the call.
        let frame = self.frame.load(Relaxed);
        match shard.calls.get_mut(&hash) {
            Some(call) if call.has_id(seen.call_id) => call.update(seen, now_ms, frame),
            // Another call with this hash makes room: best effort.
            Some(_) | None => {
                shard.make_room(now_ms);
                shard.calls.insert(hash, RememberedCall::new(seen, now_ms, frame));
            }
        }
    }

    /// Returns the call with this id.
    pub(crate) fn find(&self, call_id: &str, now_ms: u64) -> Option<RememberedCall> {
        let (hash, shard) = self.shard_of(call_id)?;
        let shard = lock(shard);
        shard.calls.get(&hash).filter(|call| call.has_id(call_id) && !call.is_over(now_ms)).cloned()
    }

    /// Returns the newest calls, at most `limit`, whose call id, chain id or message id begins with `text`.
    /// The case of letters is ignored.
    pub(crate) fn search(&self, text: &str, limit: usize, now_ms: u64) -> FoundCalls {
        self.select(limit, now_ms, |call| call.begins_with(text))
    }

    /// Starts the next frame. Returns the newest calls, at most `limit`, that were seen since the last one;
    /// a call that is seen at the same time may be in both.
    pub(crate) fn changes(&self, limit: usize, now_ms: u64) -> FoundCalls {
        let frame = self.frame.fetch_add(1, Relaxed);
        self.select(limit, now_ms, |call| call.frame >= frame)
    }

    /// The number of calls.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).calls.len()).sum()
    }

    fn select(&self, limit: usize, now_ms: u64, matches: impl Fn(&RememberedCall) -> bool) -> FoundCalls {
        // First the order, without a copy: a request waits for the lock of its shard.
        let mut remembered = 0;
        let mut found: Vec<(u64, u64)> = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.forget_ended(now_ms);
            remembered += shard.calls.len();
            let of_shard = shard.calls.iter().filter(|(_, call)| matches(call));
            found.extend(of_shard.map(|(hash, call)| (call.last_seen, *hash)));
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        let matched = found.len();
        let calls = found.into_iter().take(limit).filter_map(|(_, hash)| {
            let shard = lock(self.shard(hash)?);
            shard.calls.get(&hash).filter(|call| matches(call)).cloned()
        });
        FoundCalls { calls: calls.collect(), matched, remembered }
    }

    /// The hash of an id without regard to case, and its shard. `None` for an id that is too long.
    fn shard_of(&self, call_id: &str) -> Option<(u64, &Mutex<Shard>)> {
        let mut lower = [0; ID_BYTES_MAX];
        let lower = lower.get_mut(..call_id.len())?;
        lower.copy_from_slice(call_id.as_bytes());
        lower.make_ascii_lowercase();
        let hash = xxh3_64_with_seed(lower, self.seed);
        Some((hash, self.shard(hash)?))
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        // A map finds its calls by the lowest and the highest bits.
        self.shards.get(usize::try_from((hash >> 32) % SHARDS).ok()?)
    }
}

impl Default for CallMemory {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, seed: RandomState::new().hash_one(0), frame: AtomicU64::new(1) }
    }
}

/// A part of the memory, with a lock of its own.
#[derive(Debug, Default)]
struct Shard {
    /// By the hash of their ids.
    calls: HashMap<u64, RememberedCall, Prehashed>,
    /// The time of the last pass over the calls that ended.
    passed_ms: u64,
}

impl Shard {
    /// Makes room for one more call.
    fn make_room(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.passed_ms) >= PASS_INTERVAL_MS {
            self.forget_ended(now_ms);
        }
        while self.calls.len() >= SHARD_CALLS_MAX {
            let oldest = self.calls.iter().min_by_key(|(_, call)| call.last_seen).map(|(hash, _)| *hash);
            let Some(oldest) = oldest else { return };
            self.calls.remove(&oldest);
        }
    }

    fn forget_ended(&mut self, now_ms: u64) {
        self.passed_ms = now_ms;
        self.calls.retain(|_, call| !call.is_over(now_ms));
    }
}

impl RememberedCall {
    fn new(seen: &CallSighting<'_>, now_ms: u64, frame: u64) -> Self {
        Self {
            id: seen.call_id.into(),
            chain: seen.chain_id.filter(|id| is_short(id)).map(Box::from),
            message: seen.message_id.filter(|id| is_short(id)).map(str::to_owned),
            kind: seen.placed,
            instance: seen.instance.clone(),
            state: seen.state,
            placed_here: seen.placed.is_some(),
            first_seen: now_ms,
            last_seen: now_ms,
            frame,
        }
    }

    fn update(&mut self, seen: &CallSighting<'_>, now_ms: u64, frame: u64) {
        if let Some(chain) = seen.chain_id.filter(|id| is_short(id))
            && self.chain.as_deref() != Some(chain)
        {
            self.chain = Some(chain.into());
        }
        if let Some(message) = seen.message_id.filter(|id| is_short(id)) {
            // Ids of messages have one length, so the text keeps its memory.
            let own = self.message.get_or_insert_default();
            own.clear();
            own.push_str(message);
        }
        if self.instance != *seen.instance {
            self.instance = seen.instance.clone();
        }
        // Notifications overtake each other, and no call leaves its last state.
        if self.state != Some(TERMINATED) {
            self.state = seen.state.or(self.state);
        }
        self.kind = seen.placed.or(self.kind);
        self.placed_here |= seen.placed.is_some();
        // Threads read the clock in one order and take the lock in another.
        self.last_seen = self.last_seen.max(now_ms);
        self.frame = frame;
    }

    fn has_id(&self, call_id: &str) -> bool {
        *self.id == *call_id || self.id.eq_ignore_ascii_case(call_id)
    }

    /// Returns true if the call ended ten minutes ago.
    fn is_over(&self, now_ms: u64) -> bool {
        self.state == Some(TERMINATED) && now_ms.saturating_sub(self.last_seen) >= ENDED_KEPT_MS
    }

    fn begins_with(&self, text: &str) -> bool {
        let begins = |id: &str| id.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
        begins(&self.id)
            || self.chain.as_deref().is_some_and(begins)
            || self.message.as_deref().is_some_and(begins)
    }
}

fn is_short(id: &str) -> bool {
    id.len() <= ID_BYTES_MAX
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

/// The state that a call does not leave, in Graph's words.
pub(crate) const TERMINATED: &str = "terminated";

/// Enough that two workers seldom meet, and that a full shard finds its oldest call within a microsecond.
const SHARDS: u64 = 64;
/// 16,384 calls in all, some 5 MiB: with ids of the greatest length 10 MiB.
const SHARD_CALLS_MAX: usize = 256;
/// Real ids have 36 characters.
const ID_BYTES_MAX: usize = 128;
/// An operator who looks for a call that has just ended finds it.
const ENDED_KEPT_MS: u64 = 600_000;
/// A pass over a shard costs as much as a new call.
const PASS_INTERVAL_MS: u64 = 60_000;

#[cfg(test)]
mod tests;
