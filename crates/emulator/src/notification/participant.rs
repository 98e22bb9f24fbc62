//! One participant of a roster, with the members and the size of those in public reports.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::parts::object;
use crate::participant::Participant;

/// The entry of a participant. `sequence` is the number of the roster's change.
pub(crate) fn participant_resource(
    participant: &Participant,
    tenant: &str,
    region: &str,
    sequence: u32,
) -> Map<String, Value> {
    let id = participant.id;
    let audio = if participant.on_hold { "inactive" } else { "sendReceive" };
    let screen = if participant.shares_screen { "sendOnly" } else { "receiveOnly" };
    object(json!({
        "@odata.type": "#microsoft.graph.participant",
        "info": {
            "@odata.type": "#microsoft.graph.participantInfo",
            "identity": participant.identity.to_json(tenant),
            "endpointType": "default",
            "endpointId": id.to_string(),
            "languageId": "en-US",
            "region": region,
            "clientVersion": CLIENT_VERSION,
            "participantId": participant.identity.stable_id(),
            "replacementLink": replacement_link(id),
            "isIdentityAnonymized": false,
        },
        "mediaStreams": [
            media_stream("audio", "main-audio", "1", audio),
            media_stream("video", "main-video", "2", "receiveOnly"),
            media_stream("videoBasedScreenSharing", "applicationsharing-video", "3", screen),
            media_stream("data", "data", "4", "sendReceive"),
        ],
        "isMuted": participant.muted,
        "isInLobby": participant.in_lobby,
        "publishedStates": [],
        "meetingRole": "attendee",
        "rosterSequenceNumber": sequence,
        "id": id.to_string(),
    }))
}

fn media_stream(media_type: &str, label: &str, source_id: &str, direction: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.mediaStream",
        "mediaType": media_type,
        "label": label,
        "sourceId": source_id,
        "direction": direction,
        "serverMuted": false,
    })
}

/// Leads nowhere: no bot may follow the platform's, which is opaque.
fn replacement_link(id: Uuid) -> String {
    let opaque = id.simple().to_string().repeat(5);
    format!("https://calls.example/cc/v1/participants/{id}/replacement?token={opaque}")
}

/// As long as those of the platform's clients.
const CLIENT_VERSION: &str = "Emulator/1415/1.0.0.2026010101/os=linux; osVer=12; deviceType=computer; \
                              browser=none; browserVer=0.0/CallingVersion=2026.01.01.1/\
                              Build=0000000000000000000000000000000000000000";
