//! `Store`: the last usable key set of a trust on disk, so that a process that starts while the issuer does
//! not respond can check tokens.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::Builder;
use url::Url;

use crate::{
    KeySet,
    clock::{SKEW, unix_seconds},
};

/// One file per trust. Several processes may share the folder: a file is replaced by a rename, so each reader
/// sees a complete file, and the last writer has the newest keys.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    trust: Arc<str>,
    metadata: Url,
    ca_digest: Option<[u8; 32]>,
}

/// A stored set: the parts of both documents that verification needs, and their age.
#[derive(Debug)]
pub(crate) struct StoredKeys {
    pub(crate) keys: KeySet,
    pub(crate) metadata_issuer: Option<Box<str>>,
    pub(crate) age: Duration,
}

impl Store {
    pub(crate) fn new(folder: PathBuf, trust: Arc<str>, metadata: Url, ca_digest: Option<[u8; 32]>) -> Self {
        Self { folder, trust, metadata, ca_digest }
    }

    /// Returns the set if there is a file, it belongs to this trust, and it is not older than `keep_stale`.
    /// `now` is in Unix seconds.
    pub(crate) fn read(&self, now: u64, keep_stale: Duration) -> Result<Option<StoredKeys>, StoreError> {
        let mut bytes = Vec::new();
        match OpenOptions::new().read(true).open(self.path()) {
            Ok(file) => {
                let metadata = file.metadata().map_err(StoreError::Read)?;
                if is_for_others(&metadata) || key_store_is_writable_by_others(&self.folder) {
                    return Err(StoreError::WritableByOthers);
                }
                file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(StoreError::Read)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Read(error)),
        };
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            return Err(StoreError::Malformed);
        }
        let file: StoredFile = serde_json::from_slice(&bytes).map_err(|_| StoreError::Malformed)?;
        // A file must not bring back the keys of another trust, or of an address that is no longer trusted.
        if file.version != VERSION || file.trust != *self.trust || file.metadata != self.metadata.as_str() {
            return Err(StoreError::OtherTrust);
        }
        // The former authorities may have been compromised.
        if file.ca != self.ca() {
            return Err(StoreError::OtherCa);
        }
        if file.fetched_at > now.saturating_add(SKEW) {
            return Err(StoreError::FromTheFuture);
        }
        let age = Duration::from_secs(now.saturating_sub(file.fetched_at));
        if age > keep_stale {
            return Err(StoreError::TooOld);
        }
        let document =
            serde_json::to_vec(&StoredKeySet { keys: file.keys }).map_err(|_| StoreError::Malformed)?;
        let keys = KeySet::parse(&document).map_err(|_| StoreError::Malformed)?;
        if keys.is_empty() {
            return Err(StoreError::Malformed);
        }
        Ok(Some(StoredKeys { keys, metadata_issuer: file.issuer.map(String::into_boxed_str), age }))
    }

    /// Returns the bytes of the file for `keys`, which were fetched at `now` in Unix seconds.
    pub(crate) fn encode(
        &self,
        keys: &KeySet,
        metadata_issuer: Option<&str>,
        now: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let keys = keys
            .published()
            .into_iter()
            .map(|key| StoredKey {
                kty: "RSA".to_owned(),
                r#use: "sig".to_owned(),
                kid: key.key_id.to_owned(),
                alg: key.algorithm.map(str::to_owned),
                n: key.modulus,
                e: "AQAB".to_owned(),
                issuer: key.issuer.map(str::to_owned),
            })
            .collect();
        let file = StoredFile {
            version: VERSION,
            trust: self.trust.to_string(),
            metadata: self.metadata.to_string(),
            ca: self.ca(),
            fetched_at: now,
            issuer: metadata_issuer.map(str::to_owned),
            keys,
        };
        serde_json::to_vec(&file).map_err(|error| StoreError::Write(error.into()))
    }

    /// Replaces the file. Only this process's user may read or change it: its content determines which tokens
    /// are accepted.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace(bytes).map_err(StoreError::Write)
    }

    /// The temporary file can be read by this process's user only, and is removed after an error.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        create_private_folder(&self.folder)?;
        let prefix = self.temporary_prefix();
        let mut file = Builder::new().prefix(&prefix).suffix(TEMPORARY).tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        // Without it, a power failure could leave an empty file.
        file.as_file().sync_all()?;
        file.persist(self.path())?;
        Ok(())
    }

    /// Removes temporary files that a process left behind when it crashed. A younger file may be in use by a
    /// process that shares the folder. `now` is in Unix seconds.
    pub(crate) fn remove_leftovers(&self, now: u64) {
        let prefix = self.temporary_prefix();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_temporary =
                name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(TEMPORARY));
            let modified = || entry.metadata().ok()?.modified().ok().map(unix_seconds);
            let age_s = modified().map_or(0, |modified| now.saturating_sub(modified));
            if is_temporary && age_s > LEFTOVER_AGE_SECONDS {
                // Another process may have removed it.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn temporary_prefix(&self) -> String {
        format!("{}.", self.trust)
    }

    /// Returns the digest of the authorities in hexadecimal.
    fn ca(&self) -> Option<String> {
        let hexadecimal = |digest: &[u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.ca_digest.as_ref().map(hexadecimal)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.trust))
    }
}

