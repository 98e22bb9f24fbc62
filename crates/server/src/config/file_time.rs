//! The time limit of file operations. A file on a mount that hangs, or a pipe without a writer, must not stop
//! the gateway.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

/// The reason for which a file operation has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileHangs {
    /// It did not end in time. Its thread still waits for the operating system.
    #[error("no response in {} s: {CAUSES}", FILE_TIME_MAX.as_secs())]
    TimedOut,
    /// Earlier operations on the same file did not end either.
    #[error("{OPERATIONS_MAX} earlier operations on it did not end: {CAUSES}")]
    Repeated,
    /// The operating system starts no thread for it.
    #[error("no thread can be started for it: {0}")]
    NoThread(io::ErrorKind),
}

/// Runs `operation` on `path`, for at most [`FILE_TIME_MAX`].
///
/// A thread that hangs in the operating system cannot be stopped. So an operation has a thread of its own,
/// and a path has a bound of them.
///
/// # Errors
///
/// The operation did not end in time, or could not be started.
pub(crate) fn within_limit<T: Send + 'static>(
    path: &Path,
    operation: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, FileHangs> {
    let running = Running::start(path).ok_or(FileHangs::Repeated)?;
    let (sender, result) = mpsc::sync_channel(1);
    let work = move || {
        let result = operation(&running.0);
        drop(running);
        let _ = sender.send(result); // the caller may have given up
    };
    let thread = thread::Builder::new().name("file".to_owned()).stack_size(STACK_BYTES).spawn(work);
    thread.map_err(|error| FileHangs::NoThread(error.kind()))?;
    result.recv_timeout(FILE_TIME_MAX).map_err(|_| FileHangs::TimedOut)
}

/// Returns true while an operation on `path` runs, such as one that hangs.
pub(crate) fn is_running(path: &Path) -> bool {
    running().contains_key(path)
}

/// An operation on a file that has not ended.
struct Running(PathBuf);

impl Running {
    fn start(path: &Path) -> Option<Self> {
        let mut running = running();
        let operations = running.entry(path.to_owned()).or_default();
        if *operations >= OPERATIONS_MAX {
            return None;
        }
        *operations += 1;
        Some(Self(path.to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = running();
        match running.get_mut(&self.0) {
            Some(operations) if *operations > 1 => *operations -= 1,
            Some(_) | None => {
                running.remove(&self.0);
            }
        }
    }
}

fn running() -> MutexGuard<'static, BTreeMap<PathBuf, usize>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

const CAUSES: &str = "its mount hangs, or it is a pipe without a writer";

/// The number of operations that run, by path. Of the process, as its threads are.
static RUNNING: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// A file server that fails over responds again within seconds. A reload can wait for it, and serves
/// meanwhile.
const FILE_TIME_MAX: Duration = Duration::from_secs(5);
/// One for each reload that an operator tries while the file hangs. Each that hangs costs a thread.
const OPERATIONS_MAX: usize = 4;
/// The operations read a file into memory.
const STACK_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn an_operation_that_hangs_is_given_up_and_bounded() {
        let path = Path::new("/a/file/that/hangs");
        let (release, released) = channel::<()>();
        let mut released = Some(released);
        let first = within_limit(path, {
            let released = released.take().unwrap();
            move |_| released.recv()
        });
        assert!(matches!(first, Err(FileHangs::TimedOut)), "{first:?}");
        assert!(is_running(path));
        // Another file, and the same one again, are not kept from being read.
        assert_eq!(within_limit(Path::new("/another"), |_| 1).unwrap(), 1);
        assert_eq!(within_limit(path, |_| 2).unwrap(), 2);
        let more: Vec<_> = (1..OPERATIONS_MAX).map(|_| Running::start(path).unwrap()).collect();
        assert!(matches!(within_limit(path, |_| 3), Err(FileHangs::Repeated)));
        drop(more);
        drop(release);
        while is_running(path) {
            thread::yield_now();
        }
        assert_eq!(within_limit(path, |_| 4).unwrap(), 4);
    }
}
