//! The problems of a configuration: for people, for programs, and as annotations of GitHub Actions.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    against::{ChangeRow, Comparison},
    output::{complain, json_safe, print},
};
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

/// A fault that does not keep the gateway from serving.
#[derive(Debug, Serialize)]
pub(super) struct Warning {
    /// The file.
    pub(super) file: String,
    /// The place of the setting; `None` if the file has changed meanwhile.
    #[serde(flatten)]
    pub(super) position: Option<Position>,
    /// The setting; empty for a fault of the whole file.
    pub(super) path: String,
    /// The fault, and what would be right.
    pub(super) message: String,
}

/// Prints the summary of a valid configuration, the warnings about it and the changes from another one.
/// Returns the exit code.
pub(super) fn accept(
    summary: &str,
    warnings: &[Warning],
    comparison: Option<&Comparison>,
    format: OutputFormat,
) -> ExitCode {
    let lines = || match comparison {
        Some(comparison) => format!("{summary}\n{comparison}"),
        None => summary.to_owned(),
    };
    match format {
        OutputFormat::Text => {
            for Warning { file, position, path, message } in warnings {
                let place = position
                    .map_or_else(String::new, |Position { line, column }| format!(":{line}:{column}"));
                complain(&format!("{file}{place}: warning: {}", of_setting(path, message)), 0);
            }
            print(&lines())
        }
        OutputFormat::Json => {
            let changes = comparison.map(Comparison::rows);
            let report =
                Report { valid: true, summary: Some(summary), problems: Vec::new(), warnings, changes };
            print(&json_safe(&text(&report)))
        }
        OutputFormat::Github => {
            let annotation = |warning: &Warning| {
                let message = of_setting(&warning.path, &warning.message);
                format!("::warning {}::{}\n", place(&warning.file, warning.position), data(&message))
            };
            print(&(warnings.iter().map(annotation).collect::<String>() + &lines()))
        }
    }
}

fn of_setting(path: &str, message: &str) -> String {
    if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") }
}

fn json(problems: &Problems) -> String {
    let row = |problem| Row::of(problems, problem);
    let problems = problems.iter().map(row).collect();
    text(&Report { valid: false, summary: None, problems, warnings: &[], changes: None })
}

/// One workflow command for each problem (GitHub Actions, "Workflow commands", `error`).
fn annotations(problems: &Problems) -> String {
    let annotation = |problem: &Problem| {
        let place = place(problems.file().unwrap_or_default(), problem.position);
        format!("::error {place}::{}", data(&problem.to_string()))
    };
    problems.iter().map(annotation).collect::<Vec<_>>().join("\n")
}

/// The properties of a workflow command that say where a problem is.
fn place(file: &str, position: Option<Position>) -> String {
    let mut properties = format!("file={}", property(file));
    if let Some(Position { line, column }) = position {
        properties.push_str(&format!(",line={line},col={column}"));
    }
    properties
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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'p [Warning],
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<ChangeRow<'p>>>,
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
