//! `Envelope`: a parsed body, legacy or Graph.

use std::borrow::Cow;

use crate::{
    error::{ErrorCode, InvalidNotification},
    id::CallId,
    json::{self, DEPTH_MAX, Malformed, Problem, Receive, Received, Value},
    labelled::labelled,
    notifications::{Notifications, RawItems},
    preflight,
};

/// A parsed body. It borrows from the bytes that it was parsed from.
///
/// ```
/// use switchboard_notification::{Envelope, ErrorCode, LegacyKind};
///
/// let body = br#"{"id":"6d1c-0b00","participants":[],"callState":"incoming"}"#;
/// let Envelope::Legacy(legacy) = Envelope::parse(body)? else { panic!("not a legacy body") };
/// assert_eq!(legacy.kind, LegacyKind::Incoming);
///
/// let error = Envelope::parse(b"{}").unwrap_err();
/// assert_eq!(error.code, ErrorCode::Neither);
/// # Ok::<(), switchboard_notification::InvalidNotification>(())
/// ```
#[derive(Debug)]
pub enum Envelope<'a> {
    /// The Skype format. If the response is 204, the platform sends the call again as Graph.
    Legacy(Legacy<'a>),
    /// The Graph format, with one or more items.
    Graph(Notifications<'a>),
}

impl<'a> Envelope<'a> {
    /// Parses `body`.
    ///
    /// # Errors
    ///
    /// `body` is malformed, is neither legacy nor Graph, or cannot be routed.
    pub fn parse(body: &'a [u8]) -> Result<Self, InvalidNotification> {
        let text = preflight::check(body)?;
        let raw = read(text)?;
        if let Some(name) = raw.duplicate {
            return Err(InvalidNotification::new(ErrorCode::Duplicate, format!(r#""{name}" occurs twice"#)));
        }
        match (raw.legacy(), raw.value) {
            (Ok(_), Some(_)) => Err(InvalidNotification::new(
                ErrorCode::Both,
                r#"both Graph ("value") and legacy ("participants", "operationOutcome" or "type")"#,
            )),
            (Ok(legacy), None) => Ok(Self::Legacy(legacy)),
            (Err(_), Some(value)) => Notifications::new(text, value).map(Self::Graph),
            (Err(reason), None) => Err(InvalidNotification::new(ErrorCode::Neither, reason)),
        }
    }
}

/// A body in the Skype format.
#[derive(Debug)]
pub struct Legacy<'a> {
    /// The kind of message.
    pub kind: LegacyKind,
    /// Its `id`. It is empty only for a conversation result without one. It is not safe in a log.
    pub id: Cow<'a, str>,
}

impl Legacy<'_> {
    /// Returns its `id` as a call id, which is safe in a log, if it is one.
    pub fn call_id(&self) -> Option<CallId<'_>> {
        CallId::parse(&*self.id).ok()
    }
}

labelled! {
    /// The messages of the Skype format.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LegacyKind {
        /// A new call.
        Incoming = "incoming",
        /// The result of an operation.
        ConversationResult = "conversation_result",
        /// The participants changed.
        RosterUpdate = "roster_update",
        /// The call's state changed.
        CallStateChange = "call_state_change",
    }
}

fn read(text: &str) -> Result<RawEnvelope<'_>, InvalidNotification> {
    let received = json::receive(text).map_err(|Malformed { problem, at }| {
        let problem = match problem {
            Problem::Incomplete => "the JSON is incomplete",
            Problem::NotJson => "the body is not JSON",
            Problem::Trailing => "text follows the JSON",
            Problem::TooDeep => {
                let message = format!("the JSON is nested deeper than {DEPTH_MAX} levels");
                return InvalidNotification::new(ErrorCode::TooDeep, message);
            }
        };
        let before = text.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        InvalidNotification::new(ErrorCode::InvalidJson, format!("{problem} at line {line} column {column}"))
    })?;
    Ok(received.value)
}

