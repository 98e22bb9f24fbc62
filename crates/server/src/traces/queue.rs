//! `SpanQueue`: the spans that wait for an export, limited in number.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Spans that wait for an export. Any thread adds to it, and none waits.
#[derive(Debug)]
pub(super) struct SpanQueue<S> {
    spans: Mutex<VecDeque<S>>,
    len_max: usize,
    batch_max: usize,
    /// Notified when a whole batch waits.
    filled: Notify,
}

impl<S> SpanQueue<S> {
    pub(super) fn new(len_max: usize, batch_max: usize) -> Self {
        Self { spans: Mutex::default(), len_max, batch_max, filled: Notify::new() }
    }

    /// Adds spans. Returns the number of those for which there was no room.
    pub(super) fn push(&self, spans: impl IntoIterator<Item = S>) -> usize {
        let mut dropped = 0;
        let mut queue = self.spans();
        let had_batch = queue.len() >= self.batch_max;
        for span in spans {
            if queue.len() < self.len_max {
                queue.push_back(span);
            } else {
                dropped += 1;
            }
        }
        let has_batch = queue.len() >= self.batch_max;
        drop(queue);
        if has_batch && !had_batch {
            self.filled.notify_one();
        }
        dropped
    }

    /// Takes the oldest spans, one batch at most.
    pub(super) fn take_batch(&self) -> Vec<S> {
        let mut queue = self.spans();
        let count = queue.len().min(self.batch_max);
        queue.drain(..count).collect()
    }

    pub(super) fn has_batch(&self) -> bool {
        self.spans().len() >= self.batch_max
    }

    /// Waits until a whole batch waits. It may return once too often.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn spans(&self) -> MutexGuard<'_, VecDeque<S>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use proptest::prelude::*;

    use super::*;

    fn is_ready(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_full_batch_is_announced_once() {
        let queue = SpanQueue::new(10, 3);
        assert_eq!(queue.push([1, 2]), 0);
        assert!(!is_ready(queue.filled()));
        assert_eq!(queue.push([3, 4, 5, 6]), 0);
        assert!(is_ready(queue.filled()));
        assert!(!is_ready(queue.filled()));
        assert_eq!(queue.take_batch(), [1, 2, 3]);
        assert!(queue.has_batch());
        assert_eq!(queue.take_batch(), [4, 5, 6]);
        assert!(queue.take_batch().is_empty() && !queue.has_batch());
    }

    proptest! {
        /// Spans leave in the order in which they came, and those for which there is no room are counted.
        #[test]
        fn no_span_is_lost_uncounted(
            len_max in 1..20_usize,
            batch in 1..20_usize,
            events in prop::collection::vec(prop::option::of(0..12_usize), 0..40),
        ) {
            let batch_max = batch.min(len_max);
            let queue = SpanQueue::new(len_max, batch_max);
            let (mut next, mut dropped, mut taken) = (0_usize, 0, Vec::new());
            for event in events {
                match event {
                    Some(count) => {
                        dropped += queue.push(next..next + count);
                        next += count;
                    }
                    None => {
                        let batch = queue.take_batch();
                        prop_assert!(batch.len() <= batch_max);
                        taken.extend(batch);
                    }
                }
                prop_assert!(queue.spans().len() <= len_max);
            }
            while !queue.spans().is_empty() {
                taken.extend(queue.take_batch());
            }
            prop_assert!(taken.is_sorted());
            prop_assert_eq!(taken.len() + dropped, next);
        }
    }
}
