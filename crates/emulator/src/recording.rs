//! Recorded notifications: the recorder, its file, and the calls in it.
//!
//! A recorder stands between a tunnel and a bot or gateway. It forwards each request unchanged and saves it
//! without secrets and without personal data (`scrub`). The file is described in docs/emulator.md.

mod calls;
mod file;
mod pseudonyms;
mod recorder;
mod scrub;
mod shapes;
mod words;

pub use self::{
    calls::{RecordedCall, ReplayError, ReplaySettings},
    file::{InvalidRecording, RECORDING_BYTES_MAX, Recording},
    recorder::{NotificationRecorder, Received, RecorderSettings, RecorderStartError},
};
