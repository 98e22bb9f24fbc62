//! A step as written in TOML or JSON, and the checks that make it one to play.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize, de};

use super::{
    error::ScriptProblem,
    step::{ExpectedStatus, PersonChange, ScriptAction, ScriptStep},
};
use crate::{
    encoding::{DurationText, parse_duration},
    operation::OperationKind,
    words::{InvalidWord, words},
};

/// A step as written. Its members depend on `do`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStep {
    #[serde(rename = "do")]
    pub(super) action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<DurationText>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasting: Option<DurationText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participants: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tone: Option<NumberOrWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subcode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<NumberOrWord>,
}

impl RawStep {
    /// Returns the step, if its members are those of its action.
    pub(crate) fn check(&self, number: usize) -> Result<ScriptStep, ScriptProblem> {
        let name: ActionName = self.action.parse().map_err(ScriptProblem::Action)?;
        let takes = name.takes();
        if let Some(member) = self.given().find(|member| !takes.contains(member)) {
            return Err(ScriptProblem::ExtraMember { member, takes });
        }
        let value = |member: &'static str, why: &dyn fmt::Display| ScriptProblem::Value {
            member,
            why: why.to_string(),
        };
        let participants = match self.participants {
            None => 1,
            Some(count @ 1..=100) => count,
            Some(_) => return Err(value("participants", &"must be 1 to 100")),
        };
        let participant = usize::try_from(self.participant.unwrap_or(0)).unwrap_or(usize::MAX);
        let action = match name {
            ActionName::Wait => {
                let text = self.lasting.as_ref().ok_or(ScriptProblem::MissingMember("for"))?;
                ScriptAction::Wait(parse_duration(&text.0).map_err(|error| value("for", &error))?)
            }
            ActionName::Speak => {
                let text = self.lasting.as_ref().ok_or(ScriptProblem::MissingMember("for"))?;
                ScriptAction::Speak(parse_duration(&text.0).map_err(|error| value("for", &error))?)
            }
            ActionName::Join => ScriptAction::Join(participants),
            ActionName::Leave => ScriptAction::Leave(participants),
            ActionName::Lobby => ScriptAction::Lobby(participants),
            ActionName::Mute => ScriptAction::Change(PersonChange::Mute, participant),
            ActionName::Unmute => ScriptAction::Change(PersonChange::Unmute, participant),
            ActionName::RaiseHand => ScriptAction::Change(PersonChange::RaiseHand, participant),
            ActionName::LowerHand => ScriptAction::Change(PersonChange::LowerHand, participant),
            ActionName::Tone => {
                let NumberOrWord(text) = self.tone.as_ref().ok_or(ScriptProblem::MissingMember("tone"))?;
                ScriptAction::Tone(text.parse().map_err(|error| value("tone", &error))?)
            }
            ActionName::Operation => {
                let kind = self.operation.as_deref().ok_or(ScriptProblem::MissingMember("operation"))?;
                let kind = operation_kind(kind).map_err(|error| value("operation", &error))?;
                let status = self.status.as_deref().unwrap_or("completed");
                ScriptAction::Operation(kind, status.parse().map_err(|error| value("status", &error))?)
            }
            ActionName::Hold => ScriptAction::Hold,
            ActionName::Resume => ScriptAction::Resume,
            ActionName::Drop => ScriptAction::Drop,
            ActionName::Terminate => ScriptAction::Terminate {
                code: self.code.unwrap_or(200),
                subcode: self.subcode.unwrap_or(0),
                message: self.message.clone().unwrap_or_default(),
            },
        };
        let after = self.after.as_ref().map_or(Ok(Duration::ZERO), |text| parse_duration(&text.0));
        let expect = match &self.expect {
            None => None,
            Some(NumberOrWord(text)) => Some(
                ExpectedStatus::parse(text)
                    .ok_or_else(|| value("expect", &"must be a status like 202, or a class like \"2xx\""))?,
            ),
        };
        Ok(ScriptStep { number, after: after.map_err(|error| value("after", &error))?, action, expect })
    }

    /// Returns the present members, without the ones that every step may have.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("for", self.lasting.is_some()),
            ("participants", self.participants.is_some()),
            ("participant", self.participant.is_some()),
            ("tone", self.tone.is_some()),
            ("operation", self.operation.is_some()),
            ("status", self.status.is_some()),
            ("code", self.code.is_some()),
            ("subcode", self.subcode.is_some()),
            ("message", self.message.is_some()),
            ("expect", self.expect.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
    }
}

/// Finds an operation by the name in its path, or by the name of its type without `Operation`.
fn operation_kind(text: &str) -> Result<OperationKind, InvalidWord> {
    match text {
        "record" => Ok(OperationKind::RecordResponse),
        "inviteParticipants" => Ok(OperationKind::Invite),
        "muteParticipant" => Ok(OperationKind::Mute),
        "unmuteParticipant" => Ok(OperationKind::Unmute),
        name => name.parse(),
    }
}

/// A number or a word: `expect = 202` or `expect = "2xx"`, `tone = 5` or `tone = "star"`.
#[derive(Clone, Debug, PartialEq)]
struct NumberOrWord(String);

impl Serialize for NumberOrWord {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NumberOrWord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWordVisitor;

        impl de::Visitor<'_> for NumberOrWordVisitor {
            type Value = NumberOrWord;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a word")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(NumberOrWord(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(NumberOrWord(number.to_string()))
            }

            fn visit_str<E>(self, word: &str) -> Result<Self::Value, E> {
                Ok(NumberOrWord(word.to_owned()))
            }
        }

        deserializer.deserialize_any(NumberOrWordVisitor)
    }
}

words! {
    /// The actions of a script, as written in `do`.
    enum ActionName {
        /// Time passes.
        Wait = "wait",
        /// People join. A bot that gave a capacity is asked about each of them before the roster.
        Join = "join",
        /// People leave.
        Leave = "leave",
        /// People wait in the lobby.
        Lobby = "lobby",
        /// A person mutes the own microphone.
        Mute = "mute",
        /// A person unmutes it.
        Unmute = "unmute",
        /// A person raises a hand.
        RaiseHand = "raise-hand",
        /// A person lowers it.
        LowerHand = "lower-hand",
        /// A participant presses a key.
        Tone = "tone",
        /// A person speaks: a recording hears it.
        Speak = "speak",
        /// An operation ends or goes on.
        Operation = "operation",
        /// The call is put on hold.
        Hold = "hold",
        /// The call goes on after a hold.
        Resume = "resume",
        /// The call ends without a notification.
        Drop = "drop",
        /// The call ends.
        Terminate = "terminate",
    }
}

impl ActionName {
    /// Returns the members that the step may have besides `do` and `after`.
    fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Wait | Self::Speak => &["for"],
            Self::Join | Self::Leave | Self::Lobby => &["participants", "expect"],
            Self::Mute | Self::Unmute | Self::RaiseHand | Self::LowerHand => &["participant", "expect"],
            Self::Tone => &["tone", "expect"],
            Self::Operation => &["operation", "status", "expect"],
            Self::Hold | Self::Resume => &["expect"],
            Self::Drop => &[],
            Self::Terminate => &["code", "subcode", "message", "expect"],
        }
    }
}
