//! The request that creates a call: its body, and its response (Graph reference, "Create call").

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::{
    bearer::{BearerApp, Gate},
    body::{app_hosted, bad, callback, check_coding, is_delta_roster, modalities, parse, scenario},
    decision::AnswerRequest,
    refusal::GraphRefusal,
};
use crate::{
    call::{CallKind, PlaceError},
    entra::Permission,
    issuer::DEFAULT_TENANT,
    participant::{Identity, IdentityKind},
    server::{Body, json_response},
};

/// A request to call people or a number, or to join a meeting.
#[derive(Debug)]
pub(crate) struct CreateRequest {
    pub(crate) app: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) kind: CallKind,
    pub(crate) callback: Url,
    /// The people to call or, in a meeting, its organizer if the request names one.
    pub(crate) people: Vec<Identity>,
    /// The options of the rosters, and the scenario.
    pub(crate) answer: AnswerRequest,
    /// The members of the request that the resource of the call repeats.
    pub(crate) document: Map<String, Value>,
}

/// Unknown members are members of Graph that the emulator does not need.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCall {
    callback_uri: Option<String>,
    requested_modalities: Option<Vec<String>>,
    media_config: Option<Value>,
    targets: Option<Vec<Value>>,
    source: Option<Value>,
    chat_info: Option<Value>,
    meeting_info: Option<Value>,
    tenant_id: Option<String>,
    direction: Option<String>,
    call_options: Option<Value>,
}

impl CreateRequest {
    /// Reads a request. `default_app` places calls of requests that name no app, if Graph asks for no token.
    pub(crate) fn read(
        request: &Request<Bytes>,
        gate: Gate<'_>,
        default_app: Option<Uuid>,
    ) -> Result<Self, GraphRefusal> {
        let app =
            gate.issued.map(|issued| BearerApp::read(request.headers(), issued, gate.now)).transpose()?;
        check_coding(request.headers())?;
        if request.body().len() > REQUEST_BYTES_MAX {
            return Err(bad(&format!("it takes at most {REQUEST_BYTES_MAX} bytes")));
        }
        let raw: RawCall = parse(request.body())?;
        let call = raw.check(request, app.as_ref(), default_app)?;
        let whole: Value = parse(request.body())?;
        let copied = COPIED.iter().filter_map(|name| {
            let value = whole.get(name).filter(|value| !value.is_null())?;
            Some(((*name).to_owned(), value.clone()))
        });
        Ok(Self { document: copied.collect(), ..call })
    }

    /// Returns the response to a request whose call was placed, with the resource of the call.
    pub(crate) fn created(id: Uuid, document: &Map<String, Value>) -> Response<Body> {
        let mut response = json_response(StatusCode::CREATED, &Value::Object(document.clone()));
        if let Ok(location) = HeaderValue::from_str(&format!("/v1.0/communications/calls/{id}")) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }

    /// Returns the response to a request whose call was not placed.
    pub(crate) fn not_placed(request: &Request<Bytes>, error: &PlaceError, gate: Gate<'_>) -> Response<Body> {
        let refusal = match error {
            PlaceError::TooMany => GraphRefusal::TooManyCalls,
            // The request sets no member of a notification.
            PlaceError::Crypto(_) | PlaceError::Member(_) => GraphRefusal::Fault(9_999),
        };
        refusal.response(request, gate.now)
    }
}

impl RawCall {
    fn check(
        self,
        request: &Request<Bytes>,
        app: Option<&BearerApp>,
        default_app: Option<Uuid>,
    ) -> Result<CreateRequest, GraphRefusal> {
        let callback = callback(self.callback_uri.as_deref())?.ok_or_else(|| bad("callbackUri is needed"))?;
        modalities(self.requested_modalities, "requestedModalities")?;
        let app_hosted = app_hosted(self.media_config)?;
        if self.direction.is_some_and(|direction| !direction.eq_ignore_ascii_case("outgoing")) {
            return Err(bad("direction must be outgoing"));
        }
        let (kind, people) = callees(self.targets.as_deref(), self.chat_info.as_ref(), self.meeting_info)?;
        let tenant = self.tenant_id.as_deref().map(guid).transpose()?;
        let tenant = tenant.or_else(|| app.map(|app| app.tenant)).unwrap_or(DEFAULT_TENANT);
        if app.is_some_and(|app| app.tenant != tenant) {
            return Err(GraphRefusal::OtherTenant);
        }
        let source = self.source.as_ref().and_then(|source| source.get("identity")).and_then(Identity::read);
        let source = source.filter(|source| source.kind == IdentityKind::Application);
        let named = source.map(|source| guid(&source.id)).transpose()?;
        let id = app.map(|app| app.id).or(named).or(default_app);
        let id =
            id.ok_or_else(|| bad("source.identity.application names no app, and Graph asks for no token"))?;
        if let Some(app) = app {
            permitted(app, kind, app_hosted)?;
        }
        let delta_roster =
            is_delta_roster(self.call_options, "callOptions must be an outgoingCallOptions object")?;
        let answer = AnswerRequest {
            callback: Some(callback.clone()),
            delta_roster,
            participant_capacity: None,
            scenario: scenario(request),
        };
        Ok(CreateRequest { app: id, tenant, kind, callback, people, answer, document: Map::new() })
    }
}