/// An error of reading or writing a stored set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    #[error("cannot write the file")]
    Write(#[source] io::Error),
    #[error("other users may write the file or its folder: its keys prove nothing; remove it")]
    WritableByOthers,
    #[error("the file is not a stored key set")]
    Malformed,
    #[error("the file is of another trust or version")]
    OtherTrust,
    #[error("another ca vouched for the keys")]
    OtherCa,
    #[error("the keys were fetched in the future")]
    FromTheFuture,
    #[error("the keys are older than keys.keep_stale")]
    TooOld,
}

/// Returns true if users other than the owner may write the folder of a key store, and so decide which tokens
/// are accepted. A folder that does not exist yet is created for the owner alone. It may wait for the disk.
pub fn key_store_is_writable_by_others(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| is_for_others(&metadata))
}

/// The owner may write, whatever the mode: it must be this process's user or root.
#[cfg(unix)]
fn is_for_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let is_ours = metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw();
    !is_ours || metadata.mode() & 0o022 != 0
}

/// Nothing here reads an access control list, so nothing shows that a file is this user's alone. Its keys are
/// not used.
#[cfg(not(unix))]
fn is_for_others(_: &fs::Metadata) -> bool {
    true
}

/// Creates the folder and its parents, for this process's user only.
fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    // Elsewhere the access control list of the parent applies.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The end of the name of a temporary file.
const TEMPORARY: &str = ".tmp";

/// Writing a file takes milliseconds, or minutes on a disk that hangs.
const LEFTOVER_AGE_SECONDS: u64 = 3600;

/// The JSON of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    version: u32,
    trust: String,
    metadata: String,
    /// The digest of the authorities that vouched for the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// In Unix seconds.
    fetched_at: u64,
    issuer: Option<String>,
    keys: Vec<StoredKey>,
}

/// A key in its published form, so that reading applies the rules for published keys again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    kty: String,
    r#use: String,
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    n: String,
    e: String,
    issuer: Option<String>,
}

/// RFC 7517 section 5.
#[derive(Serialize)]
struct StoredKeySet {
    keys: Vec<StoredKey>,
}

/// The version of the file's format.
const VERSION: u32 = 1;

