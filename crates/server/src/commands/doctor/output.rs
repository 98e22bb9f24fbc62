//! The findings as aligned lines and as JSON, and the progress on a terminal.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::finding::{Finding, Status};
use crate::commands::output::{self, DIM, GREEN, RED, YELLOW};

/// One line for each finding, and one for all of them.
pub(super) fn lines(findings: &[Finding], is_coloured: bool) -> String {
    let width = |of: fn(&Finding) -> &str| {
        findings.iter().map(|finding| of(finding).chars().count()).max().unwrap_or_default()
    };
    let (area, subject) = (width(|finding| finding.area), width(|finding| &finding.subject));
    let mut text = String::new();
    for finding in findings {
        let label = format!("{:<7}", finding.status.label());
        let label = if is_coloured { coloured(finding.status, &label) } else { label };
        let advice = finding.advice.as_deref().map_or_else(String::new, |advice| format!(" -> {advice}"));
        text.push_str(&format!(
            "{label}  {:<area$}  {:<subject$}  {}{advice}\n",
            finding.area, finding.subject, finding.detail
        ));
    }
    let count = |status: &Status| findings.iter().filter(|finding| finding.status == *status).count();
    let counts = Status::ALL.iter().map(|status| (count(status), status.label()));
    let counts: Vec<_> =
        counts.filter(|(count, _)| *count > 0).map(|(count, label)| format!("{count} {label}")).collect();
    text.push_str(&counts.join(", "));
    text
}

fn coloured(status: Status, text: &str) -> String {
    let colour = match status {
        Status::Ok => GREEN,
        Status::Warning => YELLOW,
        Status::Failed => RED,
        Status::Skipped => DIM,
    };
    output::coloured(text, colour)
}

/// The findings for programs.
pub(super) fn json(findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Report<'f> {
        ok: bool,
        findings: &'f [Finding],
    }
    let ok = !findings.iter().any(Finding::is_failure);
    serde_json::to_string_pretty(&Report { ok, findings }).unwrap_or_default()
}

/// One line on a terminal that names the checks that still run.
pub(super) struct Progress {
    is_shown: bool,
    total: usize,
    running: BTreeMap<usize, String>,
}

impl Progress {
    pub(super) fn new(is_shown: bool) -> Self {
        Self { is_shown, total: 0, running: BTreeMap::new() }
    }

    pub(super) fn started(&mut self, index: usize, name: String) {
        self.total += 1;
        self.running.insert(index, name);
    }

    pub(super) fn ended(&mut self, index: usize) {
        self.running.remove(&index);
        self.show();
    }

    pub(super) fn clear(&self) {
        self.write("");
    }

    pub(super) fn show(&self) {
        let ended = self.total - self.running.len();
        let names: Vec<_> = self.running.values().map(String::as_str).collect();
        let line = format!("{ended} of {} checked; waiting for {}", self.total, names.join(", "));
        self.write(&line.chars().take(LINE_CHARACTERS_MAX).collect::<String>());
    }

    /// Replaces the line. If stderr is closed, there is no progress to see.
    fn write(&self, line: &str) {
        if self.is_shown {
            let mut stderr = io::stderr();
            let _ = write!(stderr, "\r\u{1b}[K{line}").and_then(|()| stderr.flush());
        }
    }
}

/// A longer line would wrap, and could not be replaced.
const LINE_CHARACTERS_MAX: usize = 79;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_coloured_on_request_only() {
        let findings = [
            Finding::ok("trust", "skype", "3 keys"),
            Finding::failed("callback.base", "https://a", "refused\n\u{1b}[31m", "start it"),
        ];
        assert_eq!(
            lines(&findings, false),
            "ok       trust          skype      3 keys\n\
             failed   callback.base  https://a  refused  [31m -> start it\n\
             1 ok, 1 failed"
        );
        assert!(lines(&findings, true).contains("\u{1b}[31mfailed \u{1b}[0m"));
    }
}
