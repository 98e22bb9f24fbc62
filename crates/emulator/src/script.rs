//! A script: what happens to a call once it is established, step by step.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize, de};

use crate::{
    encoding::{DurationText, parse_duration},
    words::{InvalidWord, words},
};

/// Steps, in the order in which they are played. The call lasts on after the last one, unless that ends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    pub(crate) steps: Vec<ScriptStep>,
    /// As it was written, for the way to a platform elsewhere.
    source: Vec<RawStep>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScriptStep {
    /// 1, 2, …
    pub(crate) number: usize,
    /// How long to wait before it.
    pub(crate) after: Duration,
    pub(crate) act: Act,
    /// The status with which the notification must be answered; any 2xx where nothing is said.
    pub(crate) expect: Option<Expect>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Wait(Duration),
    Join(u32),
    Leave(u32),
    Tone(Tone),
    Operation(OperationKind, OperationStatus),
    Hold,
    Resume,
    /// The call is gone and nobody is told, as users report it: the bot learns it from keepAlive or GET.
    Drop,
    Terminate {
        code: u32,
        subcode: u32,
        message: String,
    },
}

/// A status, or a class of them like `2xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Status(u16),
    Class(u16),
}

impl Expect {
    fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_suffix("xx") {
            return class.parse().ok().filter(|class| (1..=5).contains(class)).map(Self::Class);
        }
        text.parse().ok().filter(|status| (100..=599).contains(status)).map(Self::Status)
    }

    pub(crate) fn holds(self, status: http::StatusCode) -> bool {
        match self {
            Self::Status(expected) => status.as_u16() == expected,
            Self::Class(class) => status.as_u16() / 100 == class,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

words! {
    /// The actions of a script.
    enum Action {
        /// Nothing, for a while.
        Wait = "wait",
        /// People join: a roster, and before it the question whether the bot takes them where it gave a capacity.
        Join = "join",
        /// People leave.
        Leave = "leave",
        /// Somebody presses a key.
        Tone = "tone",
        /// An operation ends or goes on.
        Operation = "operation",
        /// The call is put on hold.
        Hold = "hold",
        /// The call goes on.
        Resume = "resume",
        /// The call is gone without a notification.
        Drop = "drop",
        /// The call ends.
        Terminate = "terminate",
    }
}

impl Action {
    /// The members it may have besides `do` and `after`.
    fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Wait => &["for"],
            Self::Join | Self::Leave => &["participants", "expect"],
            Self::Tone => &["tone", "expect"],
            Self::Operation => &["operation", "status", "expect"],
            Self::Hold | Self::Resume => &["expect"],
            Self::Drop => &[],
            Self::Terminate => &["code", "subcode", "message", "expect"],
        }
    }
}

words! {
    /// Keys of a telephone (Graph reference, "toneInfo").
    pub(crate) enum Tone {
        /// 0
        Tone0 = "0",
        /// 1
        Tone1 = "1",
        /// 2
        Tone2 = "2",
        /// 3
        Tone3 = "3",
        /// 4
        Tone4 = "4",
        /// 5
        Tone5 = "5",
        /// 6
        Tone6 = "6",
        /// 7
        Tone7 = "7",
        /// 8
        Tone8 = "8",
        /// 9
        Tone9 = "9",
        /// \*
        Star = "star",
        /// #
        Pound = "pound",
    }
}

impl Tone {
    /// As `toneInfo` spells it.
    pub(crate) fn wire(self) -> String {
        let label = self.label();
        if label.len() == 1 { format!("tone{label}") } else { label.to_owned() }
    }
}

words! {
    /// The operations of the calls API.
    pub(crate) enum OperationKind {
        /// A prompt was played.
        PlayPrompt = "playPrompt",
        /// A short recording.
        Record = "record",
        /// People were invited.
        InviteParticipants = "inviteParticipants",
        /// The bot was muted.
        Mute = "muteParticipant",
        /// The bot was unmuted.
        Unmute = "unmuteParticipant",
        /// A recording was announced or ended.
        UpdateRecordingStatus = "updateRecordingStatus",
        /// The bot listens for keys.
        SubscribeToTone = "subscribeToTone",
        /// Prompts and recordings were cancelled.
        CancelMediaProcessing = "cancelMediaProcessing",
    }
}

