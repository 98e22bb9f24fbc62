//! `ResponseMemory`: the remembered responses of one shard, in the order of their age.

use std::collections::VecDeque;

use super::{message_key::MessageKey, shared_response::SharedResponse};

/// Responses by message, oldest first. It grows and shrinks with their number, and knows its own size.
///
/// A queue in segments holds the responses, and an index of four bytes for each finds them: a `HashMap` and a
/// `VecDeque` that double would take more than the responses themselves. Only the oldest response is ever
/// removed, so each one can name the one before it in its bucket, and removal touches no index: a number that
/// is older than the oldest response ends its bucket.
#[derive(Debug)]
pub(super) struct ResponseMemory {
    /// All but the first and the last have `SEGMENT` responses.
    segments: VecDeque<VecDeque<Entry>>,
    count: usize,
    /// The number of the oldest response. Responses are numbered as they come; the numbers wrap.
    oldest: u32,
    /// The number of the newest response in each bucket. The count is zero or a power of two.
    buckets: Vec<u32>,
    /// The bytes that the responses have allocated.
    allocated_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    key: MessageKey,
    at: Tick,
    /// The number of the response before it in its bucket.
    before: u32,
    response: SharedResponse,
}

/// A time in tenths of a second after the start of the gateway: enough for thirteen years.
pub(super) type Tick = u32;

impl ResponseMemory {
    pub(super) fn new() -> Self {
        Self { segments: VecDeque::new(), count: 0, oldest: 0, buckets: Vec::new(), allocated_bytes: 0 }
    }

    /// The latest response of a message, and its time.
    pub(super) fn find(&self, key: MessageKey) -> Option<(&SharedResponse, Tick)> {
        let entry = self.entry(self.position(key)?)?;
        Some((&entry.response, entry.at))
    }

    /// Adds a response. An earlier one of the same message is found no more.
    pub(super) fn push(&mut self, key: MessageKey, at: Tick, response: SharedResponse) {
        if self.count >= self.buckets.len() {
            self.grow_buckets();
        }
        self.allocated_bytes = self.allocated_bytes.saturating_add(response.allocated_bytes());
        let number = self.oldest.wrapping_add(u32::try_from(self.count).unwrap_or(u32::MAX));
        let before = self.bucket(key).map_or(number, |bucket| std::mem::replace(bucket, number));
        let entry = Entry { key, at, before, response };
        match self.segments.back_mut().filter(|segment| segment.len() < SEGMENT) {
            Some(segment) => segment.push_back(entry),
            None => {
                let mut segment = VecDeque::with_capacity(SEGMENT);
                segment.push_back(entry);
                self.segments.push_back(segment);
            }
        }
        self.count += 1;
    }

    /// The time of the oldest response.
    pub(super) fn oldest(&self) -> Option<Tick> {
        self.entry(0).map(|entry| entry.at)
    }

    /// Removes the oldest response.
    pub(super) fn pop(&mut self) {
        let Some(segment) = self.segments.front_mut() else { return };
        if let Some(entry) = segment.pop_front() {
            self.allocated_bytes = self.allocated_bytes.saturating_sub(entry.response.allocated_bytes());
            self.count -= 1;
            self.oldest = self.oldest.wrapping_add(1);
        }
        if segment.is_empty() {
            self.segments.pop_front();
        }
        if self.count == 0 {
            *self = Self { oldest: self.oldest, ..Self::new() };
        }
    }

