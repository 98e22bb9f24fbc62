//! Calls that bots place, and the participants of calls.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_emulator::{
    CreatedCalls, Credential, FaultName, Faults, Permission, Platform, PlatformSettings,
};
use uuid::Uuid;

use crate::support::{APP, Act, Reply, TENANT, Webhook, get, platform, platform_with, request, send};

const CALLS: &str = "/v1.0/communications/calls";

/// A webhook that acknowledges all.
async fn webhook(platform: &Platform) -> Webhook {
    Webhook::start(platform, |_, _| Act::status(202)).await
}

/// The body with which a calling SDK calls people.
fn create(webhook: &Webhook, targets: &[Value]) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.call",
        "callbackUri": webhook.url(),
        "direction": "Outgoing",
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
        "requestedModalities": ["Audio"],
        "source": {
            "@odata.type": "#microsoft.graph.participantInfo",
            "identity": {"application": {"displayName": "Bot", "id": APP.to_string()}},
        },
        "targets": targets,
        "tenantId": TENANT.to_string(),
    })
}

fn user(id: u128) -> Value {
    json!({"@odata.type": "#microsoft.graph.invitationParticipantInfo",
           "identity": {"user": {"id": Uuid::from_u128(id).to_string()}}})
}

fn phone(number: &str) -> Value {
    json!({"identity": {"phone": {"id": number}}})
}

async fn place(platform: &Platform, body: &Value) -> Reply {
    request(platform.address(), "POST", CALLS, &body.to_string()).await
}

/// The states that the webhook was told, without rosters.
fn states(webhook: &Webhook) -> Vec<String> {
    webhook.kinds().into_iter().filter(|kind| kind != "participants").collect()
}

async fn path_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{reply:?}");
    format!("{CALLS}/{}", reply.json()["id"].as_str().unwrap())
}

async fn participants(platform: &Platform, path: &str) -> Vec<Value> {
    let reply = get(platform.address(), &format!("{path}/participants")).await;
    reply.json()["value"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_bot_calls_a_person_until_it_hangs_up() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let reply = place(&platform, &create(&webhook, &[user(7)])).await;
    let path = path_of(&reply).await;
    let call = reply.json();
    assert_eq!((&call["state"], &call["direction"]), (&json!("establishing"), &json!("outgoing")));
    assert_eq!((&call["tenantId"], &call["targets"][0]), (&json!(TENANT.to_string()), &user(7)));
    assert!(
        reply.head.to_ascii_lowercase().contains(&format!("location: http://{}{path}", platform.address()))
    );
    webhook.until("established").await;
    webhook.until("participants").await;

    let shown = get(platform.address(), &path).await.json();
    assert_eq!((&shown["state"], &shown["callChainId"]), (&json!("established"), &call["callChainId"]));
    let people = participants(&platform, &path).await;
    let ids: Vec<&Value> = people.iter().map(|person| &person["info"]["participantId"]).collect();
    assert_eq!(ids, [&json!(format!("8:orgid:{}", Uuid::from_u128(7))), &json!(format!("28:{APP}"))]);
    assert_eq!(people[1]["id"], call["myParticipantId"]);

    assert_eq!(request(platform.address(), "DELETE", &path, "").await.status, 204);
    webhook.until("terminated").await;
    assert_eq!(states(&webhook), ["establishing", "established", "terminated"]);
    let list = get(platform.address(), "/emulator/calls").await.json();
    assert_eq!(list["calls"][0]["direction"], "outgoing");
}

#[tokio::test]
async fn a_callee_who_does_not_take_the_call_ends_it_with_the_documented_code() {
    for (callee, code, subcode) in
        [("busy", 486, 0), ("reject", 603, 0), ("not-found", 480, 10_037), ("no-answer*1", 408, 10_057)]
    {
        let mut faults = Faults::default();
        faults.set(FaultName::Callee, callee).unwrap();
        let platform = platform_with(|settings| PlatformSettings { faults, ..settings }).await;
        let webhook = webhook(&platform).await;
        path_of(&place(&platform, &create(&webhook, &[phone("+12025550199")])).await).await;
        let end = webhook.until("terminated").await;
        let result = &end.body["value"][0]["resourceData"]["resultInfo"];
        assert_eq!((&result["code"], &result["subcode"]), (&json!(code), &json!(subcode)), "{callee}");
        assert_eq!(states(&webhook), ["establishing", "terminated"], "{callee}");
    }
}

#[tokio::test]
async fn a_bot_joins_a_meeting_in_each_documented_way() {
    let platform = platform().await;
    let organizer = json!({"@odata.type": "#microsoft.graph.organizerMeetingInfo",
                           "organizer": {"user": {"id": Uuid::from_u128(9).to_string()}}});
    for (chat, meeting) in [
        (json!({"threadId": "19:meeting_x@thread.v2", "messageId": "0"}), organizer.clone()),
        (Value::Null, json!({"@odata.type": "#microsoft.graph.tokenMeetingInfo", "token": "t"})),
        (
            Value::Null,
            json!({"@odata.type": "#microsoft.graph.joinMeetingIdMeetingInfo", "joinMeetingId": "1"}),
        ),
    ] {
        let webhook = webhook(&platform).await;
        let mut body = create(&webhook, &[]);
        body["chatInfo"] = chat;
        body["meetingInfo"] = meeting.clone();
        let reply = place(&platform, &body).await;
        let path = path_of(&reply).await;
        assert_eq!(reply.json()["meetingInfo"], meeting);
        webhook.until("participants").await;
        assert_eq!(participants(&platform, &path).await.len(), 2);
        assert_eq!(request(platform.address(), "DELETE", "/emulator/calls", "").await.status, 204);
    }
}

#[tokio::test]
async fn an_invalid_request_is_refused_with_what_is_wrong() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let good = create(&webhook, &[user(7)]);
    let organizer =
        json!({"@odata.type": "#microsoft.graph.organizerMeetingInfo", "organizer": {"user": {"id": "1"}}});
    for (member, value, expected) in [
        ("callbackUri", Value::Null, "callbackUri is needed"),
        ("callbackUri", json!("http://bot.example/"), "callbackUri must be an absolute https URL"),
        ("targets", json!([]), "targets is needed, or meetingInfo"),
        ("targets", json!([{"identity": {}}]), "each target needs an identity"),
        ("targets", json!([phone("0202")]), "a phone id must be like +12025550123"),
        ("targets", Value::from(vec![user(1); 101]), "at most 100 people"),
        ("requestedModalities", json!(["smell"]), "requestedModalities takes audio"),
        ("mediaConfig", Value::Null, "mediaConfig is needed"),
        ("meetingInfo", organizer, "chatInfo.threadId is needed"),
        ("meetingInfo", json!({"@odata.type": "x"}), "the @odata.type of meetingInfo must be"),
        ("direction", json!("incoming"), "direction must be outgoing"),
        ("tenantId", json!("x"), "must be GUIDs"),
        ("callOptions", json!([]), "callOptions must be an outgoingCallOptions object"),
        ("subject", json!("x".repeat(200_000)), "it takes at most 131072 bytes"),
    ] {
        let mut body = good.clone();
        body[member] = value;
        let reply = place(&platform, &body).await;
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(reply.status, 400, "{member}: {message}");
        assert!(message.contains(expected), "{member}: {message}");
    }
    assert_eq!(request(platform.address(), "GET", CALLS, "").await.status, 405);
    assert!(webhook.seen().is_empty());
}

