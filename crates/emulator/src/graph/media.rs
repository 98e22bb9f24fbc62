//! The bodies of the operations on media: prompts, recordings, tones.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    body::{bad, parse},
    decision::{MediaRequest, OperationEffect, RecordRequest},
    refusal::GraphRefusal,
};
use crate::{
    call::parse_http_url,
    encoding::{base64_url, random_id},
    operation::Recording,
    script::Tone,
    words::word_in_any_case,
};

#[derive(Deserialize)]
struct RawPrompts {
    prompts: Option<Vec<Value>>,
}

/// Reads the body of `playPrompt`.
pub(super) fn play_prompt(body: &[u8]) -> Result<OperationEffect, GraphRefusal> {
    let RawPrompts { prompts } = parse(body)?;
    let prompts = prompts.unwrap_or_default();
    if !(1..=PROMPTS_MAX).contains(&prompts.len()) {
        return Err(bad(&format!("prompts takes 1 to {PROMPTS_MAX} mediaPrompt objects")));
    }
    let prompts = prompts.iter().map(prompt).collect::<Result<_, _>>()?;
    Ok(OperationEffect::Media(Box::new(MediaRequest { prompts, record: None })))
}

/// Reads a `mediaPrompt`.
fn prompt(prompt: &Value) -> Result<Url, GraphRefusal> {
    let info = prompt.get("mediaInfo").ok_or_else(|| bad("each prompt needs a mediaInfo"))?;
    if info.get("resourceId").is_some_and(|id| !id.is_null() && !id.is_string()) {
        return Err(bad("mediaInfo.resourceId must be a text"));
    }
    let uri = info.get("uri").and_then(Value::as_str);
    let uri = uri.filter(|uri| uri.len() <= URI_BYTES_MAX).and_then(|uri| parse_http_url(uri).ok());
    uri.ok_or_else(|| bad("mediaInfo.uri must be an http or https URL"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecord {
    prompts: Option<Vec<Value>>,
    barge_in_allowed: Option<bool>,
    initial_silence_timeout_in_seconds: Option<u64>,
    max_silence_timeout_in_seconds: Option<u64>,
    max_record_duration_in_seconds: Option<u64>,
    play_beep: Option<bool>,
    stop_tones: Option<Vec<String>>,
}

/// Reads the body of `recordResponse`. `folder` is the URL below which the recordings of the call are.
pub(super) fn record_response(body: &[u8], folder: &str) -> Result<OperationEffect, GraphRefusal> {
    let raw: RawRecord = parse(body)?;
    let prompts = raw.prompts.unwrap_or_default();
    if prompts.len() > 1 {
        return Err(bad("prompts takes one mediaPrompt object at most"));
    }
    let seconds = |name: &str, value: Option<u64>| match value.unwrap_or(5) {
        seconds @ 1..=120 => Ok(Duration::from_secs(seconds)),
        _ => Err(bad(&format!("{name} takes 1 to 120"))),
    };
    let stop_tones = raw.stop_tones.unwrap_or_default();
    let stop_tones = stop_tones.iter().map(|text| key(text));
    let stop_tones = stop_tones.collect::<Option<Vec<Tone>>>();
    let internal = |_| GraphRefusal::Fault(9_999);
    let id = random_id().map_err(internal)?;
    let mut secret = [0; 32];
    openssl::rand::rand_bytes(&mut secret).map_err(internal)?;
    let record = RecordRequest {
        barge_in: raw.barge_in_allowed.unwrap_or(false),
        initial_silence: seconds("initialSilenceTimeoutInSeconds", raw.initial_silence_timeout_in_seconds)?,
        max_silence: seconds("maxSilenceTimeoutInSeconds", raw.max_silence_timeout_in_seconds)?,
        max_length: seconds("maxRecordDurationInSeconds", raw.max_record_duration_in_seconds)?,
        beep: raw.play_beep.unwrap_or(true),
        stop_tones: stop_tones.ok_or_else(|| bad("stopTones takes 0 to 9, * and #"))?,
        recording: Recording {
            id,
            location: format!("{folder}/{id}"),
            access_token: base64_url(&secret),
            speech: AT_ONCE,
            length: AT_ONCE,
        },
    };
    let prompts = prompts.iter().map(prompt).collect::<Result<_, _>>()?;
    Ok(OperationEffect::Media(Box::new(MediaRequest { prompts, record: Some(record) })))
}

/// Reads a key: `#`, `5`, or a name of "toneInfo" like `tone5`.
fn key(text: &str) -> Option<Tone> {
    match text {
        "#" => Some(Tone::Pound),
        "*" => Some(Tone::Star),
        text => {
            let name = text.get(..4).filter(|start| start.eq_ignore_ascii_case("tone"));
            let name = name.map_or(text, |_| text.get(4..).unwrap_or_default());
            word_in_any_case(name, Tone::WORDS)?.parse().ok()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTones {
    tones: Option<Vec<String>>,
    delay_between_tones_ms: Option<u32>,
}

/// Reads the body of `sendDtmfTones`. The tones take their delays.
pub(super) fn send_tones(body: &[u8]) -> Result<OperationEffect, GraphRefusal> {
    let raw: RawTones = parse(body)?;
    let tones = raw.tones.unwrap_or_default();
    if !(1..=TONES_MAX).contains(&tones.len()) {
        return Err(bad(&format!("tones takes 1 to {TONES_MAX} tones")));
    }
    let known = |tone: &String| key(tone).is_some() || word_in_any_case(tone, &OTHER_TONES).is_some();
    if !tones.iter().all(known) {
        return Err(bad("tones takes tone0 to tone9, star, pound, a, b, c, d and flash"));
    }
    let delay = raw.delay_between_tones_ms.unwrap_or_default();
    if delay > DELAY_MS_MAX {
        return Err(bad(&format!("delayBetweenTonesMs takes at most {DELAY_MS_MAX}")));
    }
    let count = u64::try_from(tones.len()).unwrap_or(u64::MAX);
    Ok(OperationEffect::Timed(Duration::from_millis(u64::from(delay).saturating_mul(count))))
}

/// The Graph reference, "call: playPrompt".
const PROMPTS_MAX: usize = 20;
const URI_BYTES_MAX: usize = 4_096;
/// The length of a recording that is made at once.
const AT_ONCE: Duration = Duration::from_secs(1);
const OTHER_TONES: [&str; 5] = ["a", "b", "c", "d", "flash"];
const TONES_MAX: usize = 100;
const DELAY_MS_MAX: u32 = 60_000;
