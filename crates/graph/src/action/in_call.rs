//! `InCallAction`: what a bot wants done in an established call, from its reply to a notification of it.

use std::fmt;

use serde_json::{Map, Value};

use crate::{assertion::random_id, spelled::spelled};

/// An action in an established call. A bot sends one, or a list in order, in its reply to a notification of
/// the call, as [`ACTION_CONTENT_TYPE`](super::ACTION_CONTENT_TYPE). docs/actions.md shows every member.
///
/// ```
/// use switchboard_graph::{InCallAction, InCallActionKind};
///
/// let actions = InCallAction::parse_list(br#"[{"action":"tones"},{"action":"hangup"}]"#)?;
/// let kinds: Vec<_> = actions.iter().map(InCallAction::kind).collect();
/// assert_eq!(kinds, [InCallActionKind::Tones, InCallActionKind::HangUp]);
///
/// let error = InCallAction::parse_list(br#"[{"action":"tones"},{"action":"play"}]"#).unwrap_err();
/// assert_eq!(error.to_string(), "[1].prompts is missing; it must be an array of 1 to 20 prompts");
/// # Ok::<(), switchboard_graph::InvalidAction>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct InCallAction {
    pub(super) kind: InCallActionKind,
    pub(super) client_context: Option<String>,
    /// The members of the request to Graph, without `clientContext`.
    pub(super) members: Map<String, Value>,
}

spelled! {
    /// The kinds of actions in a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum InCallActionKind {
        /// Play prompts (call: playPrompt).
        Play = "play",
        /// Record a response of the caller (call: recordResponse).
        Record = "record",
        /// Be notified of the keys that the caller presses (call: subscribeToTone).
        Tones = "tones",
        /// Transfer the call (call: transfer).
        Transfer = "transfer",
        /// Invite people to the call (participant: invite).
        Invite = "invite",
        /// Mute the bot (call: mute).
        Mute = "mute",
        /// End the bot's part in the call (call: delete).
        HangUp = "hangup",
    }
}

impl InCallActionKind {
    /// The path of the request below the call. `None`: the call itself is deleted.
    pub(crate) fn path(self) -> Option<&'static str> {
        match self {
            Self::Play => Some("playPrompt"),
            Self::Record => Some("recordResponse"),
            Self::Tones => Some("subscribeToTone"),
            Self::Transfer => Some("transfer"),
            Self::Invite => Some("participants/invite"),
            Self::Mute => Some("mute"),
            Self::HangUp => None,
        }
    }

    /// True if Graph starts an operation, whose notification names its `clientContext`.
    fn is_operation(self) -> bool {
        match self {
            Self::Play | Self::Record | Self::Tones | Self::Invite | Self::Mute => true,
            Self::Transfer | Self::HangUp => false,
        }
    }
}

impl InCallAction {
    /// Returns the kind of the action.
    pub fn kind(&self) -> InCallActionKind {
        self.kind
    }

    /// Returns the `clientContext` that the bot gave.
    pub fn client_context(&self) -> Option<&str> {
        self.client_context.as_deref()
    }

    /// Returns the body of the request to Graph. An operation without a `clientContext` gets a random one:
    /// Graph's notification of it must have one.
    pub(crate) fn body(&self) -> Vec<u8> {
        if self.kind == InCallActionKind::HangUp {
            return Vec::new();
        }
        let mut body = self.members.clone();
        let random = || random_id().filter(|_| self.kind.is_operation()).map(|id| id.to_string());
        if let Some(context) = self.client_context.clone().or_else(random) {
            body.insert("clientContext".to_owned(), context.into());
        }
        Value::Object(body).to_string().into_bytes()
    }
}

/// Shows the kind only: the members name people and their numbers.
impl fmt::Debug for InCallAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InCallAction").field("kind", &self.kind).finish_non_exhaustive()
    }
}
