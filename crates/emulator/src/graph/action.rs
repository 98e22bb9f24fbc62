//! The requests below `/communications/calls/{id}`, by method and path, and the permissions that they need.

use http::Method;
use uuid::Uuid;

use crate::{entra::Permission, operation::OperationKind};

/// A request about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GraphAction {
    Answer,
    Reject,
    Redirect,
    KeepAlive,
    Transfer,
    ScreenSharingRole,
    Show,
    HangUp,
    /// Starts an operation.
    Operate(OperationKind),
    /// Starts an operation on a participant.
    OperateOn(OperationKind, Uuid),
    /// Lists the participants.
    Participants,
    /// Shows a participant.
    Participant(Uuid),
    /// Removes a participant.
    RemoveParticipant(Uuid),
    /// Lists the operations.
    Operations,
    /// Shows one operation.
    Operation(Uuid),
    /// Lists the audio routing groups.
    Groups,
    AddGroup,
    Group(String),
    ChangeGroup(String),
    RemoveGroup(String),
    /// Lists the content sharing sessions.
    Sharings,
    Sharing,
}

/// The path and the method name no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidAction {
    /// No action has this path.
    UnknownName,
    /// The path takes other methods.
    Method { allowed: &'static str },
}

impl GraphAction {
    /// Finds the action of a request. Clients may write the name with its namespace, `microsoft.graph.`.
    pub(super) fn parse(method: &Method, path: &[&str]) -> Result<Self, InvalidAction> {
        let names: Vec<&str> =
            path.iter().map(|name| name.strip_prefix("microsoft.graph.").unwrap_or(name)).collect();
        let (actions, allowed) = match names.as_slice() {
            [] => (vec![(Method::GET, Self::Show), (Method::DELETE, Self::HangUp)], "GET, DELETE"),
            ["operations"] => (vec![(Method::GET, Self::Operations)], "GET"),
            ["operations", id] => (vec![(Method::GET, Self::Operation(guid(id)))], "GET"),
            ["audioRoutingGroups"] => {
                (vec![(Method::GET, Self::Groups), (Method::POST, Self::AddGroup)], "GET, POST")
            }
            ["audioRoutingGroups", id] => {
                let actions = vec![
                    (Method::GET, Self::Group((*id).to_owned())),
                    (Method::PATCH, Self::ChangeGroup((*id).to_owned())),
                    (Method::DELETE, Self::RemoveGroup((*id).to_owned())),
                ];
                (actions, "GET, PATCH, DELETE")
            }
            ["contentSharingSessions"] => (vec![(Method::GET, Self::Sharings)], "GET"),
            ["contentSharingSessions", _] => (vec![(Method::GET, Self::Sharing)], "GET"),
            ["participants"] => (vec![(Method::GET, Self::Participants)], "GET"),
            ["participants", name] => {
                match PARTICIPANTS_OPERATIONS.into_iter().find(|kind| kind.label() == *name) {
                    Some(kind) => (vec![(Method::POST, Self::Operate(kind))], "POST"),
                    None => {
                        let id = guid(name);
                        (
                            vec![
                                (Method::GET, Self::Participant(id)),
                                (Method::DELETE, Self::RemoveParticipant(id)),
                            ],
                            "GET, DELETE",
                        )
                    }
                }
            }
            ["participants", id, name] => {
                let kind = PARTICIPANT_OPERATIONS.into_iter().find(|kind| kind.label() == *name);
                let kind = kind.ok_or(InvalidAction::UnknownName)?;
                (vec![(Method::POST, Self::OperateOn(kind, guid(id)))], "POST")
            }
            [name] => {
                let action = Self::named(name).ok_or(InvalidAction::UnknownName)?;
                (vec![(Method::POST, action)], "POST")
            }
            _ => return Err(InvalidAction::UnknownName),
        };
        let found = actions.into_iter().find(|(taken, _)| taken == method);
        found.map(|(_, action)| action).ok_or(InvalidAction::Method { allowed })
    }

    /// Finds the action of a path with one name.
    fn named(name: &str) -> Option<Self> {
        match name {
            "answer" => Some(Self::Answer),
            "reject" => Some(Self::Reject),
            "redirect" => Some(Self::Redirect),
            "keepAlive" => Some(Self::KeepAlive),
            "transfer" => Some(Self::Transfer),
            "changeScreenSharingRole" => Some(Self::ScreenSharingRole),
            _ => OWN_OPERATIONS.into_iter().find(|kind| kind.label() == name).map(Self::Operate),
        }
    }