    /// Makes the response of a message unfindable. It keeps its place until it is the oldest.
    pub(super) fn discard(&mut self, key: MessageKey) {
        if let Some(position) = self.position(key)
            && let Some(entry) = self.entry_mut(position)
        {
            entry.key = MessageKey::NONE;
        }
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let segment_bytes = SEGMENT * size_of::<Entry>() + size_of::<VecDeque<Entry>>();
        self.segments.len() * segment_bytes + self.buckets.len() * size_of::<u32>() + self.allocated_bytes
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The position of the latest response of a message in the queue.
    fn position(&self, key: MessageKey) -> Option<usize> {
        let mut number = *self.buckets.get(bucket_of(key, self.buckets.len()))?;
        // Each step must lead to an older response, so that the search ends whatever the numbers are.
        let mut newer_than = self.count;
        loop {
            let position = usize::try_from(number.wrapping_sub(self.oldest)).unwrap_or(usize::MAX);
            if position >= newer_than {
                return None;
            }
            let entry = self.entry(position)?;
            if entry.key == key {
                return Some(position);
            }
            (number, newer_than) = (entry.before, position);
        }
    }

    fn entry(&self, position: usize) -> Option<&Entry> {
        let (segment, place) = self.place(position)?;
        self.segments.get(segment)?.get(place)
    }

    fn entry_mut(&mut self, position: usize) -> Option<&mut Entry> {
        let (segment, place) = self.place(position)?;
        self.segments.get_mut(segment)?.get_mut(place)
    }

    fn place(&self, position: usize) -> Option<(usize, usize)> {
        let first = self.segments.front()?.len();
        let place = match position.checked_sub(first) {
            None => (0, position),
            Some(rest) => (1 + rest / SEGMENT, rest % SEGMENT),
        };
        Some(place)
    }

    fn bucket(&mut self, key: MessageKey) -> Option<&mut u32> {
        let bucket = bucket_of(key, self.buckets.len());
        self.buckets.get_mut(bucket)
    }

    /// Doubles the buckets, and sorts all responses into them anew.
    fn grow_buckets(&mut self) {
        let count = (self.buckets.len() * 2).max(BUCKETS_MIN);
        let none = self.oldest.wrapping_sub(1);
        // Free the old ones first.
        self.buckets = Vec::new();
        self.buckets = vec![none; count];
        let mut number = self.oldest;
        for entry in self.segments.iter_mut().flatten() {
            if let Some(bucket) = self.buckets.get_mut(bucket_of(entry.key, count)) {
                entry.before = std::mem::replace(bucket, number);
            }
            number = number.wrapping_add(1);
        }
    }
}

/// `buckets` is zero or a power of two.
fn bucket_of(key: MessageKey, buckets: usize) -> usize {
    let hash = usize::try_from(key.hash_bits() & u64::from(u32::MAX)).unwrap_or(0);
    hash & buckets.saturating_sub(1)
}

/// Some 20 KiB.
const SEGMENT: usize = 256;
const BUCKETS_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::request::outcome::Outcome;

    fn key(message: u16) -> MessageKey {
        let id = HeaderValue::from(message);
        MessageKey::of(Uuid::nil(), Uuid::nil(), "/", false, &id, b"")
    }

    fn response(body: &str) -> SharedResponse {
        SharedResponse::new(&Response::new(()), Outcome::Placed, None, None).with_body(body.as_bytes())
    }

    fn index(at: Tick) -> usize {
        usize::try_from(at).unwrap()
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 88);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u16),
        Pop(usize),
        Discard(u16),
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The numbers start just before they wrap.
        #[test]
        fn the_latest_response_of_each_message_is_found(
            start in prop_oneof![Just(0), Just(u32::MAX - 700)],
            steps in prop::collection::vec(
                prop_oneof![
                    6 => (0..400_u16).prop_map(Step::Push),
                    2 => (0..8_usize).prop_map(Step::Pop),
                    1 => (0..400_u16).prop_map(Step::Discard),
                ],
                0..2000,
            ),
        ) {
            let mut memory = ResponseMemory { oldest: start, ..ResponseMemory::new() };
            let mut expected: VecDeque<(Option<u16>, usize)> = VecDeque::new();
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(message) => {
                        memory.push(key(message), u32::try_from(at).unwrap(), response(&"x".repeat(at % 50)));
                        expected.push_back((Some(message), at));
                    }
                    Step::Pop(count) => {
                        for _ in 0..count {
                            memory.pop();
                            expected.pop_front();
                        }
                    }
                    Step::Discard(message) => {
                        memory.discard(key(message));
                        let latest = expected.iter_mut().rev().find(|(one, _)| *one == Some(message));
                        if let Some((one, _)) = latest {
                            *one = None;
                        }
                    }
                }
                prop_assert_eq!(memory.len(), expected.len());
                prop_assert_eq!(memory.oldest().map(index), expected.front().map(|(_, at)| *at));
            }
            for message in 0..400_u16 {
                let latest = expected.iter().rev().find(|(one, _)| *one == Some(message)).map(|(_, at)| *at);
                let found = memory.find(key(message));
                prop_assert_eq!(found.map(|(_, at)| index(at)), latest, "{}", message);
                if let Some((response, at)) = found {
                    prop_assert_eq!(response.response().body().len(), index(at) % 50);
                }
            }
            let entries = memory.segments.iter().flatten();
            let allocated: usize = entries.map(|entry| entry.response.allocated_bytes()).sum();
            prop_assert_eq!(memory.allocated_bytes, allocated);
            while memory.oldest().is_some() {
                memory.pop();
            }
            prop_assert_eq!(memory.bytes(), 0);
        }
    }
}
