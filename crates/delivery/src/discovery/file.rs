//! A file as a source of the fleet: another program lists the instances in it, and replaces it.

use std::{path::PathBuf, sync::Arc};

use openssl::sha::sha256;
use tokio::{
    task::spawn_blocking,
    time::{Duration, Instant, sleep},
};

use super::source::{EMPTY_HOLD, INSTANCES_MAX, SourceError, SourceLog};
use crate::{
    delivery::Delivery,
    member::Member,
    settings::{FileInstance, FileSettings, ParsedFile},
};

/// Follows a file.
pub(super) struct File<'s> {
    settings: &'s FileSettings,
    /// The last content, whether or not it was usable.
    last: Option<Content>,
    empty_since: Option<Instant>,
    log: SourceLog,
}

/// A content that was read.
struct Content {
    digest: [u8; 32],
    /// The files that it names, each with a digest.
    named: Arc<[(PathBuf, [u8; 32])]>,
    /// True if it lists no instance; an error if it is not usable.
    is_empty: Result<bool, SourceError>,
}

/// A read of the file.
#[derive(Debug)]
enum Read {
    /// The content is the last one, and so are those of the files that it names.
    Same,
    /// Another content, and its instances.
    New([u8; 32], ParsedFile),
}

impl<'s> File<'s> {
    pub(super) fn new(settings: &'s FileSettings) -> Self {
        Self { settings, last: None, empty_since: None, log: SourceLog::default() }
    }

    /// Reads the file whenever [`INTERVAL`] has passed since the last read has ended, so one read at most is
    /// under way.
    pub(super) async fn follow(mut self, delivery: &Delivery) {
        loop {
            let read = self.read().await;
            self.apply(read, delivery, Instant::now());
            sleep(INTERVAL).await;
        }
    }

    async fn read(&self) -> Result<Read, SourceError> {
        let file = Arc::clone(&self.settings.file);
        let last = self.last.as_ref().map(|last| (last.digest, Arc::clone(&last.named)));
        let reading = spawn_blocking(move || {
            let content = file.read().map_err(SourceError::Unreadable)?;
            // The time of change may be the same after two changes, so the content is compared.
            let digest = sha256(&content);
            let is_same = last.is_some_and(|(last, named)| {
                last == digest && named.iter().all(|(path, digest)| file.digest(path) == *digest)
            });
            if is_same { Ok(Read::Same) } else { Ok(Read::New(digest, file.parse(&content))) }
        });
        let panicked = |_| SourceError::Unreadable("reading it ended by a panic: report it as a bug".into());
        reading.await.map_err(panicked)?
    }

    /// Applies the instances that were read. What cannot be read changes nothing.
    ///
    /// An empty list means that the fleet has no instances, or that its writer found none by mistake. Keep
    /// the current instances for [`EMPTY_HOLD`], during which the file must be readable. At a start the fleet
    /// is not known for this time, so no callback is refused for good.
    fn apply(&mut self, read: Result<Read, SourceError>, delivery: &Delivery, now: Instant) {
        let members = match read {
            Ok(Read::Same) => None,
            Ok(Read::New(digest, ParsedFile { instances, named })) => {
                let parsed = instances.map_err(SourceError::Malformed).and_then(checked);
                let is_empty = parsed.as_ref().map(Vec::is_empty).map_err(Clone::clone);
                self.last = Some(Content { digest, named: named.into(), is_empty });
                let mut names = delivery.fleet.load().origins().names();
                parsed.ok().map(|instances| Member::from_file(instances, &mut names))
            }
            Err(error) => return self.failed(&error, delivery, now),
        };
        let Some(Content { is_empty, .. }) = &self.last else { return };
        match is_empty.clone() {
            Err(error) => self.failed(&error, delivery, now),
            Ok(true) => {
                let since = *self.empty_since.get_or_insert(now);
                if now.saturating_duration_since(since) < EMPTY_HOLD {
                    self.log.failed(&self.source(), &SourceError::Empty, &delivery.source_times, now);
                } else {
                    self.log.succeeded(&self.source());
                    delivery.apply_members(Vec::new());
                }
            }
            Ok(false) => {
                self.empty_since = None;
                self.log.succeeded(&self.source());
                match members {
                    Some(members) => delivery.apply_members(members),
                    None => delivery.source_times.source_answered(),
                }
            }
        }
    }

    fn failed(&mut self, error: &SourceError, delivery: &Delivery, now: Instant) {
        self.empty_since = None;
        self.log.failed(&self.source(), error, &delivery.source_times, now);
    }

    /// The path, for the log.
    fn source(&self) -> String {
        self.settings.path.to_string_lossy().escape_debug().to_string()
    }
}

fn checked(instances: Vec<FileInstance>) -> Result<Vec<FileInstance>, SourceError> {
    let count = instances.len();
    if count > INSTANCES_MAX { Err(SourceError::TooMany { count }) } else { Ok(instances) }
}

/// The pause between two reads: a drain applies within seconds, and a read of a usual file costs less than
/// that of a probe.
const INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
