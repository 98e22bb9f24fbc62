//! The bodies of `transfer` and `changeScreenSharingRole`, which are no operations.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    body::{bad, is_invitation, parse},
    refusal::GraphRefusal,
};
use crate::words::word_in_any_case;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTransfer {
    transfer_target: Option<Value>,
}

/// Reads the body of `transfer` (Graph reference, "call: transfer"): the call that a consultative transfer
/// replaces.
pub(super) fn transfer(body: &[u8]) -> Result<Option<Uuid>, GraphRefusal> {
    let RawTransfer { transfer_target } = parse(body)?;
    let target = transfer_target.filter(is_invitation);
    let target = target.ok_or_else(|| bad("transferTarget needs an identity with an id"))?;
    match target.get("replacesCallId").filter(|id| !id.is_null()) {
        // An id in another form than a GUID is the one of no call.
        Some(Value::String(id)) => Ok(Some(Uuid::try_parse(id).unwrap_or_default())),
        Some(_) => Err(bad("transferTarget.replacesCallId must be the id of a call")),
        None => Ok(None),
    }
}

#[derive(Deserialize)]
struct RawRole {
    role: Option<String>,
}

/// Reads the body of `changeScreenSharingRole`: true if the bot shares from now on.
pub(super) fn screen_sharing_role(body: &[u8]) -> Result<bool, GraphRefusal> {
    let RawRole { role } = parse(body)?;
    let role = role.and_then(|role| word_in_any_case(&role, &["viewer", "sharer"]));
    role.map(|role| role == "sharer").ok_or_else(|| bad("role must be one of viewer, sharer"))
}
