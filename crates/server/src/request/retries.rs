//! A retry of the platform gets the response of the first request and is not delivered again.
//!
//! "Callbacks" in docs/protocol.md: after a 5xx or a timeout the platform posts again, with the same message
//! id. A request is a retry of another one if their app, tenant, target, message id and body are the same.
//!
//! `table` decides, as a pure function of events and time. This file has the locks and the waiting.

mod message_key;
mod packed_content;
mod response_copy;
mod response_memory;
mod shared_response;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use self::table::{Claim, LeaderState, MessageTable, Responded, TableLimits};
pub(crate) use self::{
    message_key::MessageKey,
    response_copy::ResponseCopy,
    shared_response::{ActionResult, SharedResponse},
};
use crate::metrics::Metrics;

/// The messages in flight and the remembered responses, for all workers.
pub(crate) struct Retries {
    /// By the first byte of the key, so that workers rarely meet at a lock.
    shards: [Mutex<MessageTable>; SHARDS],
    metrics: Arc<Metrics>,
}

/// The role of a request among the requests of its message.
#[derive(Debug)]
pub(crate) enum Role {
    /// The first request: the gateway delivers it, and the leader shares its response.
    Leader(Leader),
    /// A retry that waited for the first request, with its response.
    Shared(Arc<SharedResponse>),
    /// A retry after the first request has ended, with its response.
    Repeated(Arc<SharedResponse>),
    /// A retry after the first request has ended, whose response holds no more: the gateway delivers it as if
    /// it were the first.
    Successor(Leader),
    /// A retry that may not wait any longer, while the first request is still in flight.
    TooLate,
}

impl Retries {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let limits = TableLimits { bytes: REMEMBERED_BYTES_MAX / SHARDS, age: AGE_MAX };
        let now = Instant::now();
        Self { shards: std::array::from_fn(|_| Mutex::new(MessageTable::new(limits, now))), metrics }
    }

    /// Returns the role of a request. A retry waits here, until `until` at most.
    ///
    /// If the leader ends without a response, because its client went away, one of the waiting retries
    /// becomes the leader. A remembered response is repeated only if it `still_holds`; otherwise it is
    /// forgotten, and the retry becomes the leader.
    pub(crate) async fn role(
        self: &Arc<Self>,
        key: MessageKey,
        until: Instant,
        still_holds: impl Fn(&SharedResponse) -> bool,
    ) -> Role {
        loop {
            let mut claim = self.shard(key).claim(key, Instant::now());
            // Judged without the lock.
            let is_void = matches!(&claim, Claim::Repeat(response) if !still_holds(response));
            if is_void {
                claim = self.shard(key).claim_anew(key, Instant::now());
            }
            let mut state = match claim {
                Claim::Lead => {
                    let leader = Leader { retries: Arc::clone(self), key, has_ended: false };
                    return if is_void { Role::Successor(leader) } else { Role::Leader(leader) };
                }
                Claim::Repeat(response) => return Role::Repeated(response),
                Claim::Wait(state) => state,
            };
            match timeout_at(until, state.wait_for(|state| !matches!(state, LeaderState::InFlight))).await {
                Ok(Ok(state)) => match &*state {
                    LeaderState::Responded(response) => return Role::Shared(Arc::clone(response)),
                    LeaderState::Abandoned | LeaderState::InFlight => {}
                },
                // The sender was dropped without a last state, which `Leader` rules out.
                Ok(Err(_)) => {}
                Err(_) => return Role::TooLate,
            }
        }
    }

    fn shard(&self, key: MessageKey) -> MutexGuard<'_, MessageTable> {
        let index = usize::from(key.first_byte()) % SHARDS;
        let shard = self.shards.get(index).expect("a remainder is less than its divisor");
        // A panic under the lock leaves at worst one message too many.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retries")
    }
}

/// The first request of a message: the single-flight leader.
///
/// Dropped without a response, it lets one of the waiting retries become the leader. A detached action takes
/// it along, since the action goes on without the client.
#[derive(Debug)]
pub(crate) struct Leader {
    retries: Arc<Retries>,
    key: MessageKey,
    has_ended: bool,
}

impl Leader {
    /// Gives the response to the waiting retries, and remembers it if it may be repeated.
    pub(crate) fn responded(mut self, response: SharedResponse) {
        self.has_ended = true;
        let responded = self.retries.shard(self.key).responded(self.key, response, Instant::now());
        let Responded { waiting, forgotten_early } = responded;
        if let Some((signal, response)) = waiting {
            signal.send_replace(LeaderState::Responded(response));
        }
        if forgotten_early > 0 {
            self.retries.metrics.responses_forgotten(forgotten_early);
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(signal) = self.retries.shard(self.key).abandoned(self.key)
        {
            signal.send_replace(LeaderState::Abandoned);
        }
    }
}

const SHARDS: usize = 16;
/// The memory that remembering may take: enough for 30 s of 20,000 responses a second without a body, each
/// with two correlation ids. The allocator takes up to 4 MiB more, so the process grows by 96 MiB at most.
/// Beyond the limit the oldest are forgotten. Nothing is allocated ahead of need.
const REMEMBERED_BYTES_MAX: usize = 92 << 20;
/// The platform hangs up a call whose notifications fail. All retries that were observed came within seconds.
const AGE_MAX: Duration = Duration::from_secs(180);
