//! The operations of the calls API: their names, their results, and when the bot learns them.

use std::{collections::VecDeque, str::FromStr, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    wav,
    words::{InvalidWord, word_in_any_case, words},
};

words! {
    /// An operation, by the name in its path (Graph reference, "commsOperation").
    pub enum OperationKind {
        /// Prompts are played.
        PlayPrompt = "playPrompt",
        /// A short recording is made.
        RecordResponse = "recordResponse",
        /// The bot listens for keys.
        SubscribeToTone = "subscribeToTone",
        /// Prompts and recordings are cancelled.
        CancelMediaProcessing = "cancelMediaProcessing",
        /// The bot or a participant is muted.
        Mute = "mute",
        /// The bot is unmuted.
        Unmute = "unmute",
        /// A recording is announced or ended.
        UpdateRecordingStatus = "updateRecordingStatus",
        /// The bot presses keys.
        SendDtmfTones = "sendDtmfTones",
        /// The large gallery view is added.
        AddLargeGalleryView = "addLargeGalleryView",
        /// The bot raises its hand.
        RaiseHand = "raiseHand",
        /// The bot lowers its hand.
        LowerHand = "lowerHand",
        /// People are invited.
        Invite = "invite",
        /// A participant hears music.
        StartHoldMusic = "startHoldMusic",
        /// A participant hears the call again.
        StopHoldMusic = "stopHoldMusic",
        /// Everyone in the lobby is admitted.
        AdmitAllFromLobby = "admitAllFromLobby",
        /// All hands are lowered.
        LowerAllHands = "lowerAllHands",
    }
}

impl OperationKind {
    /// Returns the type of the resource, like `#microsoft.graph.playPromptOperation`.
    pub(crate) fn odata_type(self) -> String {
        let name = match self {
            Self::RecordResponse => "record",
            Self::Mute => "muteParticipant",
            Self::Unmute => "unmuteParticipant",
            Self::Invite => "inviteParticipants",
            // The reference has no type of its own for these.
            Self::RaiseHand | Self::LowerHand | Self::AdmitAllFromLobby | Self::LowerAllHands => "comms",
            Self::PlayPrompt
            | Self::SubscribeToTone
            | Self::CancelMediaProcessing
            | Self::UpdateRecordingStatus
            | Self::SendDtmfTones
            | Self::AddLargeGalleryView
            | Self::StartHoldMusic
            | Self::StopHoldMusic => self.label(),
        };
        format!("#microsoft.graph.{name}Operation")
    }

    /// Returns the name in the timeline of the call.
    pub(crate) fn step_label(self) -> &'static str {
        match self {
            Self::PlayPrompt => "play prompt",
            Self::RecordResponse => "record response",
            Self::SubscribeToTone => "subscribe to tone",
            Self::CancelMediaProcessing => "cancel media processing",
            Self::Mute => "mute",
            Self::Unmute => "unmute",
            Self::UpdateRecordingStatus => "recording status",
            Self::SendDtmfTones => "send tones",
            Self::AddLargeGalleryView => "add large gallery view",
            Self::RaiseHand => "raise hand",
            Self::LowerHand => "lower hand",
            Self::Invite => "invite",
            Self::StartHoldMusic => "start hold music",
            Self::StopHoldMusic => "stop hold music",
            Self::AdmitAllFromLobby => "admit all",
            Self::LowerAllHands => "lower all hands",
        }
    }

    /// Finds the operation that a path or an option names.
    pub(crate) fn named(text: &str) -> Option<Self> {
        word_in_any_case(text, Self::WORDS)?.parse().ok()
    }
}

words! {
    /// The status of an operation.
    pub(crate) enum OperationStatus {
        /// The operation goes on.
        Running = "running",
        /// The operation is done.
        Completed = "completed",
        /// The operation failed.
        Failed = "failed",
    }
}

/// The result of an operation that has ended (Graph reference, "resultInfo").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperationResult {
    pub(crate) code: u32,
    pub(crate) subcode: u32,
    pub(crate) message: String,
    /// The `completionReason`, which media operations have.
    pub(crate) reason: Option<&'static str>,
}

impl OperationResult {
    pub(crate) fn new(code: u32, subcode: u32, message: impl Into<String>) -> Self {
        Self { code, subcode, message: message.into(), reason: None }
    }

    /// Returns the result of an operation that is done.
    pub(crate) fn success() -> Self {
        Self::new(200, 0, "Action completed successfully.")
    }

