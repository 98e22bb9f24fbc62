//! A bot's decision about a participant who joins.

use serde_json::Value;
use url::Url;

use crate::{call::parse_http_url, words::word_in_any_case};

/// A bot's decision about a participant (Graph reference, "participantJoiningNotification").
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Accepted,
    Rejected(String),
    /// Another bot is to be invited at this URL.
    Invite(Url),
    /// The response is none of the documented ones, for this reason.
    Invalid(&'static str),
}

impl Admission {
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(response) = serde_json::from_slice::<Value>(body) else {
            return Self::Invalid("the body is not JSON");
        };
        let text = |name: &str| response.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("@odata.type").rsplit('.').next().unwrap_or_default() {
            "acceptJoinResponse" => Self::Accepted,
            "rejectJoinResponse" => match reject_reason(response.get("reason")) {
                Some(reason) => Self::Rejected(reason.to_owned()),
                None => Self::Invalid("reason must be none, busy or forbidden"),
            },
            "inviteNewBotResponse" => match parse_http_url(text("inviteUri")) {
                Ok(to) => Self::Invite(to),
                Err(_) => Self::Invalid("inviteUri is not an http or https URL"),
            },
            _ => Self::Invalid(
                "@odata.type must be #microsoft.graph.acceptJoinResponse, \
                 rejectJoinResponse or inviteNewBotResponse",
            ),
        }
    }
}

/// Reads the reason of a rejection; without one it is `none`.
fn reject_reason(reason: Option<&Value>) -> Option<&'static str> {
    match reason {
        None | Some(Value::Null) => Some("none"),
        Some(reason) => word_in_any_case(reason.as_str()?, &["none", "busy", "forbidden"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &Admission) {
        assert_eq!(Admission::read(body.as_bytes()), *expected, "{body}");
    }

    #[test]
    fn only_the_three_documented_responses_are_valid() {
        check(r##"{"@odata.type":"#microsoft.graph.acceptJoinResponse"}"##, &Admission::Accepted);
        let busy = r##"{"@odata.type":"#microsoft.graph.rejectJoinResponse","reason":"busy"}"##;
        check(busy, &Admission::Rejected("busy".to_owned()));
        // Both forms that Microsoft's calling SDK writes.
        check(&busy.replace("busy", "Busy"), &Admission::Rejected("busy".to_owned()));
        let silent = r##"{"@odata.type":"#microsoft.graph.rejectJoinResponse"}"##;
        check(silent, &Admission::Rejected("none".to_owned()));
        let invite =
            r##"{"@odata.type":"#microsoft.graph.inviteNewBotResponse","inviteUri":"https://b.example/"}"##;
        check(invite, &Admission::Invite(Url::parse("https://b.example/").unwrap()));
        for body in ["", "{}", "[]", r#"{"@odata.type":7}"#] {
            assert!(matches!(Admission::read(body.as_bytes()), Admission::Invalid(_)), "{body}");
        }
        let nowhere = invite.replace("https", "file");
        check(&nowhere, &Admission::Invalid("inviteUri is not an http or https URL"));
        for reason in [r#""sad""#, r#""""#, "7"] {
            let sad = busy.replace(r#""busy""#, reason);
            check(&sad, &Admission::Invalid("reason must be none, busy or forbidden"));
        }
    }
}
