//! `InCallAction::parse_list`: each member of the JSON of an action in a call, and what it must be.

use serde_json::{Map, Value};

use super::{
    error::InvalidAction,
    in_call::{InCallAction, InCallActionKind},
    json::{self, Members, Node},
    read::{
        ACTION_BYTES_MAX, IDENTITY_MUST, NOT_EMPTY_MUST, URI_MUST, array, flag, identity_set, is_web,
        odata_type, text, whole,
    },
};
use crate::body;

/// The members of a request to Graph.
type Request = Map<String, Value>;

impl InCallAction {
    /// Parses the JSON of one action, or of a list of 1 to 16. It is as strict as
    /// [`Action::parse`](super::Action::parse).
    ///
    /// # Errors
    ///
    /// `bytes` is too large, is not JSON, or is not a list of actions; the error says where and what would be
    /// right.
    pub fn parse_list(bytes: &[u8]) -> Result<Vec<Self>, InvalidAction> {
        if bytes.len() > ACTION_BYTES_MAX {
            return Err(InvalidAction::too_large(ACTION_BYTES_MAX));
        }
        match json::parse(bytes)? {
            Node::Array(nodes) if (1..=ACTIONS_MAX).contains(&nodes.len()) => {
                nodes.into_iter().enumerate().map(|(at, node)| action(node, format!("[{at}]"))).collect()
            }
            node @ Node::Object(_) => Ok(vec![action(node, String::new())?]),
            Node::Array(_) | Node::Null | Node::Bool(_) | Node::Whole(_) | Node::Number | Node::Text(_) => {
                Err(InvalidAction::value("", LIST_MUST))
            }
        }
    }
}

fn action(node: Node, path: String) -> Result<InCallAction, InvalidAction> {
    let mut members = Members::of(node, path)?;
    let (name, path) = members.require("action", ACTION_MUST)?;
    let name = text(name);
    let kind = InCallActionKind::ALL.iter().find(|kind| name.as_deref() == Some(kind.as_str()));
    let kind = *kind.ok_or_else(|| InvalidAction::value(path, ACTION_MUST))?;
    let request = match kind {
        InCallActionKind::Play => play(&mut members)?,
        InCallActionKind::Record => record(&mut members)?,
        InCallActionKind::Transfer => transfer(&mut members)?,
        InCallActionKind::Invite => invite(&mut members)?,
        InCallActionKind::Tones | InCallActionKind::Mute => {
            members.only(&["action", "clientContext"])?;
            Request::new()
        }
        InCallActionKind::HangUp => {
            members.only(&["action"])?;
            Request::new()
        }
    };
    let client_context = short_text(&mut members, "clientContext", CONTEXT_CHARS_MAX, CONTEXT_MUST)?;
    Ok(InCallAction { kind, client_context, members: request })
}

fn play(members: &mut Members) -> Result<Request, InvalidAction> {
    members.only(&["action", "prompts", "clientContext"])?;
    let (prompts, path) = members.require("prompts", PLAYED_PROMPTS_MUST)?;
    let prompts = media_prompts(prompts, &path, 1, PLAYED_PROMPTS_MAX, PLAYED_PROMPTS_MUST)?;
    Ok(Request::from_iter([("prompts".to_owned(), prompts)]))
}

fn record(members: &mut Members) -> Result<Request, InvalidAction> {
    members.only(&[
        "action",
        "prompts",
        "bargeInAllowed",
        "initialSilenceTimeoutInSeconds",
        "maxSilenceTimeoutInSeconds",
        "maxRecordDurationInSeconds",
        "playBeep",
        "stopTones",
        "clientContext",
    ])?;
    let mut request = Request::new();
    if let Some((prompts, path)) = members.take("prompts") {
        let prompts = media_prompts(prompts, &path, 0, 1, RECORD_PROMPTS_MUST)?;
        request.insert("prompts".to_owned(), prompts);
    }
    put_flags(members, &mut request, &["bargeInAllowed", "playBeep"])?;
    for name in ["initialSilenceTimeoutInSeconds", "maxSilenceTimeoutInSeconds", "maxRecordDurationInSeconds"]
    {
        let Some((seconds, path)) = members.take(name) else { continue };
        let seconds = whole(&seconds).filter(|seconds| (1..=RECORD_SECONDS_MAX).contains(seconds));
        let seconds = seconds.ok_or_else(|| InvalidAction::value(path, RECORD_SECONDS_MUST))?;
        request.insert(name.to_owned(), seconds.into());
    }
    if let Some((tones, path)) = members.take("stopTones") {
        let tones = array(tones)
            .filter(|tones| tones.len() <= STOP_TONES_MAX)
            .and_then(|tones| tones.into_iter().map(stop_tone).collect::<Option<Vec<_>>>());
        let tones = tones.ok_or_else(|| InvalidAction::value(path, STOP_TONES_MUST))?;
        request.insert("stopTones".to_owned(), tones.into());
    }
    Ok(request)
}

