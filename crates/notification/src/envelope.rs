//! `Envelope`: which protocol a body speaks.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::{
    error::{ErrorCode, InvalidNotification},
    id::CallId,
    json::{self, Receive, Received},
    notifications::{Notifications, Value},
    preflight,
};

/// One parsed body. Borrows from the bytes it was parsed from.
#[derive(Debug)]
pub enum Envelope<'a> {
    /// The Skype format. The platform sends the call again as Graph when it is answered 204.
    Legacy(Legacy<'a>),
    /// The Graph format, with one item or more.
    Graph(Notifications<'a>),
}

impl<'a> Envelope<'a> {
    /// Tells what `body` is.
    pub fn parse(body: &'a [u8]) -> Result<Self, InvalidNotification> {
        let text = preflight::check(body)?;
        let raw = read(text)?;
        if let Some(name) = raw.duplicate {
            return Err(InvalidNotification::new(ErrorCode::Duplicate, format!(r#""{name}" appears twice"#)));
        }
        match (raw.legacy(), raw.value) {
            (Ok(_), Some(_)) => Err(InvalidNotification::new(
                ErrorCode::Both,
                r#"both a Graph notification ("value") and a legacy call ("participants", "operationOutcome" or "type")"#,
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
    /// Which of the legacy messages it is.
    pub kind: LegacyKind,
    /// Its `id`: not empty, but for a conversation result that has none. Not safe in a log as it is.
    pub id: Cow<'a, str>,
}

impl Legacy<'_> {
    /// Its `id`, if it is one that is safe in a log.
    pub fn call_id(&self) -> Option<CallId<'_>> {
        CallId::parse(&*self.id).ok()
    }
}

/// The messages of the Skype format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyKind {
    /// A new call.
    Incoming,
    /// The result of an operation.
    ConversationResult,
    /// The participants changed.
    RosterUpdate,
    /// The call's state changed.
    CallStateChange,
}

impl LegacyKind {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::ConversationResult => "conversation_result",
            Self::RosterUpdate => "roster_update",
            Self::CallStateChange => "call_state_change",
        }
    }
}

fn read(text: &str) -> Result<RawEnvelope<'_>, InvalidNotification> {
    let at = |error: serde_json::Error| format!("line {} column {}", error.line(), error.column());

    let mut deserializer = serde_json::Deserializer::from_str(text);
    let received: Received<RawEnvelope<'_>> =
        serde::Deserialize::deserialize(&mut deserializer).map_err(|error: serde_json::Error| {
            let problem = if error.is_eof() { "the JSON breaks off" } else { "the body is not JSON" };
            InvalidNotification::new(ErrorCode::NotJson, format!("{problem} at {}", at(error)))
        })?;
    deserializer.end().map_err(|error| {
        InvalidNotification::new(ErrorCode::NotJson, format!("more follows the JSON at {}", at(error)))
    })?;
    Ok(received.value)
}

/// The members that tell what a body is.
#[derive(Default)]
struct RawEnvelope<'a> {
    value: Option<Received<Value<'a>>>,
    id: Option<&'a RawValue>,
    participants: Option<&'a RawValue>,
    presented_modality_types: Option<&'a RawValue>,
    call_state: Option<&'a RawValue>,
    operation_outcome: Option<&'a RawValue>,
    message_type: Option<&'a RawValue>,
    service_url: Option<&'a RawValue>,
    duplicate: Option<&'static str>,
}

impl<'a> RawEnvelope<'a> {
    /// The legacy message, whether or not there is a `value` too, or why it is none. Contracts: Bot Framework calling,
    /// `Conversation`, `ConversationResult`, `RosterUpdateNotification`, `CallStateChangeNotification`.
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
                // The messaging and the calling webhook of one bot are easily mixed up.
                (None, Some(_), Some(_)) => "a Bot Framework activity is not a calls notification",
                (None, _, _) => {
                    r#"neither a Graph notification (no "value") nor a legacy call (no "participants")"#
                }
                (Some(_), _, _) => {
                    r#"neither a Graph notification (no "value") nor a legacy call ("participants" is not an array)"#
                }
            });
        }
        let id = id.ok_or(r#"neither a Graph notification (no "value") nor a legacy call (no "id")"#)?;
        if !starts(self.call_state, '"') && !starts(self.presented_modality_types, '[') {
            return Err(
                r#"neither a Graph notification (no "value") nor a legacy call (no "callState" and no "presentedModalityTypes")"#,
            );
        }
        Ok(Legacy { kind: LegacyKind::Incoming, id })
    }
}

impl<'de> Receive<'de> for RawEnvelope<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        let is_first = match name {
            "value" => self.value.replace(map.next_value()?).is_none(),
            "id" => self.id.replace(map.next_value()?).is_none(),
            "participants" => self.participants.replace(map.next_value()?).is_none(),
            "presentedModalityTypes" => self.presented_modality_types.replace(map.next_value()?).is_none(),
            "callState" => self.call_state.replace(map.next_value()?).is_none(),
            "operationOutcome" => self.operation_outcome.replace(map.next_value()?).is_none(),
            "type" => self.message_type.replace(map.next_value()?).is_none(),
            "serviceUrl" => self.service_url.replace(map.next_value()?).is_none(),
            _ => return json::skip(map),
        };
        if !is_first {
            self.duplicate = MEMBERS.into_iter().find(|own| *own == name);
        }
        Ok(())
    }
}

fn starts(raw: Option<&RawValue>, with: char) -> bool {
    raw.is_some_and(|raw| raw.get().starts_with(with))
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
