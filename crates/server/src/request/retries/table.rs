//! The messages of one shard, as a pure function of events and time.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    message_key::MessageKey,
    response_memory::{ResponseMemory, Tick},
    shared_response::SharedResponse,
};
use crate::prehashed::Prehashed;

/// The messages in flight and the remembered responses.
#[derive(Debug)]
pub(super) struct MessageTable {
    /// The signal is made when the first retry waits for it: most messages come once.
    in_flight: HashMap<MessageKey, Option<Signal>, Prehashed>,
    remembered: ResponseMemory,
    limits: TableLimits,
    /// The zero of ticks.
    epoch: Instant,
}

/// The limits of what is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableLimits {
    /// Everything that remembering costs, in memory.
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

/// Wakes the retries that wait for the leader.
pub(super) type Signal = watch::Sender<LeaderState>;

/// The state of the first request, as waiting retries see it.
#[derive(Clone, Debug)]
pub(super) enum LeaderState {
    /// The request is in flight.
    InFlight,
    /// The request has this response.
    Responded(Arc<SharedResponse>),
    /// The request ended without a response that can be shared. The next retry that asks becomes the leader.
    Abandoned,
}

/// The result of claiming a message for a request.
#[derive(Debug)]
pub(super) enum Claim {
    /// The request is the first one: it becomes the leader.
    Lead,
    /// The leader is in flight.
    Wait(watch::Receiver<LeaderState>),
    /// The message has a remembered response.
    Repeat(Arc<SharedResponse>),
}

/// The consequences of a response.
#[derive(Debug)]
pub(super) struct Responded {
    /// Wakes the waiting retries, if there are any, with the response.
    pub(super) waiting: Option<(Signal, Arc<SharedResponse>)>,
    /// The number of responses that were forgotten before they were old.
    pub(super) forgotten_early: u64,
}

impl MessageTable {
    pub(super) fn new(limits: TableLimits, now: Instant) -> Self {
        Self { in_flight: HashMap::default(), remembered: ResponseMemory::new(), limits, epoch: now }
    }

    /// A request with this message has come.
    pub(super) fn claim(&mut self, key: MessageKey, now: Instant) -> Claim {
        match self.in_flight.entry(key) {
            Entry::Occupied(mut occupied) => {
                let signal = occupied.get_mut();
                Claim::Wait(
                    signal.get_or_insert_with(|| watch::Sender::new(LeaderState::InFlight)).subscribe(),
                )
            }
            Entry::Vacant(vacant) => match self.remembered.find(key) {
                Some((response, at)) if !is_old(self.limits, at, tick(self.epoch, now)) => {
                    Claim::Repeat(Arc::new(response.clone()))
                }
                Some(_) | None => {
                    vacant.insert(None);
                    Claim::Lead
                }
            },
        }
    }

    /// A request with this message has come, and its remembered response may not be repeated.
    pub(super) fn claim_anew(&mut self, key: MessageKey, now: Instant) -> Claim {
        self.remembered.discard(key);
        self.claim(key, now)
    }

    /// The leader has a response.
    pub(super) fn responded(&mut self, key: MessageKey, response: SharedResponse, now: Instant) -> Responded {
        let waiting = self.abandoned(key).map(|signal| (signal, Arc::new(response.clone())));
        let mut forgotten_early = 0;
        if response.is_remembered() {
            let tick = tick(self.epoch, now);
            self.remembered.push(key, tick, response);
            forgotten_early = self.forget(tick);
        }
        Responded { waiting, forgotten_early }
    }

    /// The leader has ended without a response. Returns the signal of the waiting retries.
    ///
    /// Only the leader of a message ends it, and only once.
    pub(super) fn abandoned(&mut self, key: MessageKey) -> Option<Signal> {
        self.in_flight.remove(&key).flatten()
    }

    /// Forgets responses that are too old, a few at a time, and the oldest ones beyond the limit. Returns the
    /// number of responses that were not too old.
    fn forget(&mut self, now: Tick) -> u64 {
        let mut forgotten_early = 0;
        let mut old_left = OLD_FORGOTTEN_MAX;
        while let Some(at) = self.remembered.oldest() {
            if is_old(self.limits, at, now) && old_left > 0 {
                old_left -= 1;
            } else if self.remembered.bytes() <= self.limits.bytes {
                break;
            } else if !is_old(self.limits, at, now) {
                forgotten_early += 1;
            }
            self.remembered.pop();
        }
        forgotten_early
    }

    /// The number of messages in flight or remembered, and the bytes of the remembered ones.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.in_flight.len() + self.remembered.len(), self.remembered.bytes())
    }
}

fn is_old(limits: TableLimits, at: Tick, now: Tick) -> bool {
    u128::from(now.saturating_sub(at)) * TICK_MS >= limits.age.as_millis()
}

fn tick(epoch: Instant, now: Instant) -> Tick {
    Tick::try_from(now.saturating_duration_since(epoch).as_millis() / TICK_MS).unwrap_or(Tick::MAX)
}

const TICK_MS: u128 = 100;
/// After an idle time many responses are old. Forgetting all of them at once would keep other workers from
/// the lock for milliseconds. Each new response forgets this many, so they soon go.
const OLD_FORGOTTEN_MAX: usize = 16;
