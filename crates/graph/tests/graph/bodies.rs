//! The requests to Graph: method, path, head and body.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_graph::{
    Action, Answer, CallOptions, GraphModality, MediaConfig, Prompt, Redirect, RedirectTarget,
    RedirectTargetKind, Reject, RejectReason,
};
use tokio::time::Instant;

use crate::support::{CALL, Script, call, callback, calls, now, tenant};

/// `action` becomes one request with this body.
#[track_caller]
fn check(action: &Action, expected: &Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let script = Script::graph([]);
    runtime.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(5);
        calls(&script).act(tenant(), &call(), action, &callback(), deadline, now()).await.unwrap();
    });
    let bodies = script.bodies();
    let found: Value = serde_json::from_slice(&bodies[0]).unwrap();
    assert_eq!(&found, expected);
    assert_eq!(
        script.lines()[1],
        format!("POST https://graph.microsoft.com/v1.0/communications/calls/{CALL}/{}", action.name())
    );
    assert_eq!(script.headers("content-type"), [Some("application/json".to_owned())]);
}

#[test]
fn an_answer_with_service_hosted_media() {
    let prefetch = vec![Prompt {
        uri: "https://cdn.contoso.com/beep.wav".to_owned(),
        resource_id: "1D6DE2D4-CD51-4309-8DAA-70768651088E".to_owned(),
    }];
    let options = CallOptions { content_sharing_notification: Some(true), delta_roster: Some(true) };
    let answer = Answer::new(vec![GraphModality::Audio], MediaConfig::ServiceHosted { prefetch }).unwrap();
    check(
        &Action::Answer(answer.with_call_options(options)),
        &json!({
            "callbackUri": "https://gw.contoso.com/cb/p7/a31f5a00-44dc-4b21-9c3e-0d07d53b1001",
            "mediaConfig": {
                "@odata.type": "#microsoft.graph.serviceHostedMediaConfig",
                "preFetchMedia": [
                    {
                        "uri": "https://cdn.contoso.com/beep.wav",
                        "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E",
                    },
                ],
            },
            "acceptedModalities": ["audio"],
            "callOptions": {
                "@odata.type": "#microsoft.graph.incomingCallOptions",
                "isContentSharingNotificationEnabled": true,
                "isDeltaRosterEnabled": true,
            },
        }),
    );
}

#[test]
fn an_answer_with_app_hosted_media() {
    let media = MediaConfig::AppHosted {
        blob: r#"{"mpUri":"net.tcp://m7.contoso.com:8445/MediaProcessor","videoRenderContexts":[null]}"#
            .to_owned(),
        remove_from_default_audio_group: None,
    };
    check(
        &Action::Answer(Answer::new(vec![GraphModality::Audio, GraphModality::Video], media).unwrap()),
        &json!({
            "callbackUri": "https://gw.contoso.com/cb/p7/a31f5a00-44dc-4b21-9c3e-0d07d53b1001",
            "mediaConfig": {
                "@odata.type": "#microsoft.graph.appHostedMediaConfig",
                "blob": "{\"mpUri\":\"net.tcp://m7.contoso.com:8445/MediaProcessor\",\"videoRenderContexts\":[null]}",
            },
            "acceptedModalities": ["audio", "video"],
        }),
    );
}

#[test]
fn an_answer_of_a_recording_bot() {
    let media = MediaConfig::AppHosted {
        blob: "<Media Session Configuration Blob>".to_owned(),
        remove_from_default_audio_group: Some(true),
    };
    let modalities = vec![GraphModality::Audio, GraphModality::Video, GraphModality::VideoBasedScreenSharing];
    let answer = Answer::new(modalities, media).unwrap().with_participant_capacity(200).unwrap();
    check(
        &Action::Answer(answer),
        &json!({
            "callbackUri": "https://gw.contoso.com/cb/p7/a31f5a00-44dc-4b21-9c3e-0d07d53b1001",
            "acceptedModalities": ["audio", "video", "videoBasedScreenSharing"],
            "mediaConfig": {
                "@odata.type": "#microsoft.graph.appHostedMediaConfig",
                "blob": "<Media Session Configuration Blob>",
                "removeFromDefaultAudioGroup": true,
            },
            "participantCapacity": 200,
        }),
    );
}

#[test]
fn a_rejection() {
    for (reason, text) in
        [(RejectReason::Busy, "busy"), (RejectReason::Forbidden, "forbidden"), (RejectReason::None, "none")]
    {
        check(
            &Action::Reject(Reject { reason }),
            &json!({
                "reason": text,
                "callbackUri": "https://gw.contoso.com/cb/p7/a31f5a00-44dc-4b21-9c3e-0d07d53b1001",
            }),
        );
    }
}