impl OperationKind {
    pub(crate) fn odata_type(self) -> &'static str {
        match self {
            Self::PlayPrompt => "#microsoft.graph.playPromptOperation",
            Self::Record => "#microsoft.graph.recordOperation",
            Self::InviteParticipants => "#microsoft.graph.inviteParticipantsOperation",
            Self::Mute => "#microsoft.graph.muteParticipantOperation",
            Self::Unmute => "#microsoft.graph.unmuteParticipantOperation",
            Self::UpdateRecordingStatus => "#microsoft.graph.updateRecordingStatusOperation",
            Self::SubscribeToTone => "#microsoft.graph.subscribeToToneOperation",
            Self::CancelMediaProcessing => "#microsoft.graph.cancelMediaProcessingOperation",
        }
    }
}

words! {
    /// How far an operation is.
    pub(crate) enum OperationStatus {
        /// It goes on.
        Running = "running",
        /// It is done.
        Completed = "completed",
        /// It failed.
        Failed = "failed",
    }
}

impl Script {
    /// Reads a file: TOML, or JSON if it begins with a brace.
    ///
    /// # Errors
    /// It is neither, or a step is wrong; the error says which and what would be right.
    pub fn parse(text: &str) -> Result<Self, InvalidScript> {
        if text.len() > SCRIPT_BYTES_MAX {
            return Err(InvalidScript { line: None, step: None, fault: ScriptProblem::TooLong });
        }
        let at = |line, step, fault| InvalidScript { line, step, fault };
        if text.trim_start().starts_with('{') {
            let raw: RawScript<RawStep> = serde_json::from_str(text)
                .map_err(|error| at(Some(error.line()), None, ScriptProblem::Syntax(error.to_string())))?;
            return Self::from_raw(raw.step.into_iter().map(|step| (None, step)).collect());
        }
        let raw: RawScript<toml::Spanned<RawStep>> = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| line_of(text, span.start));
            at(line, None, ScriptProblem::Syntax(error.message().replace('\n', ", ")))
        })?;
        let steps =
            raw.step.into_iter().map(|step| (Some(line_of(text, step.span().start)), step.into_inner()));
        Self::from_raw(steps.collect())
    }

    /// The steps as `POST /emulator/calls` takes them.
    pub(crate) fn from_steps(steps: Vec<RawStep>) -> Result<Self, InvalidScript> {
        Self::from_raw(steps.into_iter().map(|step| (None, step)).collect())
    }

    pub(crate) fn source(&self) -> &[RawStep] {
        &self.source
    }

    fn from_raw(raw: Vec<(Option<usize>, RawStep)>) -> Result<Self, InvalidScript> {
        if raw.is_empty() || raw.len() > STEPS_MAX {
            return Err(InvalidScript { line: None, step: None, fault: ScriptProblem::StepCount });
        }
        let count = raw.len();
        let mut script = Self::default();
        for (number, (line, raw)) in (1..).zip(raw) {
            let step = raw.check(number).and_then(|step| {
                let ends = matches!(step.act, Act::Drop | Act::Terminate { .. });
                if ends && number < count { Err(ScriptProblem::AfterTheEnd) } else { Ok(step) }
            });
            let step = step.map_err(|fault| InvalidScript {
                line,
                step: Some((number, raw.action.clone())),
                fault,
            })?;
            script.steps.push(step);
            script.source.push(raw);
        }
        Ok(script)
    }
}

/// The file. `S` is where a step keeps its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound = "S: Deserialize<'de>")]
struct RawScript<S> {
    /// Nothing is as wrong as an empty list, and told in the same words.
    #[serde(default)]
    step: Vec<S>,
}

