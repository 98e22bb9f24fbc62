//! The bodies, by their members.

use serde_json::Value;
use uuid::Uuid;

use super::{incoming::incoming, parts::CALLER_NUMBER, *};
use crate::{
    call::{CallKind, CallRequest, parse_http_url},
    participant::{Identity, Participant},
};

fn call(kind: CallKind) -> CallRequest {
    let to = parse_http_url("http://127.0.0.1:1/api/calls").unwrap();
    CallRequest::new(to, Uuid::from_u128(8)).with_kind(kind)
}

/// Checks one string in the Graph body of a new call.
#[track_caller]
fn check(kind: CallKind, pointer: &str, expected: Option<&str>) {
    let body = incoming(&call(kind), &CallIds::numbered());
    let resource = &body["value"][0]["resourceData"];
    assert_eq!(resource.pointer(pointer).and_then(Value::as_str), expected, "{kind} {pointer}");
}

#[test]
fn each_kind_of_call_has_its_members() {
    let observed = "/incomingContext/observedParticipantId";
    check(CallKind::P2p, observed, None);
    check(CallKind::Recording, observed, Some("00000000-0000-0000-0000-000000000005"));
    check(CallKind::Recording, "/applicationMetadata/botData/inviteReasons/0", Some("ComplianceRecording"));
    check(CallKind::Recording, "/mediaHostedRegion", Some("EUNO"));
    check(CallKind::P2p, "/targets/0/identity/application/id", Some("00000000-0000-0000-0000-000000000008"));
    check(CallKind::Pstn, "/source/identity/phone/id", Some(CALLER_NUMBER));
    check(CallKind::P2p, "/chatInfo/threadId", None);
    let meeting_thread = Some("19:meeting_00000000000000000000000000000002@thread.v2");
    check(CallKind::Meeting, "/chatInfo/threadId", meeting_thread);
    let organizer = "/meetingInfo/organizer/user/tenantId";
    check(CallKind::Group, organizer, Some("11111111-2222-4333-8444-555555555555"));
}

#[test]
fn a_state_change_has_the_length_seen_on_the_wire() {
    // 353 bytes: the Content-Length that a user's log shows for this notification.
    assert_eq!(state(&CallIds::numbered(), "establishing").to_string().len(), 353);
}

fn person(id: u128) -> Participant {
    Participant::new(Uuid::from_u128(id), Identity::user(Uuid::from_u128(id + 10)))
}

#[test]
fn a_delta_roster_lists_changes_only() {
    let call = call(CallKind::Group);
    let (joiner, leaver) = (person(10), person(11));
    let full = roster(&call, &CallIds::numbered(), Roster::Full(&[joiner.clone(), leaver.clone()]), 2);
    assert_eq!(full["value"][0]["resourceData"].as_array().unwrap().len(), 2);
    let bot = Participant::new(CallIds::numbered().bot_participant, Identity::application(call.app));
    let caller = Participant::new(
        CallIds::numbered().caller_participant,
        source_identity(&call, &CallIds::numbered()),
    );
    let first = roster(&call, &CallIds::numbered(), Roster::Delta { changed: &[caller, bot], left: &[] }, 1);
    let [data] = first["value"][0]["resourceData"].as_array().unwrap().as_slice() else { panic!("one item") };
    assert_eq!(data["@odata.type"], "#microsoft.graph.deltaParticipants");
    let names: Vec<_> = data["participants"].as_array().unwrap().iter().map(participant_id).collect();
    let user = "8:orgid:00000000-0000-0000-0000-000000000004";
    assert_eq!(names, [user, "28:00000000-0000-0000-0000-000000000008"]);

    let delta = roster(&call, &CallIds::numbered(), Roster::Delta { changed: &[joiner], left: &[leaver] }, 3);
    let [data] = delta["value"][0]["resourceData"].as_array().unwrap().as_slice() else { panic!("one item") };
    assert_eq!(data["sequenceNumber"], 3);
    let participants = data["participants"].as_array().unwrap();
    assert_eq!(participants.len(), 2);
    assert!(participants[0].get("removedState").is_none() && participants[1].get("removedState").is_some());
    assert_eq!(participants[1]["rosterSequenceNumber"], 3);
}

fn participant_id(participant: &Value) -> &str {
    participant["info"]["participantId"].as_str().unwrap()
}

#[test]
fn a_caller_from_the_telephone_network_is_found_by_the_number() {
    let call = call(CallKind::Pstn);
    let caller = Participant::new(
        CallIds::numbered().caller_participant,
        source_identity(&call, &CallIds::numbered()),
    );
    let body = roster(&call, &CallIds::numbered(), Roster::Full(&[caller]), 1);
    assert_eq!(participant_id(&body["value"][0]["resourceData"][0]), "4:+12025550123");
}

#[test]
fn joining_and_leaving_are_updates_of_the_call() {
    let call = call(CallKind::Recording);
    for (body, resource) in [
        (
            joining(&call, &CallIds::numbered(), Uuid::from_u128(21), Uuid::from_u128(20)),
            "#microsoft.graph.participantJoiningNotification",
        ),
        (left(&CallIds::numbered(), Uuid::from_u128(20)), "#microsoft.graph.participantLeftNotification"),
    ] {
        let item = &body["value"][0];
        assert_eq!(item["changeType"], "updated");
        assert_eq!(item["resourceUrl"], "/communications/calls/00000000-0000-0000-0000-000000000001");
        assert_eq!(item["resourceData"]["@odata.type"], resource);
    }
}

#[test]
fn a_person_of_a_roster_has_the_size_of_public_reports() {
    let people: Vec<_> = (100..1_100).map(person).collect();
    let body = roster(&call(CallKind::Meeting), &CallIds::numbered(), Roster::Full(&people), 1).to_string();
    assert!((1_780_000..1_880_000).contains(&body.len()), "{}", body.len());
}

#[test]
fn the_end_of_a_rejected_call_has_no_state() {
    let end =
        |result| terminated(&CallIds::numbered(), &result).pointer("/value/0/resourceData/state").cloned();
    assert_eq!(end(ResultInfo::RejectedByBot), None);
    assert_eq!(end(ResultInfo::OtherSideEnded), Some("terminated".into()));
}
