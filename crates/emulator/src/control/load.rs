//! `POST /emulator/load`: reads and writes the body.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    InvalidControlRequest,
    call::{RawCall, call_to_json, read_call},
};
use crate::load::{CALLS_MAX, LoadRequest, RATE_MAX};

/// The body. Each member is spelled like the option of `switchboard-emulator load`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLoad {
    /// The calls to place, as `POST /emulator/calls` takes one.
    call: RawCall,
    calls: u32,
    rate: u32,
    kind_mix: Option<String>,
}

pub(crate) fn parse_load(
    body: &[u8],
    default_app: Option<Uuid>,
) -> Result<LoadRequest, InvalidControlRequest> {
    let raw: RawLoad = serde_json::from_slice(body).map_err(InvalidControlRequest::body(
        r#"{"call":{"to":"http://127.0.0.1:3978/api/calls"},"calls":100,"rate":10}"#,
    ))?;
    if !(1..=CALLS_MAX).contains(&raw.calls) {
        return Err(InvalidControlRequest::member("calls", &format!("must be 1 to {CALLS_MAX}")));
    }
    if !(1..=RATE_MAX).contains(&raw.rate) {
        return Err(InvalidControlRequest::member("rate", &format!("must be 1 to {RATE_MAX} a second")));
    }
    let kinds = raw
        .kind_mix
        .map(|text| text.parse().map_err(|error| InvalidControlRequest::member("kind_mix", &error)))
        .transpose()?;
    let call = read_call(raw.call, default_app)?;
    if call.body.is_some() || !call.set.is_empty() || call.replay.is_some() {
        return Err(InvalidControlRequest::member("call", "the calls of a load take no body, set or replay"));
    }
    Ok(LoadRequest { call, calls: raw.calls, rate: raw.rate, kinds })
}

/// Returns the body that `parse_load` reads.
pub(crate) fn load_to_json(load: &LoadRequest) -> Value {
    json!({
        "call": call_to_json(&load.call),
        "calls": load.calls,
        "rate": load.rate,
        "kind_mix": load.kinds.as_ref().map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_reads_back_as_written() {
        let body =
            r#"{"call":{"to":"http://x/","keep_alive":true},"calls":7,"rate":2,"kind_mix":"p2p=1,pstn=2"}"#;
        let load = parse_load(body.as_bytes(), Some(Uuid::nil())).unwrap();
        let again = parse_load(load_to_json(&load).to_string().as_bytes(), None).unwrap();
        assert_eq!(format!("{load:?}"), format!("{again:?}"));
    }

    #[test]
    fn an_invalid_load_is_rejected_with_the_valid_values() {
        for (body, expected) in [
            (r#"{"call":{"to":"http://x/"},"calls":0,"rate":1}"#, "calls: must be 1 to 100000"),
            (r#"{"call":{"to":"http://x/"},"calls":1,"rate":0}"#, "rate: must be 1 to 10000 a second"),
            (r#"{"call":{"to":"http://x/"},"calls":1}"#, "missing field `rate`"),
            (r#"{"call":{"to":"x"},"calls":1,"rate":1}"#, "to: not an http or https URL"),
            (r#"{"call":{"to":"http://x/"},"calls":1,"rate":1,"kind_mix":"x"}"#, "kind_mix: not a mix"),
        ] {
            let error = parse_load(body.as_bytes(), Some(Uuid::nil())).expect_err(body).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