/// Several times the size of 64 keys of 4096 bits with long issuers.
const FILE_BYTES_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::os::unix::fs::PermissionsExt;
    use std::{fs::FileTimes, time::SystemTime};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const KEEP: Duration = Duration::from_secs(24 * 3600);

    fn store(folder: &Path) -> Store {
        Store::new(
            folder.join("a/keys"),
            "skype".into(),
            Url::parse("https://a.example/metadata").unwrap(),
            None,
        )
    }

    fn keys() -> KeySet {
        KeySet::parse(include_bytes!("../../../fixtures/jwks/skype.json")).unwrap()
    }

    fn written(folder: &Path) -> Store {
        let store = store(folder);
        store.write(&store.encode(&keys(), Some("https://i"), NOW).unwrap()).unwrap();
        store
    }

    #[track_caller]
    fn check(change: impl FnOnce(&Store), now: u64, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let store = written(folder.path());
        change(&store);
        let found = match store.read(now, KEEP) {
            Ok(None) => "no file".to_owned(),
            Ok(Some(stored)) => format!("{} keys of {} s", stored.keys.len(), stored.age.as_secs()),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn written_keys_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let stored = written(folder.path()).read(NOW + 60, KEEP).unwrap().unwrap();
        assert!(stored.keys.verifies_like(&keys()));
        assert_eq!(stored.metadata_issuer.as_deref(), Some("https://i"));
        assert_eq!(stored.age, Duration::from_secs(60));
    }

    #[test]
    fn a_key_keeps_its_algorithm() {
        let published = include_str!("../../../fixtures/jwks/skype.json");
        for alg in ["RS256", "PS256"] {
            let one = published.replacen("\"kty\"", &format!("\"alg\":\"{alg}\",\"kty\""), 1);
            let one = KeySet::parse(one.as_bytes()).unwrap();
            assert!(!one.verifies_like(&keys()));
            let folder = tempfile::tempdir().unwrap();
            let store = store(folder.path());
            store.write(&store.encode(&one, None, NOW).unwrap()).unwrap();
            assert!(store.read(NOW, KEEP).unwrap().unwrap().keys.verifies_like(&one));
        }
    }

    #[test]
    fn keys_older_than_keep_stale_are_not_used() {
        check(|_| (), NOW + 24 * 3600, "2 keys of 86400 s");
        check(|_| (), NOW + 24 * 3600 + 1, "the keys are older than keys.keep_stale");
    }

    #[test]
    fn a_clock_may_go_back_by_the_skew() {
        check(|_| (), NOW - 300, "2 keys of 0 s");
        check(|_| (), NOW - 301, "the keys were fetched in the future");
    }

    #[test]
    fn other_files_are_refused() {
        let replace = |text: &'static str| move |store: &Store| fs::write(store.path(), text).unwrap();
        check(replace(""), NOW, "the file is not a stored key set");
        check(replace("{}"), NOW, "the file is not a stored key set");
        check(
            |store| fs::write(store.path(), vec![b' '; 300 * 1024]).unwrap(),
            NOW,
            "the file is not a stored key set",
        );
        check(
            |store| {
                let whole = fs::read(store.path()).unwrap();
                fs::write(store.path(), &whole[..whole.len() / 2]).unwrap();
            },
            NOW,
            "the file is not a stored key set",
        );
        check(
            |store| {
                let text = fs::read_to_string(store.path()).unwrap();
                fs::write(store.path(), text.replace("\"skype\"", "\"entra\"")).unwrap();
            },
            NOW,
            "the file is of another trust or version",
        );
        check(
            |store| {
                let text = fs::read_to_string(store.path()).unwrap();
                fs::write(store.path(), text.replace("a.example", "b.example")).unwrap();
            },
            NOW,
            "the file is of another trust or version",
        );
        check(|store| fs::remove_file(store.path()).unwrap(), NOW, "no file");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_and_no_temporary_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = written(folder.path());
        store.write(&store.encode(&keys(), None, NOW).unwrap()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path()), 0o600);
        assert_eq!(mode(store.path().parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(store.path().parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_write_is_not_read() {
        let allow = |mode| {
            move |store: &Store| fs::set_permissions(store.path(), fs::Permissions::from_mode(mode)).unwrap()
        };
        let problem = "other users may write the file or its folder: its keys prove nothing; remove it";
        check(allow(0o644), NOW, "2 keys of 0 s");
        check(allow(0o620), NOW, problem);
        check(allow(0o602), NOW, problem);
        let open_folder = |store: &Store| {
            let folder = store.path().parent().unwrap().to_owned();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        };
        check(open_folder, NOW, problem);
    }

    #[test]
    fn keys_of_another_ca_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let with = |ca_digest| Store { ca_digest, ..store(folder.path()) };
        for (written, read) in [(None, Some([1; 32])), (Some([1; 32]), Some([2; 32])), (Some([1; 32]), None)]
        {
            let bytes = with(written).encode(&keys(), None, NOW).unwrap();
            with(written).write(&bytes).unwrap();
            assert_eq!(with(written).read(NOW, KEEP).unwrap().unwrap().keys.len(), 2);
            assert!(matches!(with(read).read(NOW, KEEP), Err(StoreError::OtherCa)));
        }
    }

    #[test]
    fn old_temporary_files_of_the_trust_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = written(folder.path());
        let place = store.path().parent().unwrap().to_owned();
        let create = |name: &str, age_s: u64| {
            let file = fs::File::create(place.join(name)).unwrap();
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - age_s);
            file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        };
        let old = LEFTOVER_AGE_SECONDS + 1;
        create("skype.Ab12.tmp", old);
        create("skype.new.tmp", LEFTOVER_AGE_SECONDS);
        create("entra.Ab12.tmp", old);
        create("skype.old", old);
        store.remove_leftovers(NOW);
        let mut left: Vec<_> =
            fs::read_dir(&place).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["entra.Ab12.tmp", "skype.json", "skype.new.tmp", "skype.old"]);
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "a file").unwrap();
        let store = store(folder.path());
        assert!(matches!(store.write(b"{}"), Err(StoreError::Write(_))));
    }
}