/// One key, or several in a row: the Graph reference shows both.
fn stop_tone(node: Node) -> Option<Value> {
    let is_key = |key: char| matches!(key, '0'..='9' | 'A'..='D' | 'a'..='d' | '*' | '#');
    let keys = text(node)?;
    ((1..=STOP_TONE_KEYS_MAX).contains(&keys.len()) && keys.chars().all(is_key)).then(|| keys.into())
}

fn transfer(members: &mut Members) -> Result<Request, InvalidAction> {
    members.only(&["action", "transferTarget", "transferee", "clientContext"])?;
    let (target, path) = members.require("transferTarget", "must be an object")?;
    let target = participant(Members::of(target, path)?, INVITATION)?;
    let mut request = Request::from_iter([("transferTarget".to_owned(), target)]);
    if let Some((transferee, path)) = members.take("transferee") {
        let transferee = participant(Members::of(transferee, path)?, PARTICIPANT)?;
        request.insert("transferee".to_owned(), transferee);
    }
    Ok(request)
}

fn invite(members: &mut Members) -> Result<Request, InvalidAction> {
    members.only(&["action", "participants", "clientContext"])?;
    let (participants, path) = members.require("participants", INVITED_MUST)?;
    let participants = array(participants)
        .filter(|nodes| (1..=INVITED_MAX).contains(&nodes.len()))
        .ok_or_else(|| InvalidAction::value(path.as_str(), INVITED_MUST))?
        .into_iter()
        .enumerate()
        .map(|(at, node)| participant(Members::of(node, format!("{path}[{at}]"))?, INVITATION))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Request::from_iter([("participants".to_owned(), participants.into())]))
}

/// The type of a participant in Graph.
#[derive(Clone, Copy)]
struct ParticipantType {
    odata_type: &'static str,
    must: &'static str,
    known: &'static [&'static str],
}

/// A participant to ring.
const INVITATION: ParticipantType = ParticipantType {
    odata_type: "#microsoft.graph.invitationParticipantInfo",
    must: "must be \"#microsoft.graph.invitationParticipantInfo\"",
    known: &[
        "@odata.type",
        "identity",
        "endpointType",
        "languageId",
        "region",
        "participantId",
        "replacesCallId",
        "hidden",
        "removeFromDefaultAudioRoutingGroup",
    ],
};

/// A participant who is in the call.
const PARTICIPANT: ParticipantType = ParticipantType {
    odata_type: "#microsoft.graph.participantInfo",
    must: "must be \"#microsoft.graph.participantInfo\"",
    known: &["@odata.type", "identity", "endpointType", "languageId", "region", "participantId"],
};

fn participant(mut members: Members, kind: ParticipantType) -> Result<Value, InvalidAction> {
    members.only(kind.known)?;
    odata_type(&mut members, &[kind.odata_type], kind.must)?;
    let (identity, path) = members.require("identity", IDENTITY_MUST)?;
    let identity = body::identity_set(&identity_set(Members::of(identity, path)?)?);
    let mut request = Request::from_iter([
        ("@odata.type".to_owned(), kind.odata_type.into()),
        ("identity".to_owned(), identity),
    ]);
    if let Some((endpoint, path)) = members.take("endpointType") {
        let endpoint = text(endpoint).filter(|endpoint| ENDPOINT_TYPES.contains(&endpoint.as_str()));
        let endpoint = endpoint.ok_or_else(|| InvalidAction::value(path, ENDPOINT_MUST))?;
        request.insert("endpointType".to_owned(), endpoint.into());
    }
    for name in ["languageId", "region", "participantId", "replacesCallId"] {
        if let Some(value) = short_text(&mut members, name, TEXT_CHARS_MAX, TEXT_MUST)? {
            request.insert(name.to_owned(), value.into());
        }
    }
    put_flags(&mut members, &mut request, &["hidden", "removeFromDefaultAudioRoutingGroup"])?;
    Ok(request.into())
}

fn media_prompts(
    prompts: Node,
    path: &str,
    least: usize,
    most: usize,
    must: &'static str,
) -> Result<Value, InvalidAction> {
    let prompts = array(prompts)
        .filter(|nodes| (least..=most).contains(&nodes.len()))
        .ok_or_else(|| InvalidAction::value(path, must))?
        .into_iter()
        .enumerate()
        .map(|(at, node)| media_prompt(Members::of(node, format!("{path}[{at}]"))?))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(prompts.into())
}