#[test]
fn a_redirect_to_a_user() {
    let user = RedirectTarget::new(RedirectTargetKind::User, "0a0a0a0a-1111-4aaa-8bbb-000000000002").unwrap();
    check(
        &Action::Redirect(Redirect::new(vec![user.with_display_name("X").unwrap()]).unwrap()),
        &json!({
            "targets": [{
                "@odata.type": "#microsoft.graph.invitationParticipantInfo",
                "identity": {
                    "@odata.type": "#microsoft.graph.identitySet",
                    "user": {
                        "@odata.type": "#microsoft.graph.identity",
                        "id": "0a0a0a0a-1111-4aaa-8bbb-000000000002",
                        "displayName": "X",
                    },
                },
            }],
            "timeout": 55,
            "callbackUri": "https://gw.contoso.com/cb/p7/a31f5a00-44dc-4b21-9c3e-0d07d53b1001",
        }),
    );
}

#[test]
fn a_redirect_to_all_kinds_of_identity() {
    let kinds = [
        (RedirectTargetKind::Application, "22bfd41f-550e-477d-8789-f6f7bd2a5e8b"),
        (RedirectTargetKind::ApplicationInstance, "7629bdce-046c-4903-86b4-a8f718277e1a"),
        (RedirectTargetKind::Phone, "+12345678901"),
        (RedirectTargetKind::Guest, "g"),
        (RedirectTargetKind::Encrypted, "e"),
        (RedirectTargetKind::OnPremises, "o"),
    ];
    let mut targets: Vec<_> =
        kinds.iter().map(|(kind, id)| RedirectTarget::new(*kind, id).unwrap()).collect();
    targets.push(
        RedirectTarget::new(RedirectTargetKind::AzureCommunicationServicesUser, "8:acs:1_2")
            .unwrap()
            .with_tenant(tenant()),
    );
    let redirect = Redirect::new(targets).unwrap().with_timeout(90).unwrap();
    let invited = |set: &str, kind: &str, identity: &Value| {
        let set = json!({"@odata.type": set, kind: identity});
        json!({"@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": set})
    };
    let mut expected: Vec<_> = kinds
        .iter()
        .map(|(kind, id)| {
            let identity = json!({"@odata.type": "#microsoft.graph.identity", "id": id});
            invited("#microsoft.graph.identitySet", kind.as_str(), &identity)
        })
        .collect();
    expected.push(invited(
        "#microsoft.graph.communicationsIdentitySet",
        "azureCommunicationServicesUser",
        &json!({
            "@odata.type": "#microsoft.graph.azureCommunicationServicesUserIdentity",
            "id": "8:acs:1_2",
            "tenantId": "11111111-2222-4333-8444-555555555555",
        }),
    ));
    check(
        &Action::Redirect(redirect.with_mask_callee(true).with_mask_caller(false)),
        &json!({
            "targets": expected,
            "timeout": 90,
            "maskCallee": true,
            "maskCaller": false,
            "callbackUri": "https://gw.contoso.com/cb/p7/a31f5a00-44dc-4b21-9c3e-0d07d53b1001",
        }),
    );
}

#[test]
fn several_targets_ring_for_60_seconds() {
    let targets = vec![
        RedirectTarget::new(RedirectTargetKind::User, "a").unwrap(),
        RedirectTarget::new(RedirectTargetKind::User, "b").unwrap(),
    ];
    let redirect = Redirect::new(targets).unwrap();
    assert_eq!(redirect, redirect.clone().with_timeout(60).unwrap());
}

#[tokio::test]
async fn keep_alive_and_hang_up_have_no_body() {
    let script = Script::graph([]);
    let calls = calls(&script);
    let deadline = Instant::now() + Duration::from_secs(5);
    calls.keep_alive(tenant(), &call(), deadline, now()).await.unwrap();
    calls.hang_up(tenant(), &call(), deadline, now()).await.unwrap();
    let url = format!("https://graph.microsoft.com/v1.0/communications/calls/{CALL}");
    assert_eq!(script.lines()[1..], [format!("POST {url}/keepAlive"), format!("DELETE {url}")]);
    assert_eq!(script.bodies(), [b"", b""]);
    assert_eq!(script.headers("content-type"), [None, None]);
    assert_eq!(
        script.headers("authorization"),
        [const { Some("Bearer token.1") }; 2].map(|it| it.map(str::to_owned))
    );
    let ids = script.headers("client-request-id");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0].as_ref().unwrap().len(), 36);
}