/// The members that decide the kind of a body.
#[derive(Default)]
struct RawEnvelope<'a> {
    value: Option<Received<RawItems<'a>>>,
    id: Option<&'a str>,
    participants: Option<&'a str>,
    presented_modality_types: Option<&'a str>,
    call_state: Option<&'a str>,
    operation_outcome: Option<&'a str>,
    message_type: Option<&'a str>,
    service_url: Option<&'a str>,
    duplicate: Option<&'static str>,
}

impl<'a> RawEnvelope<'a> {
    /// Returns the legacy message, even if there is also a `value`, or the reason why it is not one.
    /// Contracts: Bot Framework calling, `Conversation`, `ConversationResult`, `RosterUpdateNotification`,
    /// `CallStateChangeNotification`.
    fn legacy(&self) -> Result<Legacy<'a>, &'static str> {
        let id = self.id.and_then(json::text_of);
        let message_type = self.message_type.and_then(json::text_of);
        let of_type =
            |name: &str| message_type.as_deref().is_some_and(|text| text.eq_ignore_ascii_case(name));

        if of_type("rosterUpdate") || of_type("callStateChange") {
            let kind =
                if of_type("rosterUpdate") { LegacyKind::RosterUpdate } else { LegacyKind::CallStateChange };
            let id = id.ok_or(r#"neither a Graph notification (no "value") nor a legacy one (no "id")"#)?;
            return Ok(Legacy { kind, id });
        }
        if starts(self.operation_outcome, '{') && starts(self.call_state, '"') {
            return Ok(Legacy { kind: LegacyKind::ConversationResult, id: id.unwrap_or_default() });
        }
        if !starts(self.participants, '[') {
            return Err(match (self.participants, self.service_url, message_type) {
                // Operators confuse the messaging webhook and the calling webhook of a bot.
                (None, Some(_), Some(_)) => "a Bot Framework activity is not a calls notification",
                (None, _, _) => {
                    r#"neither a Graph notification (no "value") nor a legacy call (no "participants")"#
                }
                (Some(_), _, _) => {
                    "neither a Graph notification (no \"value\") nor a legacy call (\"participants\" is not \
                     an array)"
                }
            });
        }
        let id = id.ok_or(r#"neither a Graph notification (no "value") nor a legacy call (no "id")"#)?;
        if !starts(self.call_state, '"') && !starts(self.presented_modality_types, '[') {
            return Err(
                "neither a Graph notification (no \"value\") nor a legacy call (no \"callState\" and no \
                 \"presentedModalityTypes\")",
            );
        }
        Ok(Legacy { kind: LegacyKind::Incoming, id })
    }
}

impl<'a> Receive<'a> for RawEnvelope<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        let is_first = match name {
            "value" => self.value.replace(value.receive()?).is_none(),
            "id" => self.id.replace(value.raw()?).is_none(),
            "participants" => self.participants.replace(value.raw()?).is_none(),
            "presentedModalityTypes" => self.presented_modality_types.replace(value.raw()?).is_none(),
            "callState" => self.call_state.replace(value.raw()?).is_none(),
            "operationOutcome" => self.operation_outcome.replace(value.raw()?).is_none(),
            "type" => self.message_type.replace(value.raw()?).is_none(),
            "serviceUrl" => self.service_url.replace(value.raw()?).is_none(),
            _ => return value.skip(),
        };
        if !is_first {
            self.duplicate = MEMBERS.into_iter().find(|own| *own == name);
        }
        Ok(())
    }
}

fn starts(raw: Option<&str>, with: char) -> bool {
    raw.is_some_and(|raw| raw.starts_with(with))
}

const MEMBERS: [&str; 8] = [
    "value",
    "id",
    "participants",
    "presentedModalityTypes",
    "callState",
    "operationOutcome",
    "type",
    "serviceUrl",
];
