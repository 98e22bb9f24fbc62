//! A script: the events of an established call, step by step.

mod error;
mod raw;
mod step;

use serde::Deserialize;

pub use self::error::InvalidScript;
use self::error::{SCRIPT_BYTES_MAX, STEPS_MAX, ScriptProblem};
pub(crate) use self::{
    raw::RawStep,
    step::{ExpectedStatus, PersonChange, ScriptAction, ScriptStep, Tone},
};

/// Steps in the order in which they are played.
///
/// After the last step the call goes on for its duration, unless that step ends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    pub(crate) steps: Vec<ScriptStep>,
    /// The steps as written, to send them to a platform in another process.
    source: Vec<RawStep>,
}

impl Script {
    /// Reads a file: TOML, or JSON if it starts with a brace.
    ///
    /// # Errors
    /// The text is neither, or a step is invalid. The error names the step and the valid values.
    pub fn parse(text: &str) -> Result<Self, InvalidScript> {
        if text.len() > SCRIPT_BYTES_MAX {
            return Err(InvalidScript { line: None, step: None, problem: ScriptProblem::TooLong });
        }
        let at = |line, step, problem| InvalidScript { line, step, problem };
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

    /// Returns the script with these steps, as `POST /emulator/calls` takes them.
    pub(crate) fn from_steps(steps: Vec<RawStep>) -> Result<Self, InvalidScript> {
        Self::from_raw(steps.into_iter().map(|step| (None, step)).collect())
    }

    /// Returns the steps as written.
    pub(crate) fn source(&self) -> &[RawStep] {
        &self.source
    }

    fn from_raw(raw: Vec<(Option<usize>, RawStep)>) -> Result<Self, InvalidScript> {
        if raw.is_empty() || raw.len() > STEPS_MAX {
            return Err(InvalidScript { line: None, step: None, problem: ScriptProblem::StepCount });
        }
        let count = raw.len();
        let mut script = Self::default();
        for (number, (line, raw)) in (1..).zip(raw) {
            let step = raw.check(number).and_then(|step| {
                let ends = step.action.ends_the_call();
                if ends && number < count { Err(ScriptProblem::NotLast) } else { Ok(step) }
            });
            let step = step.map_err(|problem| InvalidScript {
                line,
                step: Some((number, raw.action.clone())),
                problem,
            })?;
            script.steps.push(step);
            script.source.push(raw);
        }
        Ok(script)
    }
}

/// The file. `S` is a step, with or without its place in the text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound = "S: Deserialize<'de>")]
struct RawScript<S> {
    /// A missing list is as invalid as an empty one, with the same message.
    #[serde(default)]
    step: Vec<S>,
}

/// Returns the number of the line that contains a byte, from 1.
fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_invalid(text: &str, expected: &str) {
        let error = Script::parse(text).expect_err("an invalid script").to_string();
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
    fn toml_and_json_make_the_same_script() {
        let script = Script::parse(GOOD).unwrap();
        assert_eq!(script.steps.len(), 5);
        let step = &script.steps[1];
        assert_eq!(
            (step.number, &step.action, step.expect),
            (2, &ScriptAction::Join(2), Some(ExpectedStatus::Status(202)))
        );
        let json = serde_json::json!({"step": script.source()}).to_string();
        assert_eq!(Script::parse(&json).unwrap(), script);
        let steps = serde_json::from_value(serde_json::json!(script.source())).unwrap();
        assert_eq!(Script::from_steps(steps).unwrap(), script);
    }

    #[test]
    fn an_invalid_script_is_rejected_with_the_place_and_the_valid_values() {
        check_invalid("", "a script has 1 to 1000 steps, each a [[step]]");
        check_invalid("[[step]]\ndo = \"wait\"\nfor = 3", "line 3: ");
        check_invalid("[[step]]\ndo = \"wait\"\nfor = 3", "expected a duration in quotes, like \"500ms\"");
        check_invalid("step = []", "a script has 1 to 1000 steps, each a [[step]]");
        check_invalid("[[step]]\n", "line 1: missing field `do`");
        check_invalid(
            "[[step]]\ndo = \"wait\"\nform = \"1s\"",
            "line 3: unknown field `form`, expected one of",
        );
        let dance = "[[step]]\ndo = \"hold\"\n\n[[step]]\ndo = \"dance\"";
        check_invalid(dance, "line 4, step 2 (dance): do must be one of wait, join, leave, lobby");
        check_invalid("[[step]]\ndo = \"wait\"", "line 1, step 1 (wait): for is needed");
        check_invalid(
            "[[step]]\ndo = \"wait\"\nfor = \"5\"",
            "step 1 (wait): for: not a duration: a whole number with its unit, like 500ms",
        );
        check_invalid(
            "[[step]]\ndo = \"hold\"\ntone = 1",
            "step 1 (hold): tone is not for this step, which takes expect, after",
        );
        check_invalid("[[step]]\ndo = \"tone\"\ntone = \"x\"", "tone: must be one of 0, 1, 2");
        check_invalid(
            "[[step]]\ndo = \"hold\"\nexpect = 99",
            "expect: must be a status like 202, or a class",
        );
        check_invalid("[[step]]\ndo = \"join\"\nparticipants = 0", "participants: must be 1 to 100");
        check_invalid("[[step]]\ndo = \"join\"\nparticipants = -1", "expected a whole number");
        check_invalid("[[step]]\ndo = \"drop\"\n[[step]]\ndo = \"hold\"", "step 1 (drop): ends the call");
        check_invalid("[[step]\n", "line 1: ");
        check_invalid(r#"{"step":[{"do":"hold","x":1}]}"#, "line 1: unknown field `x`");
        check_invalid(r#"{"step":[{"do":"wait"}]}"#, "step 1 (wait): for is needed");
        check_invalid(&format!("# {}", "x".repeat(SCRIPT_BYTES_MAX)), "longer than 64 KiB");
        check_invalid(&format!("{{\"step\":{}", "[".repeat(10_000)), "line 1: ");
    }
}