    /// Returns the result of an operation that was cancelled, by the bot or by the end of the call.
    pub(crate) fn cancelled() -> Self {
        let result = Self::new(400, 8_508, "Action failed, the operation was cancelled.");
        Self { reason: Some("operationCanceled"), ..result }
    }

    fn status(&self) -> OperationStatus {
        if self.code < 300 { OperationStatus::Completed } else { OperationStatus::Failed }
    }
}

/// A recording that the bot can download.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Recording {
    pub(crate) id: Uuid,
    pub(crate) location: String,
    pub(crate) access_token: String,
    /// The time for which the person speaks, from the start.
    pub(crate) speech: Duration,
    pub(crate) length: Duration,
}

impl Recording {
    /// Returns the file, if the token is the one of this recording.
    pub(crate) fn file(&self, token: &str) -> Option<Bytes> {
        let (given, own) = (token.as_bytes(), self.access_token.as_bytes());
        let allowed = given.len() == own.len() && openssl::memcmp::eq(given, own);
        allowed.then(|| wav::recording(self.speech, self.length))
    }

    /// Returns the entry of the control API.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "url": self.location,
            "access_token": self.access_token,
            "bytes": wav::recording_bytes(self.length),
        })
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("id", &self.id)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// An operation that Graph accepted.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) id: Uuid,
    pub(crate) kind: OperationKind,
    pub(crate) client_context: String,
    pub(crate) status: OperationStatus,
    /// The result; `None` while it goes on.
    pub(crate) result: Option<OperationResult>,
    pub(crate) recording: Option<Recording>,
}

impl Operation {
    /// An operation that begins.
    pub(crate) fn new(id: Uuid, kind: OperationKind, client_context: String) -> Self {
        let status = OperationStatus::Running;
        Self { id, kind, client_context, status, result: None, recording: None }
    }

    /// Ends it.
    pub(crate) fn end(&mut self, end: OperationEnd) {
        self.status = end.result.status();
        self.result = Some(end.result);
        self.recording = end.recording;
    }

    /// Returns the reason why it failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        let result = self.result.as_ref().filter(|_| self.status == OperationStatus::Failed)?;
        Some(&result.message)
    }

    /// Returns the entry of the control API.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "name": self.kind.label(),
            "client_context": self.client_context,
            "status": self.status.label(),
        })
    }
}

/// The end of an operation.
#[derive(Clone, Debug)]
pub(crate) struct OperationEnd {
    pub(crate) result: OperationResult,
    pub(crate) recording: Option<Recording>,
}

impl From<OperationResult> for OperationEnd {
    fn from(result: OperationResult) -> Self {
        Self { result, recording: None }
    }
}

/// The operations of one call.
#[derive(Debug, Default)]
pub(crate) struct OperationLog {
    /// Oldest first.
    operations: VecDeque<Operation>,
}

impl OperationLog {
    /// Adds an operation; false if too many go on. At the limit the oldest one that has ended is forgotten.
    pub(crate) fn add(&mut self, operation: Operation) -> bool {
        let running = |operation: &&Operation| operation.status == OperationStatus::Running;
        if self.operations.iter().filter(running).count() >= RUNNING_MAX {
            return false;
        }
        if self.operations.len() >= OPERATIONS_MAX {
            let ended = self.operations.iter().position(|operation| !running(&operation));
            ended.and_then(|ended| self.operations.remove(ended));
        }
        self.operations.push_back(operation);
        true
    }

    /// Forgets an operation that was not accepted after all.
    pub(crate) fn remove(&mut self, id: Uuid) {
        self.operations.retain(|operation| operation.id != id);
    }

    /// Ends an operation and returns it; `None` if it has ended before.
    pub(crate) fn end(&mut self, id: Uuid, end: OperationEnd) -> Option<Operation> {
        let operation = self.operations.iter_mut().find(|operation| operation.id == id)?;
        if operation.status != OperationStatus::Running {
            return None;
        }
        operation.end(end);
        Some(operation.clone())
    }

    /// Returns an operation.
    pub(crate) fn find(&self, id: Uuid) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == id)
    }

    /// Returns a recording.
    pub(crate) fn recording(&self, id: Uuid) -> Option<&Recording> {
        let mut recordings = self.operations.iter().filter_map(|operation| operation.recording.as_ref());
        recordings.find(|recording| recording.id == id)
    }

    /// Returns the operations, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter()
    }
}

