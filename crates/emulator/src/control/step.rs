//! The body of a step of the control API.

use super::InvalidControlRequest;
use crate::script::{RawStep, ScriptStep};

/// Reads one step of a script, as a `[[step]]` of a file writes it.
pub(crate) fn parse_step(body: &[u8]) -> Result<ScriptStep, InvalidControlRequest> {
    let raw: RawStep =
        serde_json::from_slice(body).map_err(InvalidControlRequest::body(r#"{"do":"tone","tone":5}"#))?;
    raw.check(0).map_err(|problem| InvalidControlRequest::member("step", &problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::ScriptAction;

    #[test]
    fn a_step_is_read_like_one_of_a_file() {
        assert_eq!(parse_step(br#"{"do":"join","participants":2}"#).unwrap().action, ScriptAction::Join(2));
        for (body, expected) in [
            ("", r#"like {"do":"tone","tone":5}"#),
            (r#"{"do":"dance"}"#, "step: do must be one of wait, join"),
            (r#"{"do":"tone"}"#, "step: tone is needed"),
        ] {
            let error = parse_step(body.as_bytes()).expect_err("an invalid step").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
