//! `POST /emulator/calls`: reads and writes the body.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{InvalidControlRequest, app, guid};
use crate::{
    call::{
        CallRequest, InvalidParticipants, PARTICIPANTS_MAX, Protocol, Replay, ReplayedNotification,
        parse_country, parse_http_url,
    },
    encoding::{DurationText, parse_duration},
    script::{RawStep, Script},
};

/// The body. Each member is spelled like the option of `switchboard-emulator call`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCall {
    to: String,
    app: Option<String>,
    tenant: Option<String>,
    kind: Option<String>,
    region: Option<String>,
    country: Option<String>,
    protocol: Option<String>,
    token: Option<String>,
    duration: Option<DurationText>,
    answer_within: Option<DurationText>,
    participants: Option<u32>,
    /// The steps of a script.
    script: Option<Vec<RawStep>>,
    operations: Option<String>,
    /// The first notification. With it the default of `protocol` is `graph`.
    body: Option<Value>,
    /// Members of the first notification, each as `PATH=VALUE`.
    set: Option<Vec<String>>,
    /// The notifications that follow the answer.
    replay: Option<Vec<RawReplayed>>,
    /// The chain of a replayed call.
    chain: Option<String>,
    keep_alive: Option<bool>,
    expect: Option<String>,
}

/// A recorded notification.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReplayed {
    after: Option<DurationText>,
    body: Value,
}

