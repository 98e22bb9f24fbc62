//! Each file of `fixtures/notifications` with its parsed values.

use std::{fs, path::Path};

use expect_test::{Expect, expect};
use switchboard_notification::Envelope;

use crate::support::describe;

#[test]
fn each_fixture_has_its_parsed_values() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/notifications");
    let expected = expectations();

    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".json", ""))
        .collect();
    files.sort();
    let names: Vec<_> = expected.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(files, names, "each file has its expectation, in order");

    for (name, expect) in expected {
        let body = fs::read(folder.join(format!("{name}.json"))).unwrap();
        let envelope = Envelope::parse(&body);
        let kind = match &envelope {
            Ok(Envelope::Graph(_)) => "graph",
            Ok(Envelope::Legacy(_)) => "legacy",
            Err(_) => "garbage",
        };
        assert_eq!(name.split('-').next(), Some(kind), "{name}: {envelope:?}");
        expect.assert_eq(&match &envelope {
            Ok(envelope) => describe(envelope),
            Err(error) => format!("{}\n{error}", error.code.label()),
        });
    }
}

fn expectations() -> Vec<(&'static str, Expect)> {
    vec![
        (
            "garbage-activity",
            expect![[r#"
                neither_legacy_nor_graph
                a Bot Framework activity is not a calls notification"#]],
        ),
        (
            "garbage-array",
            expect![[r#"
            not_an_object
            the body is not a JSON object"#]],
        ),
        (
            "garbage-call-id-with-line-break",
            expect![[r#"
                call_id
                value[0].resource: call id has a character that is not allowed"#]],
        ),
        (
            "garbage-call-records",
            expect![[r#"
                not_a_call
                a Graph change notification about communications/callRecords is not a calls notification"#]],
        ),
        (
            "garbage-cut-short",
            expect![[r#"
                not_json
                the JSON is incomplete at line 1 column 54"#]],
        ),
        (
            "garbage-deep",
            expect![[r#"
            too_deep
            the JSON is nested deeper than 64 levels"#]],
        ),
        (
            "garbage-empty",
            expect![[r#"
            empty
            the body is empty"#]],
        ),
        (
            "garbage-empty-object",
            expect![[r#"
                neither_legacy_nor_graph
                neither a Graph notification (no "value") nor a legacy call (no "participants")"#]],
        ),
        (
            "garbage-empty-value",
            expect![[r#"
            value_empty
            "value" is empty"#]],
        ),
        (
            "garbage-item-is-text",
            expect![[r#"
            item_not_object
            value[0] is not an object"#]],
        ),
        (
            "garbage-legacy-and-graph",
            expect![[r#"
                legacy_and_graph
                both Graph ("value") and legacy ("participants", "operationOutcome" or "type")"#]],
        ),
        (
            "garbage-more-follows",
            expect![[r#"
            not_json
            text follows the JSON at line 1 column 63"#]],
        ),
        (
            "garbage-not-utf-8",
            expect![[r#"
            invalid_text
            the body is not UTF-8 at byte 65"#]],
        ),
        (
            "garbage-online-meetings",
            expect![[r#"
                not_a_call
                no item has a resourceUrl or resource below /communications/calls or /app/calls"#]],
        ),
        (
            "garbage-resource-twice",
            expect![[r#"
            duplicate_member
            value[0].resource occurs twice"#]],
        ),
        (
            "garbage-second-item-without-change-type",
            expect![[r#"
            change_type
            value[1].changeType is missing"#]],
        ),
        (
            "garbage-unknown-change-type",
            expect![[r#"
                change_type
                value[0].changeType is not created, updated or deleted"#]],
        ),
        (
            "garbage-value-is-object",
            expect![[r#"
            value_not_array
            "value" is not an array"#]],
        ),
        (
            "garbage-value-twice",
            expect![[r#"
            duplicate_member
            "value" occurs twice"#]],
        ),
        (
            "graph-2018",
            expect![[r#"
                call_state updated Call of 5C0D9E1F2A3B4C5D6E7F8091A2B3C4D5
                  call state=Some(Established)"#]],
        ),
        (
            "graph-batch-mixed",
            expect![[r#"
                not_a_call created -
                  Other
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Established)"#]],
        ),
        (
            "graph-batch-one-call",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Established)
                roster updated Participants of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  list of 0"#]],
        ),
        (
            "graph-batch-two-calls",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Established)
                call_state updated Call of c41f0b00-5e0d-4b6a-8d51-90aa17c3e702
                  call state=Some(Established)"#]],
        ),
        (
            "graph-byte-order-mark",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Established)
                call_state updated Call of c41f0b00-5e0d-4b6a-8d51-90aa17c3e702
                  call state=Some(Established)"#]],
        ),
        (
            "graph-call-deleted-without-state",
            expect![[r#"
                call_state deleted Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=None"#]],
        ),
        (
            "graph-call-established-pascal-case",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Established)
                  chain="b7e00000-1f2e-4d3c-8b4a-596877869504""#]],
        ),
        (
            "graph-call-establishing",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Establishing)"#]],
        ),
        (
            "graph-call-incoming",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)
                  chain="b7e00000-1f2e-4d3c-8b4a-596877869504"
                  source="amer"
                  tenant=4c0ffee0-0000-4444-8aaa-0000000000a1
                  modalities=[Audio, Video]"#]],
        ),
        (
            "graph-call-incoming-meeting",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)
                  chain="b7e00000-1f2e-4d3c-8b4a-596877869504"
                  source="emea"
                  country="HU"
                  media="EUWE"
                  organizer="5eed0000-3333-4bbb-9ccc-00000000d003"
                  thread="19:meeting_bWFkZS11cA@thread.v2"
                  tenant=4c0ffee0-0000-4444-8aaa-0000000000a1
                  organizer_tenant=4c0ffee0-0000-4444-8aaa-0000000000a2
                  modalities=[Audio, VideoBasedScreenSharing, Data, Other("holograms")]"#]],
        ),
        (
            "graph-call-incoming-recording",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)
                  chain="b7e00000-1f2e-4d3c-8b4a-596877869504"
                  source="emea"
                  country="RS"
                  media="EUNO"
                  observed="5eed0000-1111-4bbb-9ccc-00000000d001"
                  tenant=4c0ffee0-0000-4444-8aaa-0000000000a1
                  policy_recording"#]],
        ),
        (
            "graph-call-incoming-recording-bot-data-only",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)
                  source="apac"
                  media="JPWE"
                  observed="+15550142"
                  tenant=4c0ffee0-0000-4444-8aaa-0000000000a2
                  policy_recording"#]],
        ),
        (
            "graph-call-incoming-recording-on-behalf-of-identity",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)
                  chain="b7e00000-1f2e-4d3c-8b4a-596877869504"
                  source="emea"
                  country="RS"
                  media="EUNO"
                  observed="5eed0000-3333-4bbb-9ccc-00000000d003"
                  tenant=4c0ffee0-0000-4444-8aaa-0000000000a1
                  policy_recording"#]],
        ),
        (
            "graph-call-incoming-recording-on-behalf-of-text",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)
                  chain="b7e00000-1f2e-4d3c-8b4a-596877869504"
                  source="emea"
                  country="RS"
                  media="EUNO"
                  observed="5eed0000-3333-4bbb-9ccc-00000000d003"
                  tenant=4c0ffee0-0000-4444-8aaa-0000000000a1
                  policy_recording"#]],
        ),
        (
            "graph-call-terminated",
            expect![[r#"
                call_state deleted Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Terminated)
                  ResultInfo { code: Some(408), subcode: Some(8537) }"#]],
        ),
        (
            "graph-call-terminated-codes-as-text",
            expect![[r#"
                call_state deleted Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Terminated)
                  ResultInfo { code: Some(200), subcode: Some(4521) }"#]],
        ),
        (
            "graph-call-terminating",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Terminating)"#]],
        ),
        (
            "graph-call-transfer-accepted",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(TransferAccepted)
                  ResultInfo { code: None, subcode: Some(7000) }"#]],
        ),
        (
            "graph-call-unknown-state",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Other("levitating"))"#]],
        ),
        (
            "graph-call-without-type",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)"#]],
        ),
        (
            "graph-content-sharing-created",
            expect![[r#"
                content_sharing created ContentSharingSessions of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  Absent"#]],
        ),
        (
            "graph-content-sharing-deleted",
            expect![[r#"
                content_sharing deleted ContentSharingSessions of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  Absent"#]],
        ),
        (
            "graph-content-sharing-sessions",
            expect![[r#"
                content_sharing updated ContentSharingSessions of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  list of 1"#]],
        ),
        (
            "graph-escapes",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)
                  chain="📞\n"
                  source="emea""#]],
        ),
        (
            "graph-id-from-data",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Established)"#]],
        ),
        (
            "graph-number-out-of-range",
            expect![[r#"
                call_state updated Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Established)"#]],
        ),
        (
            "graph-operation-addLargeGalleryViewOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  addLargeGalleryViewOperation status="completed""#]],
        ),
        (
            "graph-operation-cancelMediaProcessingOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  cancelMediaProcessingOperation status="failed"
                  ResultInfo { code: Some(400), subcode: Some(8508) }"#]],
        ),
        (
            "graph-operation-commsOperation",
            expect![[r#"
                operation updated Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  commsOperation status="running""#]],
        ),
        (
            "graph-operation-inviteParticipantsOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  inviteParticipantsOperation status="Failed"
                  ResultInfo { code: Some(410), subcode: Some(301004) }"#]],
        ),
        (
            "graph-operation-muteParticipantOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  muteParticipantOperation status="completed""#]],
        ),
        (
            "graph-operation-playPromptOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  playPromptOperation status="completed"
                  ResultInfo { code: Some(200), subcode: Some(0) }"#]],
        ),
        (
            "graph-operation-recordOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  recordOperation status="completed"
                  ResultInfo { code: Some(200), subcode: Some(8515) }"#]],
        ),
        (
            "graph-operation-startHoldMusicOperation",
            expect![[r#"
                operation updated Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  startHoldMusicOperation status="notStarted""#]],
        ),
        (
            "graph-operation-subscribeToToneOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  subscribeToToneOperation status="completed""#]],
        ),
        (
            "graph-operation-unmuteParticipantOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  unmuteParticipantOperation status="completed""#]],
        ),
        (
            "graph-operation-updateRecordingStatusOperation",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  updateRecordingStatusOperation status="completed""#]],
        ),
        (
            "graph-operations-participants",
            expect![[r#"
                roster updated Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  list of 1"#]],
        ),
        (
            "graph-participant",
            expect![[r#"
                roster updated Participants of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  Other"#]],
        ),
        (
            "graph-participant-joining",
            expect![[r#"
                participant_joining created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  ParticipantJoining"#]],
        ),
        (
            "graph-participant-left",
            expect![[r#"
                participant_left deleted Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  ParticipantLeft"#]],
        ),
        (
            "graph-participants",
            expect![[r#"
                roster updated Participants of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  list of 2"#]],
        ),
        (
            "graph-paths-differ",
            expect![[r#"
                call_state deleted Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Terminated)"#]],
        ),
        (
            "graph-pretty",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)"#]],
        ),
        (
            "graph-unknown-part",
            expect![[r#"
            other updated Other of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
              Other"#]],
        ),
        (
            "graph-without-leading-slash",
            expect![[r#"
                operation deleted Operations of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  commsOperation status="completed""#]],
        ),
        (
            "graph-wrong-types",
            expect![[r#"
                incoming_call created Call of 6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001
                  call state=Some(Incoming)"#]],
        ),
        (
            "legacy-call-state-change",
            expect![[r#"legacy call_state_change "6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001""#]],
        ),
        (
            "legacy-conversation-result",
            expect![[r#"legacy conversation_result "6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001""#]],
        ),
        ("legacy-incoming", expect![[r#"legacy incoming "6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001""#]]),
        ("legacy-incoming-group", expect![[r#"legacy incoming "6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001""#]]),
        ("legacy-incoming-without-state", expect![[r#"legacy incoming "x""#]]),
        ("legacy-roster-update", expect![[r#"legacy roster_update "6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001""#]]),
    ]
}