    /// Returns the name in the timeline of the call.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Reject => "reject",
            Self::Redirect => "redirect",
            Self::KeepAlive => "keep alive",
            Self::Transfer => "transfer",
            Self::ScreenSharingRole => "screen sharing role",
            Self::Show => "get",
            Self::HangUp => "hang up",
            Self::Operate(kind) => kind.step_label(),
            Self::OperateOn(OperationKind::Mute, _) => "mute participant",
            Self::OperateOn(kind, _) => kind.step_label(),
            Self::Participants => "get participants",
            Self::Participant(_) => "get participant",
            Self::RemoveParticipant(_) => "remove participant",
            Self::Operations => "get operations",
            Self::Operation(_) => "get operation",
            Self::Groups => "get audio routing groups",
            Self::AddGroup => "add audio routing group",
            Self::Group(_) => "get audio routing group",
            Self::ChangeGroup(_) => "change audio routing group",
            Self::RemoveGroup(_) => "remove audio routing group",
            Self::Sharings | Self::Sharing => "get content sharing",
        }
    }

    /// Returns the permissions of which the token needs one; none if the list is empty. `group` is true for
    /// a group call or a meeting.
    ///
    /// The reference names permissions for further operations, and says that they are not checked again
    /// when the call exists ("call: playPrompt", "call: cancelMediaProcessing", "call: mute",
    /// "call: sendDtmfTones").
    pub(super) fn permissions(&self, group: bool) -> &'static [Permission] {
        match self {
            Self::Answer if group => &[Permission::JoinGroupCall, Permission::JoinGroupCallAsGuest],
            Self::Redirect | Self::Transfer => &[Permission::Initiate],
            Self::ScreenSharingRole => &[Permission::AccessMedia],
            Self::HangUp => &[Permission::Initiate, Permission::AccessMedia],
            Self::Operate(
                OperationKind::RecordResponse
                | OperationKind::SubscribeToTone
                | OperationKind::UpdateRecordingStatus,
            ) => &[Permission::AccessMedia],
            Self::Operate(OperationKind::AddLargeGalleryView)
            | Self::Groups
            | Self::AddGroup
            | Self::Group(_)
            | Self::ChangeGroup(_)
            | Self::RemoveGroup(_) => &[Permission::JoinGroupCall, Permission::JoinGroupCallAsGuest],
            Self::Operate(OperationKind::Invite) => &[Permission::InitiateGroupCall, Permission::Initiate],
            Self::Participants
            | Self::Participant(_)
            | Self::RemoveParticipant(_)
            | Self::OperateOn(..)
            | Self::Answer
            | Self::Reject
            | Self::KeepAlive
            | Self::Show
            | Self::Operate(_)
            | Self::Operations
            | Self::Operation(_)
            | Self::Sharings
            | Self::Sharing => &[],
        }
    }
}

/// Returns the id of a path. An id that is not a GUID is an unknown one.
fn guid(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_default()
}

/// The operations whose path has one name below the call.
const OWN_OPERATIONS: [OperationKind; 11] = [
    OperationKind::PlayPrompt,
    OperationKind::RecordResponse,
    OperationKind::SubscribeToTone,
    OperationKind::CancelMediaProcessing,
    OperationKind::Mute,
    OperationKind::Unmute,
    OperationKind::UpdateRecordingStatus,
    OperationKind::SendDtmfTones,
    OperationKind::AddLargeGalleryView,
    OperationKind::RaiseHand,
    OperationKind::LowerHand,
];

/// The operations on all participants, below `participants`.
const PARTICIPANTS_OPERATIONS: [OperationKind; 3] =
    [OperationKind::Invite, OperationKind::AdmitAllFromLobby, OperationKind::LowerAllHands];

/// The operations on one participant.
const PARTICIPANT_OPERATIONS: [OperationKind; 3] =
    [OperationKind::Mute, OperationKind::StartHoldMusic, OperationKind::StopHoldMusic];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_found_by_method_and_path() {
        let id = Uuid::from_u128(5);
        let text = id.to_string();
        for (method, path, expected) in [
            (Method::GET, &[][..], Ok(GraphAction::Show)),
            (Method::DELETE, &[], Ok(GraphAction::HangUp)),
            (Method::POST, &["answer"], Ok(GraphAction::Answer)),
            (Method::POST, &["microsoft.graph.answer"], Ok(GraphAction::Answer)),
            (Method::POST, &["playPrompt"], Ok(GraphAction::Operate(OperationKind::PlayPrompt))),
            (Method::GET, &["operations"], Ok(GraphAction::Operations)),
            (Method::GET, &["operations", &text], Ok(GraphAction::Operation(id))),
            (Method::GET, &["operations", "x"], Ok(GraphAction::Operation(Uuid::nil()))),
            (Method::PATCH, &["audioRoutingGroups", "a"], Ok(GraphAction::ChangeGroup("a".to_owned()))),
            (Method::GET, &["contentSharingSessions"], Ok(GraphAction::Sharings)),
            (Method::PUT, &[], Err(InvalidAction::Method { allowed: "GET, DELETE" })),
            (Method::GET, &["answer"], Err(InvalidAction::Method { allowed: "POST" })),
            (Method::POST, &["operations"], Err(InvalidAction::Method { allowed: "GET" })),
            (Method::POST, &["levitate"], Err(InvalidAction::UnknownName)),
            (Method::POST, &["invite"], Err(InvalidAction::UnknownName)),
            (Method::POST, &["answer", "x"], Err(InvalidAction::UnknownName)),
        ] {
            assert_eq!(GraphAction::parse(&method, path), expected, "{method} {path:?}");
        }
    }
}
