//! What is known of the messages of one shard, as a pure function of events and time.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{Kept, Key};

/// The messages that are under way, and the answers that are remembered.
#[derive(Debug)]
pub(super) struct Table {
    messages: HashMap<Key, Message>,
    /// The remembered answers, oldest first. May name one that was replaced since: `at` tells.
    order: VecDeque<(Instant, Key)>,
    /// Of all remembered answers.
    bytes: usize,
    limits: Limits,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) answers: usize,
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

#[derive(Debug)]
enum Message {
    /// The signal is made when somebody waits for it: most messages come once.
    UnderWay(Option<Signal>),
    Answered {
        kept: Arc<Kept>,
        at: Instant,
    },
}

/// Tells those who wait how the first one ended.
pub(super) type Signal = watch::Sender<End>;

/// How the first one ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It has not.
    NotYet,
    /// With this answer.
    Answered(Arc<Kept>),
    /// Without an answer that could be shared: whoever asks next takes over.
    Abandoned,
}

/// What to do with a message that has come.
#[derive(Debug)]
pub(super) enum Begin {
    /// Nobody has it: deliver it, and say how that ended.
    Lead,
    /// It is under way.
    Wait(watch::Receiver<End>),
    /// It was answered not long ago.
    Repeat(Arc<Kept>),
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self { messages: HashMap::new(), order: VecDeque::new(), bytes: 0, limits }
    }

    /// A message has come.
    pub(super) fn begin(&mut self, key: Key, now: Instant) -> Begin {
        match self.messages.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(Message::UnderWay(None));
                Begin::Lead
            }
            Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Message::UnderWay(signal) => {
                    let signal = signal.get_or_insert_with(|| watch::Sender::new(End::NotYet));
                    Begin::Wait(signal.subscribe())
                }
                Message::Answered { kept, at } if now.saturating_duration_since(*at) < self.limits.age => {
                    Begin::Repeat(Arc::clone(kept))
                }
                Message::Answered { kept, .. } => {
                    self.bytes = self.bytes.saturating_sub(kept.bytes());
                    occupied.insert(Message::UnderWay(None));
                    Begin::Lead
                }
            },
        }
    }

    /// The message was answered. Returns whom to tell.
    pub(super) fn answered(&mut self, key: Key, kept: &Arc<Kept>, now: Instant) -> Option<Signal> {
        let waiting = self.abandoned(key);
        let bytes = kept.bytes();
        if kept.is_remembered() && bytes <= self.limits.bytes {
            self.messages.insert(key, Message::Answered { kept: Arc::clone(kept), at: now });
            self.order.push_back((now, key));
            self.bytes = self.bytes.saturating_add(bytes);
            self.forget(now);
        }
        waiting
    }

    /// The message was given up. Returns whom to tell.
    pub(super) fn abandoned(&mut self, key: Key) -> Option<Signal> {
        match self.messages.entry(key) {
            Entry::Occupied(occupied) if matches!(occupied.get(), Message::UnderWay(_)) => {
                match occupied.remove() {
                    Message::UnderWay(signal) => signal,
                    Message::Answered { .. } => None,
                }
            }
            // Only whoever leads a message ends it, and once.
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        }
    }

    /// Forgets what is too old, and the oldest of what is too much.
    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front().copied() {
            let is_old = now.saturating_duration_since(at) >= self.limits.age;
            if !is_old && self.order.len() <= self.limits.answers && self.bytes <= self.limits.bytes {
                return;
            }
            self.order.pop_front();
            if let Entry::Occupied(occupied) = self.messages.entry(key)
                && let Message::Answered { kept, at: latest } = occupied.get()
                && *latest == at
            {
                self.bytes = self.bytes.saturating_sub(kept.bytes());
                occupied.remove();
            }
        }
    }

    /// Messages under way and answers remembered, and the bytes of the latter.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }
}
