//! The requests that start an operation: their bodies, and what they change in the call.

use serde::Deserialize;
use uuid::Uuid;

use super::{
    body::{bad, parse},
    decision::OperationEffect,
    participants,
    refusal::GraphRefusal,
};
use crate::{operation::OperationKind, words::word_in_any_case};

/// A request that starts an operation.
#[derive(Debug)]
pub(super) struct OperationRequest {
    pub(super) client_context: Option<String>,
    pub(super) effect: OperationEffect,
}

impl OperationRequest {
    /// Reads the body of a request. `participant` is the one that the path names.
    pub(super) fn read(
        kind: OperationKind,
        participant: Option<Uuid>,
        body: &[u8],
    ) -> Result<Self, GraphRefusal> {
        let RawContext { client_context } = parse(body)?;
        if client_context.as_ref().is_some_and(|context| context.chars().count() > CONTEXT_LETTERS_MAX) {
            return Err(bad(&format!("clientContext takes at most {CONTEXT_LETTERS_MAX} characters")));
        }
        if let Some(effect) = participants::change(kind, participant, body)? {
            return Ok(Self { client_context, effect });
        }
        let effect = match kind {
            OperationKind::UpdateRecordingStatus => recording_status(body)?,
            OperationKind::PlayPrompt
            | OperationKind::RecordResponse
            | OperationKind::SubscribeToTone
            | OperationKind::CancelMediaProcessing
            | OperationKind::Mute
            | OperationKind::Unmute
            | OperationKind::SendDtmfTones
            | OperationKind::AddLargeGalleryView
            | OperationKind::RaiseHand
            | OperationKind::LowerHand
            | OperationKind::Invite
            | OperationKind::StartHoldMusic
            | OperationKind::StopHoldMusic
            | OperationKind::AdmitAllFromLobby
            | OperationKind::LowerAllHands => OperationEffect::None,
        };
        Ok(Self { client_context, effect })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContext {
    client_context: Option<String>,
}

#[derive(Deserialize)]
struct RawRecordingStatus {
    status: Option<String>,
}

/// Reads the body of `updateRecordingStatus`.
fn recording_status(body: &[u8]) -> Result<OperationEffect, GraphRefusal> {
    let raw: RawRecordingStatus = parse(body)?;
    if raw.status.is_none_or(|status| word_in_any_case(&status, &RECORDING_STATUS).is_none()) {
        return Err(bad(&format!("status must be one of {}", RECORDING_STATUS.join(", "))));
    }
    Ok(OperationEffect::None)
}

const CONTEXT_LETTERS_MAX: usize = 256;
const RECORDING_STATUS: [&str; 3] = ["notRecording", "recording", "failed"];
