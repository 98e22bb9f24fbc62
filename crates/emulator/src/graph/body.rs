//! The bodies of the actions, checked as the Graph reference describes them ("call: answer", "call: reject",
//! "call: redirect").

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    decision::{AnswerRequest, RejectReason},
    refusal::GraphRefusal,
};
use crate::{
    call::parse_http_url,
    server::{header_text, is_loopback_url},
    words::{InvalidWord, word_in_any_case},
};

/// Unknown members are members of Graph that the emulator does not need. They are ignored, here and below.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAnswer {
    callback_uri: Option<String>,
    accepted_modalities: Option<Vec<String>>,
    media_config: Option<Value>,
    participant_capacity: Option<Value>,
    call_options: Option<Value>,
}

/// Reads the body of `answer`. The flag is true if the app hosts the media.
pub(super) fn answer(body: &[u8]) -> Result<(AnswerRequest, bool), GraphRefusal> {
    let raw: RawAnswer = parse(body)?;
    let callback = callback(raw.callback_uri.as_deref())?;
    let app_hosted = app_hosted(raw.media_config)?;
    modalities(raw.accepted_modalities, "acceptedModalities")?;
    let participant_capacity = match raw.participant_capacity.filter(|capacity| !capacity.is_null()) {
        Some(capacity) => {
            let capacity = capacity.as_u64().and_then(|capacity| u32::try_from(capacity).ok());
            let capacity = capacity.filter(|capacity| i32::try_from(*capacity).is_ok());
            capacity.ok_or_else(|| bad("participantCapacity must be an Int32 of 0 or more"))?
        }
        None => 0,
    };
    // The calling SDK writes 0 if the bot gives no capacity.
    let participant_capacity = Some(participant_capacity).filter(|capacity| *capacity > 0);
    let delta_roster =
        is_delta_roster(raw.call_options, "callOptions must be an incomingCallOptions object")?;
    Ok((AnswerRequest { callback, delta_roster, participant_capacity, scenario: None }, app_hosted))
}

/// Checks a media configuration; true if the app hosts the media.
pub(super) fn app_hosted(media: Option<Value>) -> Result<bool, GraphRefusal> {
    let media = media.ok_or_else(|| bad("mediaConfig is needed"))?;
    match media.get("@odata.type").and_then(Value::as_str).map(|name| name.trim_start_matches('#')) {
        Some("microsoft.graph.serviceHostedMediaConfig") => {
            prefetch(media.get("preFetchMedia"))?;
            Ok(false)
        }
        Some("microsoft.graph.appHostedMediaConfig") => {
            if media.get("blob").and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(bad("mediaConfig.blob is needed with appHostedMediaConfig"));
            }
            Ok(true)
        }
        _ => Err(bad("the @odata.type of mediaConfig must be #microsoft.graph.serviceHostedMediaConfig \
             or #microsoft.graph.appHostedMediaConfig")),
    }
}

/// Checks the modalities of a member.
pub(super) fn modalities(list: Option<Vec<String>>, member: &str) -> Result<(), GraphRefusal> {
    let list = list.ok_or_else(|| bad(&format!("{member} is needed")))?;
    if list.iter().all(|modality| word_in_any_case(modality, &MODALITIES).is_some()) {
        Ok(())
    } else {
        Err(bad(&format!("{member} takes {}", MODALITIES.join(", "))))
    }
}

/// Returns true if the options of a call ask for rosters that hold changes only.
pub(super) fn is_delta_roster(options: Option<Value>, invalid: &str) -> Result<bool, GraphRefusal> {
    let options = options.filter(|options| !options.is_null());
    if options.as_ref().is_some_and(|options| !options.is_object()) {
        return Err(bad(invalid));
    }
    let delta = options.as_ref().and_then(|options| options.get("isDeltaRosterEnabled"));
    Ok(delta.and_then(Value::as_bool).unwrap_or(false))
}

/// Refuses a body with a content coding, as the real service does.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), GraphRefusal> {
    let coding = header_text(headers, &header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(GraphRefusal::Compressed);
    }
    Ok(())
}

