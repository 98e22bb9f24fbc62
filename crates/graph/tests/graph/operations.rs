//! The requests in a call and for a new one: what Graph receives, and what its responses mean.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use switchboard_graph::{
    CallDestination, CallResult, ClientContext, GraphCallId, GraphCallState, GraphError, GraphModality,
    GraphOperation, GraphResponseBody, Invitee, MediaConfig, NewCall, Operation, OperationStatus,
    ParticipantId, PlayPrompt, Prompt, RecordResponse, RecordingStatus, RedirectTarget, RedirectTargetKind,
    SendDtmfTones, Tone, Transfer, TransportErrorKind,
};
use tokio::time::Instant;

use crate::support::{CALL, Reply, Script, call, callback, calls, now, tenant};

const GRAPH: &str = "https://graph.microsoft.com/v1.0/communications/calls";

/// The bodies of requests and responses, by name: those of Microsoft's calling SDK, with the enums as the
/// reference spells them, or those of the reference.
const SHAPES: &str = include_str!("shapes.json");

fn shape(name: &str) -> Value {
    let shapes: Value = serde_json::from_str(SHAPES).unwrap();
    shapes.get(name).unwrap_or_else(|| panic!("no shape {name}")).clone()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn context() -> ClientContext {
    ClientContext::parse("d45324c1").unwrap()
}

fn prompt() -> Prompt {
    Prompt { uri: "https://cdn.contoso.com/beep.wav".to_owned(), resource_id: "beep-1".to_owned() }
}

fn play() -> Operation {
    Operation::PlayPrompt(PlayPrompt::new(context(), vec![prompt()]).unwrap())
}

fn user() -> RedirectTarget {
    RedirectTarget::new(RedirectTargetKind::User, "112f7296").unwrap()
}

fn replacing() -> Invitee {
    Invitee { target: user(), replaces_call: Some(GraphCallId::parse("57dab8b1").unwrap()) }
}

fn media() -> MediaConfig {
    MediaConfig::ServiceHosted { prefetch: Vec::new() }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// Graph responds with `reply` to `operation`.
fn operate(operation: &Operation, reply: Reply) -> (Arc<Script>, Result<GraphOperation, GraphError>) {
    let script = Script::graph([reply]);
    let calls = calls(&script);
    let result = block_on(async { calls.operate(tenant(), &call(), operation, deadline(), now()).await });
    (script, result)
}

/// `operation` becomes one request, whose body has this shape.
#[track_caller]
fn check(operation: &Operation, path: &str, name: &str) {
    let (script, result) = operate(operation, Reply::new(200, &[], "{}"));
    result.unwrap();
    assert_eq!(script.lines()[1..], [format!("POST {GRAPH}/{CALL}/{path}")]);
    assert_eq!(json(&script.bodies()[0]), shape(name), "{path}");
    assert_eq!(script.headers("content-type"), [Some("application/json".to_owned())]);
    assert!(path.ends_with(operation.name()));
}

#[test]
fn each_operation_has_its_recorded_shape() {
    let client_context = context();
    let only = "only clientContext";
    check(&play(), "playPrompt", "playPrompt");
    check(&Operation::RecordResponse(RecordResponse::new(context())), "recordResponse", only);
    let record = RecordResponse {
        barge_in_allowed: Some(true),
        client_context: context(),
        initial_silence_timeout_in_seconds: Some(5),
        max_record_duration_in_seconds: Some(10),
        max_silence_timeout_in_seconds: Some(2),
        play_beep: Some(true),
        prompt: Some(prompt()),
        stop_tones: vec!["#".to_owned()],
    };
    check(&Operation::RecordResponse(record), "recordResponse", "recordResponse");
    check(&Operation::SubscribeToTone { client_context: context() }, "subscribeToTone", only);
    check(&Operation::CancelMediaProcessing { client_context: context() }, "cancelMediaProcessing", only);
    check(&Operation::Mute { client_context: context() }, "mute", only);
    check(&Operation::Unmute { client_context: context() }, "unmute", only);
    for (status, word) in [
        (RecordingStatus::Recording, "recording"),
        (RecordingStatus::NotRecording, "notRecording"),
        (RecordingStatus::Failed, "failed"),
    ] {
        let operation = Operation::UpdateRecordingStatus { client_context: context(), status };
        check(&operation, "updateRecordingStatus", word);
    }
    let tones = SendDtmfTones {
        client_context: context(),
        delay_between_tones_ms: Some(300),
        tones: vec![Tone::Tone0, Tone::Tone9, Tone::Star, Tone::Pound, Tone::A, Tone::Flash],
    };
    check(&Operation::SendDtmfTones(tones), "sendDtmfTones", "sendDtmfTones");
    let participants = vec![user().into(), replacing()];
    check(&Operation::Invite { client_context: context(), participants }, "participants/invite", "invite");
    let participant = ParticipantId::parse("8:orgid:1").unwrap();
    let mute = Operation::MuteParticipant { client_context, participant };
    check(&mute, "participants/8%3Aorgid%3A1/mute", only);
}

#[test]
fn a_transfer_is_blind_or_consultative() {
    for (transfer_target, name) in [(user().into(), "blind transfer"), (replacing(), "consultative transfer")]
    {
        let script = Script::graph([Reply::status(202)]);
        let calls = calls(&script);
        let transfer = Transfer { transfer_target };
        block_on(async { calls.transfer(tenant(), &call(), &transfer, deadline(), now()).await }).unwrap();
        assert_eq!(script.lines()[1..], [format!("POST {GRAPH}/{CALL}/transfer")]);
        assert_eq!(json(&script.bodies()[0]), shape(name));
    }
}

#[test]
fn a_participant_is_removed() {
    let script = Script::graph([Reply::status(204)]);
    let calls = calls(&script);
    let error = ParticipantId::parse("p/1").unwrap_err();
    assert_eq!(error.to_string(), "id has a character that is not allowed");
    let participant = ParticipantId::parse("a31f5a00").unwrap();
    let removed =
        async { calls.remove_participant(tenant(), &call(), &participant, deadline(), now()).await };
    block_on(removed).unwrap();
    assert_eq!(script.lines()[1..], [format!("DELETE {GRAPH}/{CALL}/participants/a31f5a00")]);
    assert_eq!(script.bodies(), [b""]);
}

/// A call to `to` becomes one request, whose body has this shape.
#[track_caller]
fn check_new(to: CallDestination, source: Option<RedirectTarget>, name: &str) {
    let mut new = NewCall::new(to, vec![GraphModality::Audio], media()).unwrap();
    if let Some(source) = source {
        new = new.with_source(source);
    }
    let script = Script::graph([Reply::new(201, &[], r#"{"id":"57dab8b1","state":"Establishing"}"#)]);
    let calls = calls(&script);
    let created =
        block_on(async { calls.create(tenant(), &new, &callback(), deadline(), now()).await }).unwrap();
    assert_eq!(created.id.as_str(), "57dab8b1");
    assert_eq!(created.call.state, Some(GraphCallState::Establishing));
    assert_eq!(script.lines()[1..], [format!("POST {GRAPH}")]);
    assert_eq!(json(&script.bodies()[0]), shape(name));
}

#[test]
fn a_call_goes_to_people_and_to_meetings() {
    check_new(CallDestination::People(vec![user()]), None, "call of a person");
    let bot = RedirectTarget::new(RedirectTargetKind::Application, "0efc74f7").unwrap();
    let source = Some(bot.with_display_name("Bot").unwrap());
    check_new(CallDestination::People(vec![user()]), source, "call with a source");
    let thread_id = "19:meeting@thread.v2".to_owned();
    let meeting = CallDestination::Meeting { thread_id, message_id: None, organizer: user() };
    check_new(meeting, None, "scheduled meeting");
    check_new(CallDestination::MeetingToken("t0k3n".to_owned()), None, "meeting by token");
    let join = |passcode: Option<&str>| CallDestination::MeetingId {
        join_meeting_id: "1234567".to_owned(),
        passcode: passcode.map(str::to_owned),
    };
    check_new(join(None), None, "meeting by id");
    check_new(join(Some("psw123")), None, "meeting by id and passcode");
    assert_eq!(format!("{:?}", join(Some("psw123"))), "MeetingId");
}

#[test]
fn requests_that_graph_would_refuse_are_not_built() {
    let audio = || vec![GraphModality::Audio];
    let text = "clientContext must be a string of 1 to 256 characters";
    let prompts = "prompts must be an array of 1 to 20 prompts";
    for (error, expected) in [
        (ClientContext::parse("").unwrap_err(), text),
        (ClientContext::parse(&"ä".repeat(257)).unwrap_err(), text),
        (PlayPrompt::new(context(), Vec::new()).unwrap_err(), prompts),
        (PlayPrompt::new(context(), vec![prompt(); 21]).unwrap_err(), prompts),
        (
            NewCall::new(CallDestination::People(Vec::new()), audio(), media()).unwrap_err(),
            "targets must be an array of one target or more",
        ),
        (
            NewCall::new(CallDestination::People(vec![user()]), Vec::new(), media()).unwrap_err(),
            "requestedModalities must be an array of one modality or more",
        ),
    ] {
        assert_eq!(error.to_string(), expected);
    }
    ClientContext::parse(&"ä".repeat(256)).unwrap();
    assert_eq!(ClientContext::random().unwrap().as_str().len(), 36);
}

#[test]
fn the_response_to_an_operation_is_read_as_far_as_it_goes() {
    let mute = Operation::Mute { client_context: context() };
    let status = OperationStatus::Unknown;
    let unknown = GraphOperation { id: None, status, client_context: None, result: None, message: None };
    let running = &shape("running operation").to_string();
    let failed = &shape("failed operation").to_string();
    let of = |status| GraphOperation {
        id: Some("0fe0623f".to_owned()),
        status,
        client_context: Some("d45324c1".to_owned()),
        ..unknown.clone()
    };
    let deep = "[".repeat(60_000);
    for (reply, expected) in [
        (Reply::new(200, &[], running), of(OperationStatus::Running)),
        (Reply::new(200, &[], &running.replace("running", "notStarted")), of(OperationStatus::NotStarted)),
        (Reply::new(200, &[], &running.replace("running", "COMPLETED")), of(OperationStatus::Completed)),
        (Reply::new(200, &[], &running.replace("running", "paused")), of(OperationStatus::Unknown)),
        (
            Reply::new(200, &[], failed),
            GraphOperation {
                result: Some(CallResult { code: Some(400), subcode: Some(8523) }),
                message: Some("Prompt\\nrejected".to_owned()),
                ..of(OperationStatus::Failed)
            },
        ),
        (Reply::status(202), unknown.clone()),
        (Reply::new(200, &[], "[]"), unknown.clone()),
        (Reply::new(200, &[], r#"{"id":1,"status":{},"resultInfo":"x"}"#), unknown.clone()),
        (Reply::new(200, &[], &deep), unknown.clone()),
        (Reply::unread(200, GraphResponseBody::CutOff), unknown.clone()),
        (Reply::unread(200, GraphResponseBody::TooLarge), unknown.clone()),
    ] {
        let (script, result) = operate(&mute, reply);
        assert_eq!(result.unwrap(), expected);
        assert_eq!(script.bodies().len(), 1);
    }
}

#[test]
fn an_error_has_the_code_and_the_message_of_graph() {
    let (_, result) = operate(&play(), Reply::new(400, &[], &shape("error").to_string()));
    let Err(GraphError::Refused(refusal)) = result else { panic!("{result:?}") };
    assert_eq!(
        (refusal.status, refusal.code(), refusal.message(), refusal.request_id()),
        (400, Some("7507"), Some("Media is not service-hosted."), Some("f5000000"))
    );
    // The outcome is unknown: the request is not repeated.
    let (script, result) = operate(&play(), Reply::error(TransportErrorKind::Lost));
    assert!(result.unwrap_err().is_outcome_unknown());
    assert_eq!(script.bodies().len(), 1);
}

#[test]
fn a_created_call_has_the_id_of_the_body_or_of_the_location() {
    let people = CallDestination::People(vec![user()]);
    let new = NewCall::new(people, vec![GraphModality::Audio], media()).unwrap();
    let create = |status, location: &str, body: &str| {
        let script = Script::graph([Reply::new(status, &[("Location", location)], body)]);
        let calls = calls(&script);
        let created = block_on(async { calls.create(tenant(), &new, &callback(), deadline(), now()).await });
        assert_eq!(script.bodies().len(), 1);
        created.map(|created| created.id.to_string()).map_err(|error| error.label())
    };
    let location = &*format!("{GRAPH}/57dab8b1");
    for (status, location, body, expected) in [
        (201, "", r#"{"id":"a31f5a00"}"#, Ok("a31f5a00")),
        (201, location, r#"{"id":"a31f5a00"}"#, Ok("a31f5a00")),
        (201, location, "", Ok("57dab8b1")),
        (202, location, r#"{"id":"a/b"}"#, Ok("57dab8b1")),
        (201, "/communications/calls/57dab8b1/?x=/y", "{}", Ok("57dab8b1")),
        (201, "calls/57dab8b1", "{}", Ok("57dab8b1")),
        (201, GRAPH, "{}", Err("unexpected")),
        (201, "57dab8b1", "", Err("unexpected")),
        (201, "https://graph.microsoft.com/v1.0/users/57dab8b1", "", Err("unexpected")),
        (201, "", "", Err("unexpected")),
        (403, location, r#"{"error":{"code":"7504","message":"Words."}}"#, Err("missing_permission")),
    ] {
        assert_eq!(create(status, location, body), expected.map(str::to_owned), "{location} {body}");
    }
}