#[tokio::test]
async fn a_token_needs_the_permission_for_the_kind_of_call() {
    let initiate = vec![Permission::Initiate];
    let secret = Credential::secret("s3cret");
    let platform = platform_with(|settings| PlatformSettings {
        permissions: initiate,
        credentials: vec![(APP, secret)],
        ..settings
    })
    .await;
    let webhook = webhook(&platform).await;
    let form = "grant_type=client_credentials&client_secret=s3cret\
                &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default";
    let form = format!("{form}&client_id={APP}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let login = format!("/{TENANT}/oauth2/v2.0/token");
    let token = send(platform.address(), "POST", &login, &headers, &form).await.json();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let headers = [("Authorization", bearer.as_str())];
    let mut meeting = create(&webhook, &[]);
    meeting["meetingInfo"] = json!({"@odata.type": "#microsoft.graph.tokenMeetingInfo", "token": "t"});
    let mut media = create(&webhook, &[user(7)]);
    media["mediaConfig"] = json!({"@odata.type": "#microsoft.graph.appHostedMediaConfig", "blob": "b"});
    let mut other = create(&webhook, &[user(7)]);
    other["tenantId"] = json!(Uuid::from_u128(3).to_string());
    for (body, status, code) in [
        (create(&webhook, &[user(7)]), 201, Value::Null),
        (create(&webhook, &[user(7), user(8)]), 403, json!("7504")),
        (meeting, 403, json!("7504")),
        (media, 403, json!("7504")),
        (other, 403, json!("7505")),
    ] {
        let reply = send(platform.address(), "POST", CALLS, &headers, &body.to_string()).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (status, &code), "{body}");
    }
    assert_eq!(place(&platform, &create(&webhook, &[user(7)])).await.status, 401);
}