/// A step as it is written; which members it may have depends on `do`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStep {
    #[serde(rename = "do")]
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<DurationText>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasting: Option<DurationText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participants: Option<u32>,
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
    fn check(&self, number: usize) -> Result<ScriptStep, ScriptProblem> {
        let action: Action = self.action.parse().map_err(ScriptProblem::Action)?;
        let takes = action.takes();
        if let Some(member) = self.given().find(|member| !takes.contains(member)) {
            return Err(ScriptProblem::NotTaken { member, takes });
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
        let act = match action {
            Action::Wait => {
                let text = self.lasting.as_ref().ok_or(ScriptProblem::Missing("for"))?;
                Act::Wait(parse_duration(&text.0).map_err(|error| value("for", &error))?)
            }
            Action::Join => Act::Join(participants),
            Action::Leave => Act::Leave(participants),
            Action::Tone => {
                let NumberOrWord(text) = self.tone.as_ref().ok_or(ScriptProblem::Missing("tone"))?;
                Act::Tone(text.parse().map_err(|error| value("tone", &error))?)
            }
            Action::Operation => {
                let kind = self.operation.as_deref().ok_or(ScriptProblem::Missing("operation"))?;
                let kind = kind.parse().map_err(|error| value("operation", &error))?;
                let status = self.status.as_deref().unwrap_or("completed");
                Act::Operation(kind, status.parse().map_err(|error| value("status", &error))?)
            }
            Action::Hold => Act::Hold,
            Action::Resume => Act::Resume,
            Action::Drop => Act::Drop,
            Action::Terminate => Act::Terminate {
                code: self.code.unwrap_or(200),
                subcode: self.subcode.unwrap_or(0),
                message: self.message.clone().unwrap_or_default(),
            },
        };
        let after = self.after.as_ref().map_or(Ok(Duration::ZERO), |text| parse_duration(&text.0));
        let expect = match &self.expect {
            None => None,
            Some(NumberOrWord(text)) => Some(
                Expect::parse(text)
                    .ok_or_else(|| value("expect", &"must be a status like 202, or a class like \"2xx\""))?,
            ),
        };
        Ok(ScriptStep { number, after: after.map_err(|error| value("after", &error))?, act, expect })
    }

    /// The members that are there, besides those that every step may have.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("for", self.lasting.is_some()),
            ("participants", self.participants.is_some()),
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

/// `expect = 202` and `expect = "2xx"`, `tone = 5` and `tone = "star"` are all what people write.
#[derive(Clone, Debug, PartialEq)]
struct NumberOrWord(String);

impl Serialize for NumberOrWord {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NumberOrWord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
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

        deserializer.deserialize_any(Visitor)
    }
}

/// What is wrong with a script, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidScript {
    line: Option<usize>,
    step: Option<(usize, String)>,
    fault: ScriptProblem,
}

impl fmt::Display for InvalidScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
        }
        if let Some((number, action)) = &self.step {
            let comma = if self.line.is_some() { ", " } else { "" };
            write!(f, "{comma}step {number} ({})", action.escape_debug())?;
        }
        let colon = if self.line.is_some() || self.step.is_some() { ": " } else { "" };
        write!(f, "{colon}{}", self.fault)
    }
}

