//! File work of the running process, off the thread that accepts connections: reading a configuration with
//! all of its files, and looking for a new certificate.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use crate::{
    clients::authorities::Authorities,
    config::{Config, Problems},
    process::{
        certificate::{Certificate, CertificateError, CertificateFiles},
        server::loaded::{LoadError, LoadedConfig},
    },
};

/// The file work of the process: at most one reload, and one look for a new certificate.
pub(super) struct FileTasks {
    load: Arc<LoadConfig>,
    reload: FileTask<Result<LoadedConfig, LoadError>>,
    /// A reload was requested while one ran: the files may have changed since it read them.
    is_reload_due: bool,
    renewal: FileTask<(CertificateFiles, Option<Result<Certificate, CertificateError>>)>,
}

/// Reads the configuration.
pub(super) type LoadConfig = dyn Fn() -> Result<Config, Problems> + Send + Sync;

/// File work that ended.
#[derive(Debug)]
pub(super) enum Finished {
    /// The configuration was read.
    Reload(Box<Result<Result<LoadedConfig, LoadError>, FileWorkError>>),
    /// The files of the certificate were looked at. They have a new one, or one that cannot be used, if any.
    Renewal(CertificateFiles, Option<Result<Certificate, CertificateError>>),
}

impl FileTasks {
    pub(super) fn new(load: Arc<LoadConfig>) -> Self {
        let (reload, renewal) = (FileTask::new(), FileTask::new());
        Self { load, reload, is_reload_due: false, renewal }
    }

    /// Reads the configuration: now, or again after the reload that runs. `last` are the authorities of the
    /// system when they were last read.
    pub(super) fn reload(&mut self, last: &Arc<Authorities>) {
        if self.reload.is_running() {
            self.is_reload_due = true;
            return;
        }
        self.is_reload_due = false;
        let (load, last) = (Arc::clone(&self.load), Arc::clone(last));
        self.reload.start(move || LoadedConfig::of(load()?, Some(&last)));
    }

    /// True if a reload was requested that has not started.
    pub(super) fn is_reload_due(&self) -> bool {
        self.is_reload_due
    }

    /// Looks for a new certificate in `files`, which [`Self::finished`] returns.
    pub(super) fn renew(&mut self, files: CertificateFiles) {
        self.renew_by(files, CertificateFiles::reread);
    }

    /// The same, with another way to look. A panic in it costs this renewal alone: `files` are returned.
    fn renew_by(&mut self, mut files: CertificateFiles, reread: Reread) {
        self.renewal.start(move || {
            let renewed = catch_unwind(AssertUnwindSafe(|| reread(&mut files)));
            // The panic hook has logged its place.
            (files, renewed.unwrap_or(Some(Err(CertificateError::Panicked))))
        });
    }

    /// Gives up the look for a new certificate: its files are no longer those of the configuration.
    pub(super) fn cancel_renewal(&mut self) {
        self.renewal.running = None;
    }

    /// Waits for the end of file work; forever without any. Can be cancelled and called again.
    pub(super) async fn finished(&mut self) -> Finished {
        loop {
            tokio::select! {
                loaded = self.reload.finished() => return Finished::Reload(Box::new(loaded)),
                // Its files have limits of their own, and a panic in it is contained, so it always ends.
                renewed = self.renewal.finished() => if let Ok((files, renewed)) = renewed {
                    return Finished::Renewal(files, renewed);
                },
            }
        }
    }
}

/// Looks for a new certificate.
type Reread = fn(&mut CertificateFiles) -> Option<Result<Certificate, CertificateError>>;

/// At most one piece of file work of a kind.
#[derive(Debug)]
struct FileTask<T> {
    running: Option<(JoinHandle<T>, Instant)>,
}

/// File work without a result.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileWorkError {
    /// It did not end in time.
    #[error("its files were not read in {} s: a mount hangs", FILE_WORK_TIME_MAX.as_secs())]
    TimedOut,
    /// The panic hook has logged the place.
    #[error("reading its files ended by a panic: report it as a bug")]
    Panicked,
}

impl<T: Send + 'static> FileTask<T> {
    fn new() -> Self {
        Self { running: None }
    }

    /// Starts `work` on a thread for blocking work. Work that still runs is given up.
    fn start(&mut self, work: impl FnOnce() -> T + Send + 'static) {
        self.running = Some((spawn_blocking(work), Instant::now() + FILE_WORK_TIME_MAX));
    }

    /// True from the start of work until its result was returned.
    fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Returns the result of the work; waits forever without work. Can be cancelled and called again.
    async fn finished(&mut self) -> Result<T, FileWorkError> {
        let Some((work, deadline)) = &mut self.running else { return std::future::pending().await };
        let finished = timeout_at(*deadline, work).await;
        self.running = None;
        finished.map_or(Err(FileWorkError::TimedOut), |result| result.map_err(|_| FileWorkError::Panicked))
    }
}

/// Each file has a shorter limit of its own, which names the file. This limit is for several files that hang,
/// and for files that OpenSSL reads.
const FILE_WORK_TIME_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::config::{TlsFiles, tests::certificate};

    #[tokio::test]
    async fn work_that_is_awaited_in_pieces_returns_its_result_once() {
        let mut task = FileTask::new();
        let (release, released) = channel();
        task.start(move || released.recv().unwrap());
        assert!(tokio::time::timeout(Duration::from_millis(1), task.finished()).await.is_err());
        assert!(task.is_running());
        release.send(7).unwrap();
        assert_eq!(task.finished().await.unwrap(), 7);
        assert!(!task.is_running());
    }

    #[tokio::test]
    async fn a_panic_of_the_work_is_an_error() {
        let mut task = FileTask::<()>::new();
        task.start(|| panic!("a bug"));
        assert!(matches!(task.finished().await, Err(FileWorkError::Panicked)));
    }

    /// Waits for a renewal. One that is lost never ends.
    async fn renewal(
        tasks: &mut FileTasks,
    ) -> (CertificateFiles, Option<Result<Certificate, CertificateError>>) {
        let finished = tokio::time::timeout(Duration::from_secs(30), tasks.finished()).await;
        let Ok(Finished::Renewal(files, renewed)) = finished else { panic!("{finished:?}") };
        (files, renewed)
    }

    #[tokio::test]
    async fn a_renewal_that_panics_does_not_end_the_renewals() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: folder.path().join("crt"), key: folder.path().join("key") };
        let write = |comment: &str| {
            let (certificate, key) = certificate();
            std::fs::write(&files.certificate, [comment.as_bytes(), &certificate].concat()).unwrap();
            std::fs::write(&files.key, key).unwrap();
        };
        write("");
        let (opened, _) = CertificateFiles::open(files.clone()).unwrap();
        let mut tasks = FileTasks::new(Arc::new(|| unreachable!("no reload")));

        tasks.renew_by(opened, |_| panic!("a bug"));
        let (kept, renewed) = renewal(&mut tasks).await;
        assert!(matches!(renewed, Some(Err(CertificateError::Panicked))), "{renewed:?}");

        write("# another size\n");
        tasks.renew(kept);
        let (_, renewed) = renewal(&mut tasks).await;
        assert!(matches!(renewed, Some(Ok(_))), "{renewed:?}");
    }
}