/// Sends an operation, and waits for its result.
async fn operate(platform: &Platform, webhook: &Webhook, path: &str, body: Value) -> Value {
    let reply = request(platform.address(), "POST", path, &body.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    for _ in 0..600 {
        for seen in webhook.seen() {
            let item = &seen.body["value"][0];
            if item["changeType"] == "deleted" && item["resourceData"]["id"] == id.as_str() {
                return item["resourceData"].clone();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the operation was never notified");
}

#[tokio::test]
async fn a_bot_invites_mutes_holds_and_removes_people() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let path = path_of(&place(&platform, &create(&webhook, &[user(7)])).await).await;
    webhook.until("participants").await;

    let invite = json!({"clientContext": "c-1", "participants": [user(8), phone("+12025550188")]});
    let done = operate(&platform, &webhook, &format!("{path}/participants/invite"), invite).await;
    assert_eq!(done["@odata.type"], "#microsoft.graph.inviteParticipantsOperation");
    assert_eq!((&done["clientContext"], &done["resultInfo"]["code"]), (&json!("c-1"), &json!(200)));
    let people = participants(&platform, &path).await;
    assert_eq!(people.len(), 4);
    let one = format!("{path}/participants/{}", people[2]["id"].as_str().unwrap());

    operate(&platform, &webhook, &format!("{one}/mute"), json!({"clientContext": "c-2"})).await;
    assert_eq!(get(platform.address(), &one).await.json()["isMuted"], true);
    let music = json!({"clientContext": "c-3", "customPrompt": {}});
    operate(&platform, &webhook, &format!("{one}/startHoldMusic"), music).await;
    assert_eq!(get(platform.address(), &one).await.json()["mediaStreams"][0]["direction"], "inactive");
    operate(&platform, &webhook, &format!("{one}/stopHoldMusic"), json!({})).await;

    assert_eq!(request(platform.address(), "DELETE", &one, "").await.status, 204);
    assert_eq!(get(platform.address(), &one).await.status, 404);
    assert_eq!(request(platform.address(), "POST", &format!("{one}/mute"), "{}").await.status, 404);
    let bot = format!("{path}/participants/{}", people[1]["id"].as_str().unwrap());
    assert_eq!(request(platform.address(), "DELETE", &bot, "").await.status, 400);
    let rosters = || webhook.seen().iter().filter(|seen| seen.kind() == "participants").count();
    for _ in 0..600 {
        if rosters() >= 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rosters(), 6);
}

#[tokio::test]
async fn every_kind_of_person_whom_graph_invites_can_be_invited() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let path = path_of(&place(&platform, &create(&webhook, &[user(7)])).await).await;
    webhook.until("participants").await;
    for kind in ["guest", "encrypted", "onPremises", "azureCommunicationServicesUser"] {
        let invite = json!({"clientContext": kind, "participants": [{"identity": {kind: {"id": "1"}}}]});
        let done = operate(&platform, &webhook, &format!("{path}/participants/invite"), invite).await;
        assert_eq!(done["resultInfo"]["code"], 200, "{kind}");
        let people = participants(&platform, &path).await;
        assert_eq!(people.last().unwrap()["info"]["identity"][kind]["id"], "1");
    }
}

#[tokio::test]
async fn an_invitation_to_a_busy_person_fails_and_one_without_an_answer_ends_with_the_call() {
    let mut faults = Faults::default();
    faults.set(FaultName::Callee, "busy*1").unwrap();
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let path = path_of(&place(&platform, &create(&webhook, &[user(7)])).await).await;
    webhook.until("participants").await;
    platform.set_faults(faults);
    let invite = format!("{path}/participants/invite");
    let failed = operate(&platform, &webhook, &invite, json!({"participants": [user(8)]})).await;
    assert_eq!((&failed["status"], &failed["resultInfo"]["code"]), (&json!("failed"), &json!(486)));

    let mut faults = Faults::default();
    faults.set(FaultName::Callee, "no-answer*1").unwrap();
    platform.set_faults(faults);
    let body = json!({"clientContext": "c-9", "participants": [user(9)]}).to_string();
    assert_eq!(request(platform.address(), "POST", &invite, &body).await.status, 200);
    assert_eq!(request(platform.address(), "DELETE", &path, "").await.status, 204);
    webhook.until("terminated").await;
    let cancelled = webhook.seen();
    let cancelled =
        cancelled.iter().find(|seen| seen.body["value"][0]["resourceData"]["clientContext"] == "c-9");
    assert_eq!(cancelled.unwrap().body["value"][0]["resourceData"]["status"], "failed");
}

#[tokio::test]
async fn people_wait_in_the_lobby_and_raise_their_hands_until_the_bot_acts() {
    let steps =
        r#"{"step":[{"do":"lobby","participants":2},{"do":"raise-hand"},{"do":"mute","participant":1}]}"#;
    let script = Some(switchboard_emulator::Script::parse(steps).unwrap());
    let created_calls = CreatedCalls { script, ..CreatedCalls::default() };
    let platform = platform_with(|settings| PlatformSettings { created_calls, ..settings }).await;
    let webhook = webhook(&platform).await;
    let reply = place(&platform, &create(&webhook, &[user(7), user(8)])).await;
    let path = path_of(&reply).await;
    let shown = format!("/emulator/calls/{}", reply.json()["id"].as_str().unwrap());
    let count = |call: &Value, state: &str| {
        call["participants"].as_array().unwrap().iter().filter(|person| person[state] == true).count()
    };
    let mut call = Value::Null;
    for _ in 0..600 {
        call = get(platform.address(), &shown).await.json();
        if count(&call, "muted") == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counts = |call: &Value| ["in_lobby", "hand_raised", "muted"].map(|state| count(call, state));
    assert_eq!(counts(&call), [2, 1, 1]);
    for name in ["admitAllFromLobby", "lowerAllHands"] {
        operate(&platform, &webhook, &format!("{path}/participants/{name}"), json!({"clientContext": name}))
            .await;
    }
    assert_eq!(counts(&get(platform.address(), &shown).await.json()), [0, 0, 1]);
}