impl std::error::Error for InvalidScript {}

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScriptProblem {
    #[error("longer than {} KiB", SCRIPT_BYTES_MAX / 1_024)]
    TooLong,
    #[error("{}", .0.replace("expected u32", "expected a whole number"))]
    Syntax(String),
    #[error("a script has 1 to {STEPS_MAX} steps, each a [[step]]")]
    StepCount,
    #[error("do {0}")]
    Action(InvalidWord),
    #[error("{member} is not for this step, which takes {}", list(.takes))]
    NotTaken { member: &'static str, takes: &'static [&'static str] },
    #[error("{0} is needed")]
    Missing(&'static str),
    #[error("{member}: {why}")]
    Value { member: &'static str, why: String },
    #[error("ends the call, so it must be the last step")]
    AfterTheEnd,
}

fn list(takes: &[&str]) -> String {
    takes.iter().copied().chain(["after"]).collect::<Vec<_>>().join(", ")
}

/// The number of the line in which a byte is, from 1.
fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

const SCRIPT_BYTES_MAX: usize = 64 * 1024;
const STEPS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_wrong(text: &str, expected: &str) {
        let error = Script::parse(text).expect_err("a wrong script").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    const GOOD: &str = r#"
        [[step]]
        do = "wait"
        for = "10ms"

        [[step]]
        do = "join"
        participants = 2
        expect = 202

        [[step]]
        do = "tone"
        tone = 5
        after = "1ms"

        [[step]]
        do = "operation"
        operation = "playPrompt"
        expect = "2xx"

        [[step]]
        do = "terminate"
        code = 500
        subcode = 7106
        message = "Media."
    "#;

    #[test]
    fn a_script_is_the_same_in_toml_and_json_and_after_a_journey() {
        let script = Script::parse(GOOD).unwrap();
        assert_eq!(script.steps.len(), 5);
        let step = &script.steps[1];
        assert_eq!((step.number, &step.act, step.expect), (2, &Act::Join(2), Some(Expect::Status(202))));
        let json = serde_json::json!({"step": script.source()}).to_string();
        assert_eq!(Script::parse(&json).unwrap(), script);
        let steps = serde_json::from_value(serde_json::json!(script.source())).unwrap();
        assert_eq!(Script::from_steps(steps).unwrap(), script);
    }

    #[test]
    fn a_wrong_script_is_told_where_and_what_would_be_right() {
        check_wrong("", "a script has 1 to 1000 steps, each a [[step]]");
        check_wrong("[[step]]\ndo = \"wait\"\nfor = 3", "line 3: ");
        check_wrong("[[step]]\ndo = \"wait\"\nfor = 3", "expected a duration in quotes, like \"500ms\"");
        check_wrong("step = []", "a script has 1 to 1000 steps, each a [[step]]");
        check_wrong("[[step]]\n", "line 1: missing field `do`");
        check_wrong(
            "[[step]]\ndo = \"wait\"\nform = \"1s\"",
            "line 3: unknown field `form`, expected one of",
        );
        let dance = "[[step]]\ndo = \"hold\"\n\n[[step]]\ndo = \"dance\"";
        check_wrong(dance, "line 4, step 2 (dance): do must be one of wait, join, leave, tone");
        check_wrong("[[step]]\ndo = \"wait\"", "line 1, step 1 (wait): for is needed");
        check_wrong(
            "[[step]]\ndo = \"wait\"\nfor = \"5\"",
            "step 1 (wait): for: not a duration: a whole number with its unit, like 500ms",
        );
        check_wrong(
            "[[step]]\ndo = \"hold\"\ntone = 1",
            "step 1 (hold): tone is not for this step, which takes expect, after",
        );
        check_wrong("[[step]]\ndo = \"tone\"\ntone = \"x\"", "tone: must be one of 0, 1, 2");
        check_wrong("[[step]]\ndo = \"hold\"\nexpect = 99", "expect: must be a status like 202, or a class");
        check_wrong("[[step]]\ndo = \"join\"\nparticipants = 0", "participants: must be 1 to 100");
        check_wrong("[[step]]\ndo = \"join\"\nparticipants = -1", "expected a whole number");
        check_wrong("[[step]]\ndo = \"drop\"\n[[step]]\ndo = \"hold\"", "step 1 (drop): ends the call");
        check_wrong("[[step]\n", "line 1: ");
        check_wrong(r#"{"step":[{"do":"hold","x":1}]}"#, "line 1: unknown field `x`");
        check_wrong(r#"{"step":[{"do":"wait"}]}"#, "step 1 (wait): for is needed");
        check_wrong(&format!("# {}", "x".repeat(SCRIPT_BYTES_MAX)), "longer than 64 KiB");
        check_wrong(&format!("{{\"step\":{}", "[".repeat(10_000)), "line 1: ");
    }
}