fn media_prompt(mut members: Members) -> Result<Value, InvalidAction> {
    members.only(&["@odata.type", "mediaInfo"])?;
    odata_type(&mut members, &["#microsoft.graph.mediaPrompt"], "must be \"#microsoft.graph.mediaPrompt\"")?;
    let (info, path) = members.require("mediaInfo", "must be an object")?;
    let info = media_info(Members::of(info, path)?)?;
    Ok(Request::from_iter([
        ("@odata.type".to_owned(), "#microsoft.graph.mediaPrompt".into()),
        ("mediaInfo".to_owned(), info),
    ])
    .into())
}

fn media_info(mut members: Members) -> Result<Value, InvalidAction> {
    members.only(&["@odata.type", "uri", "resourceId"])?;
    odata_type(&mut members, &["#microsoft.graph.mediaInfo"], "must be \"#microsoft.graph.mediaInfo\"")?;
    let (uri, path) = members.require("uri", URI_MUST)?;
    let uri = text(uri).filter(|uri| is_web(uri)).ok_or_else(|| InvalidAction::value(path, URI_MUST))?;
    let mut request = Request::from_iter([
        ("@odata.type".to_owned(), "#microsoft.graph.mediaInfo".into()),
        ("uri".to_owned(), uri.into()),
    ]);
    if let Some(id) = short_text(&mut members, "resourceId", usize::MAX, NOT_EMPTY_MUST)? {
        request.insert("resourceId".to_owned(), id.into());
    }
    Ok(request.into())
}

/// Removes `name` and returns its text, if it is there.
fn short_text(
    members: &mut Members,
    name: &str,
    chars_max: usize,
    must: &'static str,
) -> Result<Option<String>, InvalidAction> {
    let Some((node, path)) = members.take(name) else { return Ok(None) };
    let value = text(node).filter(|text| !text.is_empty() && text.chars().count() <= chars_max);
    value.map(Some).ok_or_else(|| InvalidAction::value(path, must))
}

/// Copies these members, each `true` or `false`, if they are there.
fn put_flags(members: &mut Members, request: &mut Request, names: &[&str]) -> Result<(), InvalidAction> {
    for name in names {
        if let Some(value) = flag(members, name)? {
            request.insert((*name).to_owned(), value.into());
        }
    }
    Ok(())
}

const LIST_MUST: &str = "must be an object, or an array of 1 to 16 objects";
const ACTION_MUST: &str = "must be \"play\", \"record\", \"tones\", \"transfer\", \"invite\", \"mute\" or \
                           \"hangup\"";
const CONTEXT_MUST: &str = "must be a string of 1 to 256 characters";
const TEXT_MUST: &str = "must be a string of 1 to 1024 characters";
const PLAYED_PROMPTS_MUST: &str = "must be an array of 1 to 20 prompts";
const RECORD_PROMPTS_MUST: &str = "must be an array of at most 1 prompt";
const RECORD_SECONDS_MUST: &str = "must be a whole number of seconds from 1 to 120";
const STOP_TONES_MUST: &str =
    "must be an array of at most 16 strings of 1 to 16 keys, each of 0 to 9, A to D, * and #";
const INVITED_MUST: &str = "must be an array of 1 to 5 participants";
const ENDPOINT_MUST: &str =
    "must be \"default\", \"voicemail\", \"skypeForBusiness\" or \"skypeForBusinessVoipPhone\"";

const ENDPOINT_TYPES: [&str; 4] = ["default", "voicemail", "skypeForBusiness", "skypeForBusinessVoipPhone"];

/// More than a bot needs in reply to one notification. The gateway sends them one after the other.
const ACTIONS_MAX: usize = 16;
/// "Max limit is 256 chars" (call: playPrompt, and all others with a `clientContext`).
const CONTEXT_CHARS_MAX: usize = 256;
/// As for the texts of an identity.
const TEXT_CHARS_MAX: usize = 1024;
/// "The maximum supported MediaPrompt collection size is 20" (call: playPrompt).
const PLAYED_PROMPTS_MAX: usize = 20;
/// "Min = 1 second, Max = 120 seconds", for each of the three (call: recordResponse).
const RECORD_SECONDS_MAX: i64 = 120;
/// A telephone has 16 keys.
const STOP_TONES_MAX: usize = 16;
/// Graph documents no limit. No longer sequence is of use.
const STOP_TONE_KEYS_MAX: usize = 16;
/// "Inviting up to 5 participants is supported" (participant: invite).
const INVITED_MAX: usize = 5;
