//! The requests that start an operation: their bodies, and what they change in the call.

use serde::Deserialize;
use uuid::Uuid;

use super::{
    body::{bad, parse},
    decision::{BotChange, OperationEffect},
    media, participants,
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
    /// Reads the body of a request. `participant` is the one that the path names. `folder` is the URL below
    /// which the recordings of the call are.
    pub(super) fn read(
        kind: OperationKind,
        participant: Option<Uuid>,
        body: &[u8],
        folder: &str,
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
            OperationKind::PlayPrompt => media::play_prompt(body)?,
            OperationKind::RecordResponse => media::record_response(body, folder)?,
            OperationKind::SendDtmfTones => media::send_tones(body)?,
            OperationKind::CancelMediaProcessing => OperationEffect::CancelMedia,
            OperationKind::Mute => OperationEffect::Bot(BotChange::Muted(true)),
            OperationKind::Unmute => OperationEffect::Bot(BotChange::Muted(false)),
            OperationKind::RaiseHand => OperationEffect::Bot(BotChange::HandRaised(true)),
            OperationKind::LowerHand => OperationEffect::Bot(BotChange::HandRaised(false)),
            OperationKind::SubscribeToTone
            | OperationKind::AddLargeGalleryView
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