/// Returns the kind of the call, and the people to call.
fn callees(
    targets: Option<&[Value]>,
    chat: Option<&Value>,
    meeting: Option<Value>,
) -> Result<(CallKind, Vec<Identity>), GraphRefusal> {
    let people = invitees(targets.unwrap_or_default())?;
    let Some(meeting) = meeting.filter(|meeting| !meeting.is_null()) else {
        let kind = match people.as_slice() {
            [] => return Err(bad("targets is needed, or meetingInfo to join a meeting")),
            [one] if one.kind == IdentityKind::Phone => CallKind::Pstn,
            [_] => CallKind::P2p,
            _ => CallKind::Group,
        };
        return Ok((kind, people));
    };
    let text = |value: Option<&Value>, name: &str| {
        let text = value.and_then(|value| value.get(name)).and_then(Value::as_str);
        text.is_some_and(|text| !text.is_empty())
    };
    let kind = meeting.get("@odata.type").and_then(Value::as_str).unwrap_or_default();
    let organizer = match kind.rsplit('.').next().unwrap_or_default() {
        "organizerMeetingInfo" => {
            if !text(chat, "threadId") {
                return Err(bad("chatInfo.threadId is needed with organizerMeetingInfo"));
            }
            let organizer = meeting.get("organizer").and_then(Identity::read);
            Some(organizer.ok_or_else(|| bad("meetingInfo.organizer needs an identity with an id"))?)
        }
        "tokenMeetingInfo" if text(Some(&meeting), "token") => None,
        "tokenMeetingInfo" => return Err(bad("meetingInfo.token is needed with tokenMeetingInfo")),
        "joinMeetingIdMeetingInfo" if text(Some(&meeting), "joinMeetingId") => None,
        "joinMeetingIdMeetingInfo" => {
            return Err(bad("meetingInfo.joinMeetingId is needed with joinMeetingIdMeetingInfo"));
        }
        _ => {
            return Err(bad(
                "the @odata.type of meetingInfo must be #microsoft.graph.organizerMeetingInfo, \
                 tokenMeetingInfo or joinMeetingIdMeetingInfo",
            ));
        }
    };
    Ok((CallKind::Meeting, organizer.into_iter().chain(people).collect()))
}

/// Reads a list of `invitationParticipantInfo`.
pub(super) fn invitees(list: &[Value]) -> Result<Vec<Identity>, GraphRefusal> {
    if list.len() > INVITEES_MAX {
        return Err(bad(&format!("at most {INVITEES_MAX} people can be called at once")));
    }
    let read = |item: &Value| item.get("identity").and_then(Identity::read);
    let people: Option<Vec<Identity>> = list.iter().map(read).collect();
    let people = people.ok_or_else(|| bad("each target needs an identity with an id"))?;
    let dialable = |person: &Identity| {
        let digits = person.id.strip_prefix('+').unwrap_or_default();
        person.kind != IdentityKind::Phone
            || ((1..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    if people.iter().all(dialable) {
        Ok(people)
    } else {
        Err(bad("a phone id must be like +12025550123 (E.164)"))
    }
}

fn permitted(app: &BearerApp, kind: CallKind, app_hosted: bool) -> Result<(), GraphRefusal> {
    let needed: &'static [Permission] = match kind {
        CallKind::Meeting => &[Permission::JoinGroupCall, Permission::JoinGroupCallAsGuest],
        CallKind::Group => &[Permission::InitiateGroupCall],
        CallKind::P2p | CallKind::Pstn | CallKind::Recording => &[Permission::Initiate],
    };
    const MEDIA: &[Permission] = &[Permission::AccessMedia];
    if !app.may(needed) {
        return Err(GraphRefusal::NotPermitted(needed));
    }
    if app_hosted && !app.may(MEDIA) { Err(GraphRefusal::NotPermitted(MEDIA)) } else { Ok(()) }
}

fn guid(text: &str) -> Result<Uuid, GraphRefusal> {
    Uuid::try_parse(text).map_err(|_| bad("tenantId and the id of an application must be GUIDs"))
}

/// Returns the members that every call of a bot has, besides those of its request.
pub(crate) fn outgoing_document(
    request: &CreateRequest,
    id: Uuid,
    chain: Uuid,
    bot_participant: Uuid,
) -> Map<String, Value> {
    let mut document = request.document.clone();
    let own = json!({
        "@odata.type": "#microsoft.graph.call",
        "id": id.to_string(),
        "state": "establishing",
        "direction": "outgoing",
        "callbackUri": request.callback.as_str(),
        "callChainId": chain.to_string(),
        "tenantId": request.tenant.to_string(),
        "myParticipantId": bot_participant.to_string(),
    });
    if let Value::Object(own) = own {
        document.extend(own);
    }
    document
}

/// The call keeps what its request names. One with 100 people has some 40 KiB.
const REQUEST_BYTES_MAX: usize = 128 << 10;
/// The members of a request that the resource of its call repeats.
const COPIED: [&str; 7] =
    ["source", "targets", "requestedModalities", "mediaConfig", "chatInfo", "meetingInfo", "subject"];
/// Graph takes fewer; the reference names no number.
const INVITEES_MAX: usize = 100;
