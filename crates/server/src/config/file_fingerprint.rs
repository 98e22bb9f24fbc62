//! `FileFingerprint`: tells that a file changed, without reading it.

use std::{path::Path, time::SystemTime};

use super::file_time::{FileHangs, within_limit};

/// The time of change and the size of a file; nothing for a file that is absent. Another value means that the
/// file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFingerprint(Option<(SystemTime, u64)>);

impl FileFingerprint {
    /// Follows symbolic links: Kubernetes replaces a link to replace a mounted secret.
    ///
    /// # Errors
    ///
    /// The file does not respond.
    pub(crate) fn of(path: &Path) -> Result<Self, FileHangs> {
        let read = within_limit(path, |path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        });
        read.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_has_another_fingerprint_and_an_absent_one_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        let of = || FileFingerprint::of(&path).unwrap();
        let absent = of();
        std::fs::write(&path, "one").unwrap();
        let first = of();
        assert_eq!(first, of());
        assert_ne!(first, absent);
        // The link that is replaced has the same path, and the files may have the same size.
        let other = folder.path().join("other");
        std::fs::write(&other, "longer").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_ne!(of(), first);
        assert_eq!(of(), FileFingerprint::of(&other).unwrap());
    }
}
