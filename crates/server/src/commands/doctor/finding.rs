//! `Finding`: one line of the output.

use serde::Serialize;

/// The result of a check, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) status: Status,
    /// The part of the configuration, like `trust`.
    pub(super) area: &'static str,
    /// The one of its kind, like the name of a trust.
    pub(super) subject: String,
    /// The observation.
    pub(super) detail: String,
    /// The advice; `None` if there is nothing to do.
    pub(super) advice: Option<String>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// It works.
    Ok,
    /// It works, but may not do so for long or for others.
    Warning,
    /// It does not work.
    Failed,
    /// It was not checked.
    Skipped,
}

impl Status {
    pub(super) const ALL: [Self; 4] = [Self::Ok, Self::Warning, Self::Failed, Self::Skipped];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Finding {
    pub(super) fn ok(area: &'static str, subject: &str, detail: impl AsRef<str>) -> Self {
        Self::new(Status::Ok, area, subject, detail.as_ref(), None)
    }

    pub(super) fn warning(area: &'static str, subject: &str, detail: impl AsRef<str>, advice: &str) -> Self {
        Self::new(Status::Warning, area, subject, detail.as_ref(), Some(advice))
    }

    pub(super) fn failed(area: &'static str, subject: &str, detail: impl AsRef<str>, advice: &str) -> Self {
        Self::new(Status::Failed, area, subject, detail.as_ref(), Some(advice))
    }

    pub(super) fn skipped(area: &'static str, subject: &str, detail: impl AsRef<str>, advice: &str) -> Self {
        Self::new(Status::Skipped, area, subject, detail.as_ref(), Some(advice))
    }

    fn new(status: Status, area: &'static str, subject: &str, detail: &str, advice: Option<&str>) -> Self {
        // Text of the network may be in it: one line, without control sequences of a terminal.
        let detail = detail.replace(char::is_control, " ");
        Self { status, area, subject: subject.to_owned(), detail, advice: advice.map(str::to_owned) }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.status == Status::Failed
    }
}