pub(crate) fn parse_call(
    body: &[u8],
    default_app: Option<Uuid>,
) -> Result<CallRequest, InvalidControlRequest> {
    read_call(
        serde_json::from_slice(body)
            .map_err(InvalidControlRequest::body(r#"{"to":"http://127.0.0.1:3978/api/calls"}"#))?,
        default_app,
    )
}

pub(super) fn read_call(
    raw: RawCall,
    default_app: Option<Uuid>,
) -> Result<CallRequest, InvalidControlRequest> {
    let to = parse_http_url(&raw.to).map_err(|error| InvalidControlRequest::member("to", &error))?;
    let mut call = CallRequest::new(to, app(raw.app.as_deref(), default_app)?);
    if let Some(text) = raw.kind {
        call = call.with_kind(text.parse().map_err(|error| InvalidControlRequest::member("kind", &error))?);
    }
    if let Some(text) = raw.tenant {
        call.tenant = guid("tenant", &text)?;
    }
    if let Some(text) = raw.region {
        call.region = text.parse().map_err(|error| InvalidControlRequest::member("region", &error))?;
    }
    if let Some(text) = raw.country {
        call.country =
            Some(parse_country(&text).map_err(|error| InvalidControlRequest::member("country", &error))?);
    }
    if raw.body.is_some() {
        call.protocol = Protocol::Graph;
    }
    if let Some(text) = raw.protocol {
        call.protocol = text.parse().map_err(|error| InvalidControlRequest::member("protocol", &error))?;
    }
    if let Some(text) = raw.token {
        call.token = text.parse().map_err(|error| InvalidControlRequest::member("token", &error))?;
    }
    if let Some(text) = raw.duration {
        call.duration =
            parse_duration(&text.0).map_err(|error| InvalidControlRequest::member("duration", &error))?;
    }
    if let Some(text) = raw.answer_within {
        call.answer_within = parse_duration(&text.0)
            .map_err(|error| InvalidControlRequest::member("answer_within", &error))?;
    }
    if let Some(count) = raw.participants {
        if !(1..=PARTICIPANTS_MAX).contains(&count) {
            return Err(InvalidControlRequest::member("participants", &InvalidParticipants));
        }
        call.participants = count;
    }
    if let Some(steps) = raw.script {
        call.script =
            Some(Script::from_steps(steps).map_err(|error| InvalidControlRequest::member("script", &error))?);
    }
    if let Some(text) = raw.operations {
        let operations = text.parse().map_err(|error| InvalidControlRequest::member("operations", &error))?;
        call.operations = Some(operations);
    }
    call.replay = read_replay(raw.replay, raw.chain.as_deref(), call.script.is_some())?;
    call.body = raw.body.map(read_body).transpose()?;
    for text in raw.set.unwrap_or_default() {
        call.set.push(text.parse().map_err(|error| InvalidControlRequest::member("set", &error))?);
    }
    call.keep_alive = raw.keep_alive.unwrap_or(call.keep_alive);
    if let Some(text) = raw.expect {
        call.expect = text.parse().map_err(|error| InvalidControlRequest::member("expect", &error))?;
    }
    Ok(call)
}

/// Checks that a first notification has one of the two forms. The webhook judges the rest.
fn read_body(body: Value) -> Result<Value, InvalidControlRequest> {
    let graph = body.get("value").is_some_and(Value::is_array);
    let legacy = body.get("value").is_none() && body.get("id").is_some();
    if graph || legacy {
        return Ok(body);
    }
    let why = "neither a Graph notification (an object with the list `value`) nor a legacy one (with `id`)";
    Err(InvalidControlRequest::member("body", why))
}

fn read_replay(
    raw: Option<Vec<RawReplayed>>,
    chain: Option<&str>,
    script: bool,
) -> Result<Option<Replay>, InvalidControlRequest> {
    let wrong = |name, why: &str| Err(InvalidControlRequest::member(name, why));
    let Some(raw) = raw else {
        return if chain.is_some() { wrong("chain", "only a replayed call has one") } else { Ok(None) };
    };
    if script {
        return wrong("replay", "a call has a script or a replay, not both");
    }
    let chain = chain.map(|text| guid("chain", text)).transpose()?;
    let mut notifications = Vec::with_capacity(raw.len());
    for RawReplayed { after, body } in raw {
        if body.pointer("/value/0").is_none() {
            return wrong("replay", "a body is not a Graph notification with a first item in `value`");
        }
        let after = match after {
            Some(text) => parse_duration(&text.0)
                .map_err(|error| InvalidControlRequest::member("replay", &format!("after: {error}")))?,
            None => Duration::ZERO,
        };
        notifications.push(ReplayedNotification { after, body });
    }
    Ok(Some(Replay { chain, notifications }))
}

/// Returns the body that `parse_call` reads.
pub(crate) fn call_to_json(call: &CallRequest) -> Value {
    let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
    let mut body = serde_json::json!({
        "to": call.to.as_str(),
        "app": call.app.to_string(),
        "tenant": call.tenant.to_string(),
        "kind": call.kind.label(),
        "region": call.region.label(),
        "protocol": call.protocol.label(),
        "token": call.token.to_string(),
        "duration": milliseconds(call.duration),
        "answer_within": milliseconds(call.answer_within),
        "participants": call.participants,
        "keep_alive": call.keep_alive,
        "expect": call.expect.label(),
    });
    if let Some(body) = body.as_object_mut() {
        if let Some(country) = &call.country {
            body.insert("country".to_owned(), country.as_str().into());
        }
        if let Some(operations) = &call.operations {
            body.insert("operations".to_owned(), operations.to_string().into());
        }
        if let Some(script) = &call.script {
            body.insert("script".to_owned(), serde_json::json!(script.source()));
        }
        if let Some(first) = &call.body {
            body.insert("body".to_owned(), first.clone());
        }
        if !call.set.is_empty() {
            body.insert("set".to_owned(), call.set.iter().map(ToString::to_string).collect());
        }
        if let Some(replay) = &call.replay {
            let notifications = replay.notifications.iter();
            let notifications = notifications
                .map(|next| json!({"after": milliseconds(next.after), "body": next.body}))
                .collect();
            body.insert("replay".to_owned(), notifications);
            if let Some(chain) = replay.chain {
                body.insert("chain".to_owned(), chain.to_string().into());
            }
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: Uuid = Uuid::from_u128(8);

    #[track_caller]
    fn check_invalid(body: &str, expected: &str) {
        let error = parse_call(body.as_bytes(), Some(APP)).expect_err("an invalid body");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn an_invalid_call_is_rejected_with_the_valid_values() {
        check_invalid("", r#"like {"to":"http://127.0.0.1:3978/api/calls"}: EOF"#);
        check_invalid(r#"{"to":"http://x/","duration":5}"#, r#"expected a duration in quotes, like "500ms""#);
        check_invalid(r#"{"to":"http://x/","participants":"2"}"#, "expected a whole number");
        check_invalid("{}", "missing field `to`");
        check_invalid(r#"{"to":"ftp://x/"}"#, "to: not an http or https URL");
        check_invalid(r#"{"to":"http://u:p@x/"}"#, "to: not an http or https URL");
        check_invalid(r#"{"to":"http://x/","kindd":"p2p"}"#, "unknown field `kindd`");
        check_invalid(r#"{"to":"http://x/","kind":"fax"}"#, "kind: must be one of p2p, group");
        check_invalid(r#"{"to":"http://x/","app":"8"}"#, "app: not a GUID");
        check_invalid(r#"{"to":"http://x/","duration":"5"}"#, "duration: not a duration");
        check_invalid(r#"{"to":"http://x/","token":"good"}"#, "token: must be a kind (skype");
        check_invalid(r#"{"to":"http://x/","country":"USA"}"#, "country: not a country");
        check_invalid(
            r#"{"to":"http://x/","participants":0}"#,
            "participants: not a number of participants: 1",
        );
        check_invalid(r#"{"to":"http://x/","script":[]}"#, "script: a script has 1 to 1000 steps");
        check_invalid(
            r#"{"to":"http://x/","script":[{"do":"wait"}]}"#,
            "script: step 1 (wait): for is needed",
        );
        check_invalid(
            r#"{"to":"http://x/","operations":"later"}"#,
            "operations: must be notified, immediate",
        );
        check_invalid(r#"{"to":"http://x/","body":[1]}"#, "body: neither a Graph notification");
        check_invalid(r#"{"to":"http://x/","set":["x"]}"#, "set: not PATH=VALUE");
        check_invalid(r#"{"to":"http://x/","replay":[{"body":{}}]}"#, "replay: a body is not a Graph");
        check_invalid(r#"{"to":"http://x/","chain":"x"}"#, "chain: only a replayed call");
        check_invalid(r#"{"to":"http://x/","expect":"joy"}"#, "expect: must be one of completed");
    }

    #[test]
    fn a_call_reads_back_as_written() {
        let body = r#"{"to":"https://x.example/api/calls?a=1","kind":"recording",
            "region":"amer","country":"us","operations":"immediate:recordResponse","protocol":"graph","token":"entra-v2+expired","duration":"20ms","expect":"refused",
            "participants":3,"keep_alive":true,"body":{"value":[]},"set":["a=1","/b=x"],"script":[{"do":"tone","tone":5,"expect":"2xx"}]}"#;
        let call = parse_call(body.as_bytes(), Some(APP)).unwrap();
        let again = parse_call(call_to_json(&call).to_string().as_bytes(), None).unwrap();
        assert_eq!(format!("{call:?}"), format!("{again:?}"));
        assert_eq!(call.answer_within.as_secs(), 5);
        let body = r#"{"to":"http://x/","chain":"0efc74f7-41c3-47a4-8775-7259bfef4241",
            "replay":[{"after":"20ms","body":{"value":[{}]}}]}"#;
        let replayed = parse_call(body.as_bytes(), Some(APP)).unwrap();
        let again = parse_call(call_to_json(&replayed).to_string().as_bytes(), None).unwrap();
        assert_eq!(format!("{replayed:?}"), format!("{again:?}"));
        assert_eq!(call.country.as_deref(), Some("US"));
    }
}
