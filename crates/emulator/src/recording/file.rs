//! The file of a recording: one JSON document, which is whole after each notification.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock;

/// The notifications that a recorder received.
#[derive(Clone, Debug)]
pub struct Recording {
    pub(super) notifications: Vec<RecordedNotification>,
}

/// One notification, without secrets and personal data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedNotification {
    /// The time of its arrival, in milliseconds since the first one arrived.
    pub(super) at_ms: u64,
    /// The known headers of the platform.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// The names of all other headers. Their values were removed.
    #[serde(default)]
    pub(super) removed_headers: Vec<String>,
    pub(super) body: Value,
    /// The status that the bot or the gateway responded; 502 if there was no response.
    pub(super) status: u16,
}

/// A text is not a recording that this version can play.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecording {
    /// The text is not JSON, or lacks a member.
    #[error("not a recording of `switchboard-emulator listen`: {0}")]
    Form(serde_json::Error),
    /// The file has another version.
    #[error("the recording has version {found}; this program reads version {VERSION}")]
    Version {
        /// The version in the file, or `null`.
        found: Value,
    },
    /// Nothing in the recording can be played.
    #[error("the recording has no notification of a call")]
    Empty,
}

impl Recording {
    /// Reads the text of a recording.
    ///
    /// # Errors
    /// The text is not a recording, has another version, or is empty.
    pub fn parse(text: &str) -> Result<Self, InvalidRecording> {
        #[derive(Deserialize)]
        struct Document {
            notifications: Vec<RecordedNotification>,
        }

        let document: Value = serde_json::from_str(text).map_err(InvalidRecording::Form)?;
        let found = document.get(VERSION_MEMBER).cloned().unwrap_or_default();
        if found != VERSION {
            return Err(InvalidRecording::Version { found });
        }
        let Document { mut notifications } =
            serde_json::from_value(document).map_err(InvalidRecording::Form)?;
        if notifications.is_empty() {
            return Err(InvalidRecording::Empty);
        }
        // A notification is saved when its response is known, so a slow one comes late.
        notifications.sort_by_key(|notification| notification.at_ms);
        Ok(Self { notifications })
    }
}

/// The writer of a recording.
#[derive(Debug)]
pub(super) struct RecordingFile {
    path: PathBuf,
    file: File,
    /// The place of the end of the list.
    end: u64,
    empty: bool,
}

impl RecordingFile {
    /// Creates a new file in a folder, and the folder if it is absent. Only its owner can read the file.
    pub(super) fn create(folder: &Path, now: SystemTime) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let date = clock::graph_date(now).replace(['-', ':'], "");
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        for number in 1..=FILES_PER_SECOND_MAX {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let path = folder.join(format!("recording-{date}Z{suffix}.json"));
            match options.open(&path) {
                Ok(mut file) => {
                    let head = format!("{{\"{VERSION_MEMBER}\": {VERSION}, \"notifications\": [\n");
                    file.write_all(format!("{head}{TAIL}").as_bytes())?;
                    let end = u64::try_from(head.len()).unwrap_or(0);
                    return Ok(Self { path, file, end, empty: true });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a notification. Returns false if the file is full.
    pub(super) fn append(&mut self, notification: &RecordedNotification) -> io::Result<bool> {
        let entry = serde_json::to_string(notification).map_err(io::Error::other)?;
        let separator = if self.empty { "" } else { ",\n" };
        let added = u64::try_from(separator.len() + entry.len()).unwrap_or(u64::MAX);
        if self.end.saturating_add(added) > RECORDING_BYTES_MAX - TAIL_BYTES {
            return Ok(false);
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        // One write: a process that is killed meanwhile leaves the file without its last notification.
        self.file.write_all(format!("{separator}{entry}{TAIL}").as_bytes())?;
        self.end = self.end.saturating_add(added);
        self.empty = false;
        Ok(true)
    }
}

const VERSION_MEMBER: &str = "switchboard_recording";
const VERSION: u32 = 1;
const TAIL: &str = "\n]}\n";
const TAIL_BYTES: u64 = 4;
const FILES_PER_SECOND_MAX: u32 = 100;

/// The size of a recording. `listen` saves no more, and `replay` reads no more.
pub const RECORDING_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::json;

    use super::*;

    fn notification(at_ms: u64) -> RecordedNotification {
        let headers = BTreeMap::from([("scenario-id".to_owned(), "x".to_owned())]);
        let removed_headers = vec!["authorization".to_owned()];
        RecordedNotification { at_ms, headers, removed_headers, body: json!({"value": []}), status: 202 }
    }

    #[test]
    fn the_file_is_whole_after_each_notification_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RecordingFile::create(folder.path(), UNIX_EPOCH).unwrap();
        let text = || fs::read_to_string(folder.path().join("recording-19700101T000000Z.json")).unwrap();
        assert!(matches!(Recording::parse(&text()), Err(InvalidRecording::Empty)), "{}", text());
        for at_ms in [5, 0] {
            assert!(file.append(&notification(at_ms)).unwrap());
            Recording::parse(&text()).unwrap();
        }
        let read = Recording::parse(&text()).unwrap().notifications;
        assert_eq!(read, [notification(0), notification(5)]);
        let second = RecordingFile::create(folder.path(), UNIX_EPOCH).unwrap();
        assert!(second.path().ends_with("recording-19700101T000000Z-2.json"));
    }

    #[test]
    fn a_full_file_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RecordingFile::create(folder.path(), UNIX_EPOCH).unwrap();
        file.end = RECORDING_BYTES_MAX - 100;
        assert!(!file.append(&notification(0)).unwrap());
    }

    #[test]
    fn another_document_is_refused_with_its_version() {
        for (text, expected) in [
            ("{", "not a recording of `switchboard-emulator listen`: EOF"),
            ("{}", "the recording has version null; this program reads version 1"),
            (r#"{"switchboard_recording":2}"#, "has version 2"),
            (r#"{"switchboard_recording":1}"#, "missing field `notifications`"),
            (r#"{"switchboard_recording":1,"notifications":[]}"#, "no notification of a call"),
        ] {
            let error = Recording::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