/// The time when a bot learns the result of an operation.
///
/// `notified` is what Graph does: the response says `running`, and a notification reports the end.
/// `immediate` responds `completed`, which some operations of Microsoft's calling SDK need;
/// `immediate:NAME,…` does so for these operations only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OperationResponses {
    /// Every operation is notified.
    #[default]
    Notified,
    /// The responses of all operations say `completed`.
    Immediate,
    /// The responses of these operations say `completed`.
    ImmediateOf(Vec<OperationKind>),
}

impl OperationResponses {
    /// Returns true if the response says `completed`.
    pub(crate) fn completes(&self, kind: OperationKind) -> bool {
        match self {
            Self::Notified => false,
            Self::Immediate => true,
            Self::ImmediateOf(kinds) => kinds.contains(&kind),
        }
    }
}

impl FromStr for OperationResponses {
    type Err = InvalidOperationResponses;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "notified" => Ok(Self::Notified),
            None if text == "immediate" => Ok(Self::Immediate),
            Some(("immediate", names)) => {
                let kinds = names.split(',').map(|name| {
                    let words = InvalidWord::one_of(OperationKind::WORDS);
                    let unknown = InvalidOperationResponses::Name(words);
                    OperationKind::named(name.trim()).ok_or(unknown)
                });
                Ok(Self::ImmediateOf(kinds.collect::<Result<_, _>>()?))
            }
            _ => Err(InvalidOperationResponses::Form),
        }
    }
}

impl std::fmt::Display for OperationResponses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Notified => f.write_str("notified"),
            Self::Immediate => f.write_str("immediate"),
            Self::ImmediateOf(kinds) => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.label()).collect();
                write!(f, "immediate:{}", names.join(","))
            }
        }
    }
}

/// The text does not say when operations are reported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperationResponses {
    /// The text has another form.
    #[error("must be notified, immediate, or immediate:NAME,… like immediate:recordResponse")]
    Form,
    /// A name is not one of an operation.
    #[error("the name of an operation {0}")]
    Name(InvalidWord),
}

/// As many as wait in the queue of the task that plays the call.
const RUNNING_MAX: usize = 32;
const OPERATIONS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_the_type_of_its_resource() {
        for (name, odata_type) in [
            ("playPrompt", "playPrompt"),
            ("recordresponse", "record"),
            ("Invite", "inviteParticipants"),
            ("mute", "muteParticipant"),
            ("raiseHand", "comms"),
            ("startHoldMusic", "startHoldMusic"),
        ] {
            let kind = OperationKind::named(name).expect("a known name");
            assert_eq!(kind.odata_type(), format!("#microsoft.graph.{odata_type}Operation"));
        }
        assert_eq!(OperationKind::named("levitate"), None);
    }

    #[test]
    fn the_time_of_the_report_reads_back_as_written() {
        for text in ["notified", "immediate", "immediate:playPrompt,recordResponse"] {
            assert_eq!(text.parse::<OperationResponses>().unwrap().to_string(), text);
        }
        let some: OperationResponses = "immediate:RecordResponse, mute".parse().unwrap();
        assert!(some.completes(OperationKind::Mute) && !some.completes(OperationKind::Unmute));
        for (text, expected) in [
            ("", "must be notified, immediate"),
            ("later:mute", "must be notified, immediate"),
            ("immediate:", "the name of an operation must be one of playPrompt"),
            ("immediate:dance", "the name of an operation must be one of playPrompt"),
        ] {
            let error = text.parse::<OperationResponses>().expect_err("invalid").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_operation_ends_once_and_the_log_is_bounded() {
        let mut log = OperationLog::default();
        let operation = |id| Operation::new(Uuid::from_u128(id), OperationKind::Mute, "c".to_owned());
        for id in 0..32 {
            assert!(log.add(operation(id)));
        }
        assert!(!log.add(operation(32)), "too many go on");
        let ended = log.end(Uuid::from_u128(0), OperationResult::success().into()).expect("it goes on");
        assert_eq!(ended.status, OperationStatus::Completed);
        assert!(log.end(Uuid::from_u128(0), OperationResult::cancelled().into()).is_none());
        for id in 100..600 {
            assert!(log.add(operation(id)));
            log.end(Uuid::from_u128(id), OperationResult::success().into());
        }
        assert_eq!(log.iter().count(), OPERATIONS_MAX);
        assert!(log.find(Uuid::from_u128(5)).is_some(), "an operation that goes on is not forgotten");
    }
}
