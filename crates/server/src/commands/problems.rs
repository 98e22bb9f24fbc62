//! The problems of a configuration: for people, for programs, and as annotations of GitHub Actions.

use std::process::ExitCode;

use serde::Serialize;

use super::output::{complain, print};
use crate::{
    cli::{EX_USAGE, OutputFormat},
    config::{Position, Problem, Problems},
};

/// Prints the problems. Returns the exit code of an invalid configuration.
pub(super) fn refuse(problems: &Problems, format: OutputFormat) -> ExitCode {
    let _ = match format {
        OutputFormat::Text => complain(&problems.to_string(), EX_USAGE),
        OutputFormat::Json => print(&json(problems)),
        OutputFormat::Github => print(&annotations(problems)),
    };
    ExitCode::from(EX_USAGE)
}

/// The output of `check --format json` for a valid configuration.
pub(super) fn valid_json(summary: &str) -> String {
    text(&Report { valid: true, summary: Some(summary), problems: Vec::new() })
}

fn json(problems: &Problems) -> String {
    let row = |problem| Row::of(problems, problem);
    text(&Report { valid: false, summary: None, problems: problems.iter().map(row).collect() })
}

/// One workflow command for each problem (GitHub Actions, "Workflow commands", `error`).
fn annotations(problems: &Problems) -> String {
    let annotation = |problem: &Problem| {
        let mut properties = vec![format!("file={}", property(problems.file().unwrap_or_default()))];
        if let Some(Position { line, column }) = problem.position {
            properties.push(format!("line={line},col={column}"));
        }
        format!("::error {}::{}", properties.join(","), data(&problem.to_string()))
    };
    problems.iter().map(annotation).collect::<Vec<_>>().join("\n")
}

/// Escapes a message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn text(report: &Report<'_>) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default()
}

#[derive(Serialize)]
struct Report<'p> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'p str>,
    problems: Vec<Row<'p>>,
}

#[derive(Serialize)]
struct Row<'p> {
    file: Option<&'p str>,
    line: Option<usize>,
    column: Option<usize>,
    path: &'p str,
    message: &'p str,
}

impl<'p> Row<'p> {
    fn of(problems: &'p Problems, problem: &'p Problem) -> Self {
        Self {
            file: problems.file(),
            line: problem.position.map(|position| position.line),
            column: problem.position.map(|position| position.column),
            path: &problem.path,
            message: &problem.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_escaped() {
        assert_eq!(property("a,b:c%\n"), "a%2Cb%3Ac%25%0A");
        assert_eq!(data("50%: a,b\r\nc"), "50%25: a,b%0D%0Ac");
    }
}
