//! The order of the lists of actions of each call: one after the other, in the order in which they came.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

/// The calls with lists of actions in progress, for all workers.
#[derive(Debug, Default)]
pub(crate) struct CallOrder {
    calls: Mutex<HashMap<CallKey, Lists>>,
}

/// A call of an app. Ids are compared without regard to ASCII case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallKey(Uuid, Box<str>);

/// The lists of one call, by number. The first one is in progress.
#[derive(Debug, Default)]
struct Lists {
    numbers: VecDeque<u64>,
    last: u64,
    /// The number of the list in progress.
    first: watch::Sender<u64>,
}

/// The place of one list among those of its call. Dropped, it lets the next list start.
#[derive(Debug)]
pub(super) struct Turn {
    order: Arc<CallOrder>,
    call: CallKey,
    number: u64,
    first: watch::Receiver<u64>,
    /// The time by which the list must be done.
    pub(super) deadline: Instant,
}

impl CallOrder {
    /// Takes the next place for a list of this call. `None` if [`LISTS_MAX`] places are taken.
    pub(super) fn take(self: &Arc<Self>, app: Uuid, call_id: &str) -> Option<Turn> {
        let call = CallKey(app, call_id.to_ascii_lowercase().into());
        let mut calls = self.calls();
        let lists = calls.entry(call.clone()).or_default();
        if lists.numbers.len() >= LISTS_MAX {
            return None;
        }
        lists.last += 1;
        lists.numbers.push_back(lists.last);
        lists.publish();
        let (number, first) = (lists.last, lists.first.subscribe());
        drop(calls);
        Some(Turn { order: Arc::clone(self), call, number, first, deadline: Instant::now() + LIST_TIME_MAX })
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<CallKey, Lists>> {
        // A panic under the lock leaves at worst a list too many, which ends with its deadline.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    /// Wakes the list that is now the first one.
    fn publish(&self) {
        if let Some(first) = self.numbers.front() {
            self.first.send_if_modified(|current| std::mem::replace(current, *first) != *first);
        }
    }
}

impl Turn {
    /// Waits for the end of the lists before this one. False if the deadline passes first.
    pub(super) async fn comes(&mut self) -> bool {
        let is_first = self.first.wait_for(|first| *first == self.number);
        // The sender stays as long as this list is there.
        timeout_at(self.deadline, is_first).await.is_ok_and(|first| first.is_ok())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Entry::Occupied(mut lists) = self.order.calls().entry(self.call.clone()) {
            lists.get_mut().numbers.retain(|number| *number != self.number);
            lists.get().publish();
            if lists.get().numbers.is_empty() {
                lists.remove();
            }
        }
    }
}

/// The most lists of one call in progress or waiting. A bot that needs more responds faster than Graph acts.
const LISTS_MAX: usize = 8;
/// The time of a list, from its arrival. A caller does not wait longer for a prompt.
const LIST_TIME_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::sleep;

    use super::*;

    const APP: Uuid = Uuid::from_u128(1);

    #[tokio::test(start_paused = true)]
    async fn lists_of_a_call_run_in_the_order_in_which_they_came() {
        let order = Arc::new(CallOrder::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        let turns: Vec<_> = (0..5).map(|at| (at, order.take(APP, "call").unwrap())).collect();
        // The tasks start in another order than their lists came.
        let tasks: Vec<_> = turns
            .into_iter()
            .rev()
            .map(|(at, mut turn)| {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    assert!(turn.comes().await);
                    log.lock().unwrap().push((at, "starts"));
                    sleep(Duration::from_secs(1)).await;
                    log.lock().unwrap().push((at, "ends"));
                    // A panic is an end, too.
                    assert_ne!(at, 2, "a bug");
                })
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
        let expected: Vec<_> = (0..5).flat_map(|at| [(at, "starts"), (at, "ends")]).collect();
        assert_eq!(*log.lock().unwrap(), expected);
        assert!(order.calls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn other_calls_do_not_wait_and_case_makes_no_other_call() {
        let order = Arc::new(CallOrder::default());
        let _first = order.take(APP, "Call-1").unwrap();
        for (app, call_id, waits) in
            [(APP, "call-2", false), (Uuid::from_u128(2), "call-1", false), (APP, "cALL-1", true)]
        {
            let mut turn = order.take(app, call_id).unwrap();
            assert_eq!(turn.comes().await, !waits, "{call_id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lists_of_a_call_are_limited() {
        let order = Arc::new(CallOrder::default());
        let mut turns: Vec<_> = (0..LISTS_MAX).map(|_| order.take(APP, "call").unwrap()).collect();
        assert!(order.take(APP, "call").is_none());
        assert!(order.take(APP, "other").is_some());
        turns.pop();
        turns.push(order.take(APP, "call").unwrap());
        assert!(order.take(APP, "call").is_none());
        turns.clear();
        assert!(order.calls().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Lists may end in any order, since each may give up.
        #[test]
        fn of_each_call_the_oldest_list_alone_is_in_progress(
            events in prop::collection::vec((0..3_u8, any::<Option<prop::sample::Index>>()), 0..80),
        ) {
            let order = Arc::new(CallOrder::default());
            let mut turns: Vec<(u8, Turn)> = Vec::new();
            for (call, ends) in events {
                match ends {
                    Some(ends) if !turns.is_empty() => drop(turns.remove(ends.index(turns.len()))),
                    Some(_) | None => {
                        let of_call = turns.iter().filter(|(other, _)| *other == call).count();
                        let turn = order.take(APP, &call.to_string());
                        prop_assert_eq!(turn.is_some(), of_call < LISTS_MAX);
                        turns.extend(turn.map(|turn| (call, turn)));
                    }
                }
                for call in 0..3 {
                    let of_call = turns.iter().filter(|(other, _)| *other == call).map(|(_, turn)| turn);
                    for (at, turn) in of_call.enumerate() {
                        prop_assert_eq!(*turn.first.borrow() == turn.number, at == 0);
                    }
                }
            }
            turns.clear();
            prop_assert!(order.calls().is_empty());
        }
    }

    /// A list that gives up does not let the next one start while the first is in progress.
    #[tokio::test(start_paused = true)]
    async fn a_list_waits_until_its_deadline_only() {
        let order = Arc::new(CallOrder::default());
        let (mut first, mut second) = (order.take(APP, "call").unwrap(), order.take(APP, "call").unwrap());
        let deadline = second.deadline;
        assert!(first.comes().await && !second.comes().await);
        assert_eq!(Instant::now(), deadline);
        let mut third = order.take(APP, "call").unwrap();
        drop(second);
        assert!(timeout_at(deadline + Duration::from_secs(1), third.comes()).await.is_err());
        drop(first);
        assert!(third.comes().await);
    }
}
