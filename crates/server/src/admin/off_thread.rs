//! Work of the admin listener that takes milliseconds: its own thread also accepts connections.

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Does `work` on a thread for blocking work: one at a time, so that scrapers take at most one processor from
/// the workers. `None` if it panicked; the panic hook has logged the place.
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // Cannot fail: the semaphore is never closed.
    let permit = RUNNING.acquire().await.ok();
    let done = spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    done.await.ok()
}

/// Of the process, as its threads are.
static RUNNING: Semaphore = Semaphore::const_new(1);
