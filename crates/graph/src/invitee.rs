//! `Invitee` and `Transfer`: people who join a call, or get it.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{GraphCallId, RedirectTarget, body::identity_set};

/// A person, a number or a bot that is invited to a call, or to whom a call is transferred (Microsoft Graph
/// REST reference, "invitationParticipantInfo").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitee {
    /// The identity.
    pub target: RedirectTarget,
    /// The call of the invitee with this bot that the new one replaces: for a consultative transfer, and to
    /// bring a second call into the first.
    pub replaces_call: Option<GraphCallId>,
}

impl From<RedirectTarget> for Invitee {
    fn from(target: RedirectTarget) -> Self {
        Self { target, replaces_call: None }
    }
}

impl Serialize for Invitee {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("@odata.type", "#microsoft.graph.invitationParticipantInfo")?;
        map.serialize_entry("identity", &identity_set(&self.target))?;
        if let Some(call) = &self.replaces_call {
            map.serialize_entry("replacesCallId", call.as_str())?;
        }
        map.end()
    }
}

/// The transfer of a call (Microsoft Graph REST reference, "call: transfer"): blind, or consultative if the
/// target replaces a call. Graph reports its progress as states of the call, not as an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// The person who gets the call.
    pub transfer_target: Invitee,
}
