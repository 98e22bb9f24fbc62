//! The messages of one shard, as a pure function of events and time.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{message_key::MessageKey, shared_response::SharedResponse};

/// The messages in flight and the remembered responses.
#[derive(Debug)]
pub(super) struct MessageTable {
    messages: HashMap<MessageKey, Message>,
    /// The remembered responses, oldest first. An entry is stale if the message has another `at` since.
    order: VecDeque<(Instant, MessageKey)>,
    /// The bytes of all remembered responses.
    bytes: usize,
    limits: TableLimits,
}

/// The limits of what is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableLimits {
    pub(super) responses: usize,
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

#[derive(Debug)]
enum Message {
    /// The signal is made when the first retry waits for it: most messages come once.
    InFlight(Option<Signal>),
    Remembered {
        response: Arc<SharedResponse>,
        at: Instant,
    },
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

impl MessageTable {
    pub(super) fn new(limits: TableLimits) -> Self {
        Self { messages: HashMap::new(), order: VecDeque::new(), bytes: 0, limits }
    }

    /// A request with this message has come.
    pub(super) fn claim(&mut self, key: MessageKey, now: Instant) -> Claim {
        match self.messages.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(Message::InFlight(None));
                Claim::Lead
            }
            Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Message::InFlight(signal) => {
                    let signal = signal.get_or_insert_with(|| watch::Sender::new(LeaderState::InFlight));
                    Claim::Wait(signal.subscribe())
                }
                Message::Remembered { response, at }
                    if now.saturating_duration_since(*at) < self.limits.age =>
                {
                    Claim::Repeat(Arc::clone(response))
                }
                Message::Remembered { response, .. } => {
                    self.bytes = self.bytes.saturating_sub(response.bytes());
                    occupied.insert(Message::InFlight(None));
                    Claim::Lead
                }
            },
        }
    }

    /// The leader has a response. Returns the signal of the waiting retries.
    pub(super) fn responded(
        &mut self,
        key: MessageKey,
        response: &Arc<SharedResponse>,
        now: Instant,
    ) -> Option<Signal> {
        let waiting = self.abandoned(key);
        let bytes = response.bytes();
        if response.is_remembered() && bytes <= self.limits.bytes {
            self.messages.insert(key, Message::Remembered { response: Arc::clone(response), at: now });
            self.order.push_back((now, key));
            self.bytes = self.bytes.saturating_add(bytes);
            self.forget(now);
        }
        waiting
    }

    /// The leader has ended without a response. Returns the signal of the waiting retries.
    pub(super) fn abandoned(&mut self, key: MessageKey) -> Option<Signal> {
        match self.messages.entry(key) {
            Entry::Occupied(occupied) if matches!(occupied.get(), Message::InFlight(_)) => {
                match occupied.remove() {
                    Message::InFlight(signal) => signal,
                    Message::Remembered { .. } => None,
                }
            }
            // Only the leader of a message ends it, and only once.
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        }
    }

    /// Forgets the responses that are too old, and the oldest ones beyond the limits.
    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front().copied() {
            let is_old = now.saturating_duration_since(at) >= self.limits.age;
            if !is_old && self.order.len() <= self.limits.responses && self.bytes <= self.limits.bytes {
                return;
            }
            self.order.pop_front();
            if let Entry::Occupied(occupied) = self.messages.entry(key)
                && let Message::Remembered { response, at: latest } = occupied.get()
                && *latest == at
            {
                self.bytes = self.bytes.saturating_sub(response.bytes());
                occupied.remove();
            }
        }
    }

    /// The number of messages in flight or remembered, and the bytes of the remembered ones.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }
}
