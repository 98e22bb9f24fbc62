//! What outlives the request that began it: on the control thread, counted, waited for by the drain.
//!
//! A request ends with its connection, and a worker's runtime with its last one. Neither may cut what has begun to act on
//! a call: nobody would know whether it was done.

use std::{future::Future, sync::Arc};

use switchboard_delivery::Connections;
use tokio::{runtime::Handle, sync::watch};

use crate::metrics::Metrics;

/// The tasks of this process; they outlive a reload.
#[derive(Debug)]
pub(crate) struct Tasks {
    runtime: Handle,
    under_way: watch::Sender<usize>,
    metrics: Arc<Metrics>,
    /// To the instances, from the control thread.
    pub(crate) connections: Connections,
}

impl Tasks {
    /// Tasks run on `runtime`, which must outlive those that begin them.
    pub(crate) fn new(runtime: Handle, metrics: Arc<Metrics>) -> Self {
        let (under_way, _) = watch::channel(0);
        Self { runtime, under_way, metrics, connections: Connections::default() }
    }

    /// Begins `task`, from any thread. It is under way from now on.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(Arc::clone(self));
        self.runtime.spawn(async move {
            let _counted = counted;
            task.await;
        });
    }

    /// How many are under way.
    pub(crate) fn under_way(&self) -> usize {
        *self.under_way.borrow()
    }

    /// Waits until none is under way.
    pub(crate) async fn finished(&self) {
        // Its sender is `self`.
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        self.under_way.send_modify(|count| {
            *count = change(*count);
            self.metrics.actions_in_flight(*count);
        });
    }
}

/// A task, until it ends, panics, or is cut with the runtime.
struct Counted(Arc<Tasks>);

impl Counted {
    fn new(tasks: Arc<Tasks>) -> Self {
        tasks.count(|count| count.saturating_add(1));
        Self(tasks)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count(|count| count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;
    use crate::telemetry::Counts;

    fn tasks() -> Arc<Tasks> {
        Arc::new(Tasks::new(Handle::current(), Arc::new(Metrics::new(Counts::default()))))
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_that_of_the_last_one() {
        let tasks = tasks();
        tasks.finished().await;
        let (end, ended) = oneshot::channel::<()>();
        let more = Arc::clone(&tasks);
        tasks.spawn(async move {
            let _ = ended.await;
            more.spawn(async {});
        });
        tasks.spawn(async { panic!("a bug") });
        assert_eq!(tasks.under_way(), 2);
        let second = std::time::Duration::from_secs(1);
        assert!(timeout(second, tasks.finished()).await.is_err());
        assert_eq!(tasks.under_way(), 1);
        end.send(()).unwrap();
        timeout(second, tasks.finished()).await.unwrap();
        assert_eq!(tasks.under_way(), 0);
    }

    #[test]
    fn a_thread_that_ends_cuts_no_task() {
        let control = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tasks = control.block_on(async { tasks() });
        let begun = Arc::clone(&tasks);
        let (sender, done) = oneshot::channel();
        std::thread::spawn(move || {
            let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
            worker.block_on(async move { begun.spawn(async move { sender.send(()).unwrap() }) });
        })
        .join()
        .unwrap();
        control.block_on(async { done.await.unwrap() });
        tasks.spawn(pending());
        assert_eq!(tasks.under_way(), 1);
        drop(control);
        assert_eq!(tasks.under_way(), 0);
    }
}
