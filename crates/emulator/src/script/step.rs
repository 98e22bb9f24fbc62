//! The steps of a script, as they are played.

use std::{fmt, time::Duration};

use crate::{
    operation::{OperationKind, OperationStatus},
    words::words,
};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScriptStep {
    /// 1, 2, …; 0 for a step of the control API.
    pub(crate) number: usize,
    /// The time to wait before it.
    pub(crate) after: Duration,
    pub(crate) action: ScriptAction,
    /// The status with which the bot must respond to the notification; any 2xx if `None`.
    pub(crate) expect: Option<ExpectedStatus>,
}

/// The action of a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ScriptAction {
    Wait(Duration),
    Join(u32),
    Leave(u32),
    /// People wait in the lobby.
    Lobby(u32),
    /// A person changes: the change, and the number of the person.
    Change(PersonChange, usize),
    Tone(Tone),
    /// A person speaks, now or in the next recording.
    Speak(Duration),
    Operation(OperationKind, OperationStatus),
    Hold,
    Resume,
    /// The call ends without a notification, as users report it: the bot learns it from keepAlive or GET.
    Drop,
    Terminate {
        code: u32,
        subcode: u32,
        message: String,
    },
}

impl ScriptAction {
    /// Returns true if the call ends with the step.
    pub(crate) fn ends_the_call(&self) -> bool {
        matches!(self, Self::Drop | Self::Terminate { .. })
    }
}

words! {
    /// A change of one person.
    pub(crate) enum PersonChange {
        /// The person mutes the own microphone.
        Mute = "mute",
        /// The person unmutes it.
        Unmute = "unmute",
        /// The person raises a hand.
        RaiseHand = "raise-hand",
        /// The person lowers it.
        LowerHand = "lower-hand",
    }
}

/// A status, or a class of them like `2xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedStatus {
    Status(u16),
    Class(u16),
}

impl ExpectedStatus {
    pub(super) fn parse(text: &str) -> Option<Self> {
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

impl fmt::Display for ExpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

words! {
    /// A key of a telephone (Graph reference, "toneInfo").
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
    /// Returns the spelling of `toneInfo`.
    pub(crate) fn wire(self) -> String {
        let label = self.label();
        if label.len() == 1 { format!("tone{label}") } else { label.to_owned() }
    }
}
