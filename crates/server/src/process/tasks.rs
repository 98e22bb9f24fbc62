//! The tasks that outlive the request that started them. They run on the control thread, and a drain waits
//! for them.
//!
//! A request ends with its connection, and a worker's runtime ends with the last connection. Neither may cut
//! off an action on a call: its outcome would be unknown.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::watch};

use crate::metrics::Metrics;

/// The tasks of this process. They outlive a reload.
#[derive(Debug)]
pub(crate) struct Tasks {
    runtime: Handle,
    in_flight: watch::Sender<usize>,
    metrics: Arc<Metrics>,
}

impl Tasks {
    /// Creates a set of tasks that run on `runtime`. It must outlive the threads that start them.
    pub(crate) fn new(runtime: Handle, metrics: Arc<Metrics>) -> Self {
        let (in_flight, _) = watch::channel(0);
        Self { runtime, in_flight, metrics }
    }

    /// Starts `task`, from any thread. It counts as in flight from this moment.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let guard = RunningTask::new(Arc::clone(self));
        self.runtime.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// The number of tasks in flight.
    pub(crate) fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// Waits until no task is in flight.
    pub(crate) async fn finished(&self) {
        // Cannot fail: the sender is in `self`.
        let _ = self.in_flight.subscribe().wait_for(|count| *count == 0).await;
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        self.in_flight.send_modify(|count| {
            *count = change(*count);
            self.metrics.actions_in_flight(*count);
        });
    }
}

/// Counts a task until it ends, panics, or is dropped with the runtime.
struct RunningTask(Arc<Tasks>);

impl RunningTask {
    fn new(tasks: Arc<Tasks>) -> Self {
        tasks.count(|count| count.saturating_add(1));
        Self(tasks)
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.0.count(|count| count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;
    use crate::telemetry::LogCounts;

    fn tasks() -> Arc<Tasks> {
        Arc::new(Tasks::new(Handle::current(), Arc::new(Metrics::new(LogCounts::default()))))
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_are_finished_when_the_last_one_ends() {
        let tasks = tasks();
        tasks.finished().await;
        let (end, ended) = oneshot::channel::<()>();
        let more = Arc::clone(&tasks);
        tasks.spawn(async move {
            let _ = ended.await;
            more.spawn(async {});
        });
        tasks.spawn(async { panic!("a bug") });
        assert_eq!(tasks.in_flight(), 2);
        let second = std::time::Duration::from_secs(1);
        assert!(timeout(second, tasks.finished()).await.is_err());
        assert_eq!(tasks.in_flight(), 1);
        end.send(()).unwrap();
        timeout(second, tasks.finished()).await.unwrap();
        assert_eq!(tasks.in_flight(), 0);
    }

    #[test]
    fn the_end_of_the_starting_thread_ends_no_task() {
        let control = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tasks = control.block_on(async { tasks() });
        let started = Arc::clone(&tasks);
        let (sender, done) = oneshot::channel();
        std::thread::spawn(move || {
            let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
            worker.block_on(async move { started.spawn(async move { sender.send(()).unwrap() }) });
        })
        .join()
        .unwrap();
        control.block_on(async { done.await.unwrap() });
        tasks.spawn(pending());
        assert_eq!(tasks.in_flight(), 1);
        drop(control);
        assert_eq!(tasks.in_flight(), 0);
    }
}