fn prefetch(media: Option<&Value>) -> Result<(), GraphRefusal> {
    let Some(media) = media.filter(|media| !media.is_null()) else { return Ok(()) };
    let text = |item: &Value, name: &str| item.get(name).filter(|text| !text.is_null()).map(Value::is_string);
    let good = |item: &Value| text(item, "uri") == Some(true) && text(item, "resourceId") != Some(false);
    if media.as_array().is_some_and(|items| items.iter().all(good)) {
        Ok(())
    } else {
        Err(bad("preFetchMedia must be a list of mediaInfo objects, each with uri and perhaps resourceId"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReject {
    callback_uri: Option<String>,
    reason: Option<String>,
}

/// Reads the body of `reject`: the callbackUri and the reason.
pub(super) fn reject(body: &[u8]) -> Result<(Option<Url>, RejectReason), GraphRefusal> {
    let raw: RawReject = parse(body)?;
    let reason = match raw.reason {
        Some(reason) => word_in_any_case(&reason, RejectReason::WORDS)
            .unwrap_or_default()
            .parse()
            .map_err(|why: InvalidWord| bad(&format!("reason {why}")))?,
        None => RejectReason::None,
    };
    Ok((callback(raw.callback_uri.as_deref())?, reason))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRedirect {
    callback_uri: Option<String>,
    targets: Option<Vec<Value>>,
    timeout: Option<Value>,
    mask_callee: Option<Value>,
    mask_caller: Option<Value>,
}

/// Reads the body of `redirect`: the callbackUri and the number of targets.
pub(super) fn redirect(body: &[u8]) -> Result<(Option<Url>, usize), GraphRefusal> {
    let raw: RawRedirect = parse(body)?;
    let targets = raw.targets.unwrap_or_default();
    if !(1..=TARGETS_MAX).contains(&targets.len()) {
        return Err(bad(&format!("targets takes 1 to {TARGETS_MAX} invitationParticipantInfo objects")));
    }
    if !targets.iter().all(is_invitation) {
        return Err(bad("each target needs an identity with an id"));
    }
    let seconds = raw.timeout.filter(|timeout| !timeout.is_null());
    if seconds.is_some_and(|timeout| timeout.as_u64().is_none_or(|seconds| !(15..=90).contains(&seconds))) {
        return Err(bad("timeout takes 15 to 90 seconds"));
    }
    if [raw.mask_callee, raw.mask_caller]
        .into_iter()
        .flatten()
        .any(|mask| !mask.is_null() && !mask.is_boolean())
    {
        return Err(bad("maskCallee and maskCaller must be true or false"));
    }
    Ok((callback(raw.callback_uri.as_deref())?, targets.len()))
}

/// Returns true for an `invitationParticipantInfo`: it has an identity with an id.
pub(super) fn is_invitation(target: &Value) -> bool {
    let id = |identity: &Value| identity.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    target.get("identity").and_then(Value::as_object).is_some_and(|identity| identity.values().any(id))
}

/// Reads a body.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, GraphRefusal> {
    serde_json::from_slice(body).map_err(|error| GraphRefusal::BadBody(error.to_string()))
}

/// Reads a callbackUri. The platform demands https; on loopback the emulator accepts http too.
pub(super) fn callback(text: Option<&str>) -> Result<Option<Url>, GraphRefusal> {
    let Some(text) = text else { return Ok(None) };
    if text.len() > CALLBACK_BYTES_MAX {
        return Err(bad(&format!("callbackUri takes at most {CALLBACK_BYTES_MAX} bytes")));
    }
    let url = parse_http_url(text).map_err(|_| GraphRefusal::BadCallback)?;
    if url.scheme() == "https" || is_loopback_url(&url) {
        Ok(Some(url))
    } else {
        Err(GraphRefusal::BadCallback)
    }
}

/// Returns the refusal of a body.
pub(super) fn bad(what: &str) -> GraphRefusal {
    GraphRefusal::BadBody(what.to_owned())
}

/// The scenario that a request names, if it is short enough for a notification.
pub(super) fn scenario(request: &Request<Bytes>) -> Option<HeaderValue> {
    let scenario = header_text(request.headers(), &HeaderName::from_static("scenario-id"))?;
    let fits = (1..=SCENARIO_BYTES_MAX).contains(&scenario.len());
    HeaderValue::from_str(scenario).ok().filter(|_| fits)
}

/// A scenario is a GUID; some bots write other short texts.
const SCENARIO_BYTES_MAX: usize = 128;

/// The timeline repeats it with each notification.
const CALLBACK_BYTES_MAX: usize = 4_096;
const MODALITIES: [&str; 4] = ["audio", "video", "videoBasedScreenSharing", "data"];
const TARGETS_MAX: usize = 25;
