//! Bots on Microsoft's calling SDK for .NET behind the gateway: every request of the SDK, with the emulator's
//! platform before the gateway and its bots behind it.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    APP, TENANT, WAIT_MAX,
    emulator::{Testbed, body_of, end, sound, steps, word},
    every, until,
};

/// One request of the SDK and its effects.
struct Row {
    /// A step of the script before the request; `null` for none.
    step: Value,
    name: &'static str,
    with: Value,
    outcome: &'static str,
    /// The steps of the timeline, in order.
    words: &'static [&'static str],
    /// The type and the result of the operation, if it is one that is notified.
    notified: Option<(&'static str, u32)>,
}

/// Returns the row of a request. An operation of this type is completed by a notification with code 200.
fn row(name: &'static str, with: Value, words: &'static [&'static str], operation: &'static str) -> Row {
    let notified = (!operation.is_empty()).then_some((operation, 200));
    let outcome = if notified.is_some() { "completed" } else { "accepted" };
    Row { step: Value::Null, name, with, outcome, words, notified }
}

fn rows(wav: &str, caller: &str, other: &str) -> Vec<Row> {
    let prompt = json!({ "prompt": wav });
    let callee = json!({ "user": "550fae72-d251-43ec-868c-373732c2704f" });
    let number = json!({ "phone": "+12025550188" });
    let groups = json!({ "sources": caller, "receivers": format!("{caller},{other}") });
    let (caller, other) = (json!({ "participant": caller }), json!({ "participant": other }));
    let music = json!({ "participant": caller["participant"], "prompt": wav });
    let none = || json!({});
    let completed = |row: Row| Row { outcome: "completed", ..row };
    let after = |step: Value, row: Row| Row { step, ..row };
    vec![
        // The response says `completed`; the notification follows all the same.
        row(
            "updateRecordingStatus",
            none(),
            &["recording status 200", "operation 202"],
            "updateRecordingStatus",
        ),
        row("mute", none(), &["mute 200", "roster 202", "operation 202"], "muteParticipant"),
        row("unmute", none(), &["unmute 200", "roster 202", "operation 202"], "unmuteParticipant"),
        row("playPrompt", prompt.clone(), &["play prompt 200", "operation 202"], "playPrompt"),
        // The SDK needs `completed` in the response to these three; `--operations immediate` has it there.
        completed(row("recordResponse", prompt, &["record response 200"], "")),
        completed(row("startHoldMusic", music, &["start hold music 200", "roster 202"], "")),
        completed(row("stopHoldMusic", caller.clone(), &["stop hold music 200", "roster 202"], "")),
        row("subscribeToTone", none(), &["subscribe to tone 200", "operation 202"], "subscribeToTone"),
        after(
            json!({ "do": "tone", "tone": 5 }),
            row("keepAlive", none(), &["tone 5 202", "keep alive 200"], ""),
        ),
        row("sendDtmfTones", none(), &["send tones 200", "operation 202"], "sendDtmfTones"),
        row(
            "cancelMediaProcessing",
            none(),
            &["cancel media processing 200", "operation 202"],
            "cancelMediaProcessing",
        ),
        row("raiseHand", none(), &["raise hand 200", "roster 202", "operation 202"], "comms"),
        row("lowerHand", none(), &["lower hand 200", "roster 202", "operation 202"], "comms"),
        row(
            "addLargeGalleryView",
            none(),
            &["add large gallery view 200", "operation 202"],
            "addLargeGalleryView",
        ),
        row("invite", callee, &["invite 200", "roster 202", "operation 202"], "inviteParticipants"),
        row("invite", number, &["invite 200", "roster 202", "operation 202"], "inviteParticipants"),
        row(
            "muteParticipant",
            caller.clone(),
            &["mute participant 200", "roster 202", "operation 202"],
            "muteParticipant",
        ),
        completed(row("getParticipant", other.clone(), &["get participant 200"], "")),
        row("deleteParticipant", other, &["remove participant 204", "roster 202"], ""),
        after(
            json!({ "do": "lobby", "participants": 2 }),
            row(
                "admitAllFromLobby",
                none(),
                &["roster 202", "admit all 200", "roster 202", "operation 202"],
                "comms",
            ),
        ),
        after(
            json!({ "do": "raise-hand" }),
            row(
                "lowerAllHands",
                none(),
                &["roster 202", "lower all hands 200", "roster 202", "operation 202"],
                "comms",
            ),
        ),
        completed(row("audioRoutingGroups", groups, &["add audio routing group 201"], "")),
        // Without application-hosted media the SDK sends nothing.
        Row { outcome: "failed", ..row("changeScreenSharingRole", none(), &[], "") },
        row(
            "changeScreenSharingRole",
            json!({ "blob": "b" }),
            &["screen sharing role 202", "roster 202"],
            "",
        ),
        row("logTeleconferenceDeviceQuality", none(), &[], ""),
    ]
}

/// Waits for `count` steps of a call after the first `before`, and returns them in the order of their starts.
async fn steps_after(bed: &Testbed, call: &str, before: usize, count: usize) -> Vec<Value> {
    let mut ticks = every(25);
    let started = Instant::now();
    let mut new = loop {
        ticks.tick().await;
        let new = steps(&bed.platform, call).await.split_off(before);
        if new.len() >= count || started.elapsed() > WAIT_MAX {
            break new;
        }
    };
    new.sort_by(|left, right| left["at_ms"].as_f64().unwrap().total_cmp(&right["at_ms"].as_f64().unwrap()));
    new
}

/// Waits for these steps of a call after the first `before`, and returns them.
async fn follow(bed: &Testbed, call: &str, before: usize, expected: &[&str], what: &str) -> Vec<Value> {
    let new = steps_after(bed, call, before, expected.len()).await;
    assert_eq!(new.iter().map(word).collect::<Vec<_>>(), expected, "{what}");
    new
}

/// Checks that the requests of the platform went to the callback URI of an instance.
fn check_owner(steps: &[Value], owner: usize) {
    let callbacks = format!("/api/callbacks/emea/bot-{owner}/");
    for step in steps.iter().filter(|step| step["received"] == false) {
        assert!(step["url"].as_str().unwrap().contains(&callbacks), "{step}");
    }
}

/// Checks the notification of an operation against the bot's request and the response to it.
fn check_operation(steps: &[Value], (kind, code): (&str, u32)) {
    let request = steps.iter().find(|step| step["received"] == true).unwrap();
    let notification = steps.iter().find(|step| step["what"] == "operation").unwrap();
    let response = body_of(request, "response");
    let item = &body_of(notification, "request")["value"][0];
    let data = &item["resourceData"];
    assert_eq!(item["changeType"], "deleted");
    assert!(item["resourceUrl"].as_str().unwrap().ends_with(data["id"].as_str().unwrap()), "{item}");
    assert_eq!((&data["id"], &data["@odata.type"]), (&response["id"], &response["@odata.type"]));
    assert_eq!(data["@odata.type"], format!("#microsoft.graph.{kind}Operation"));
    assert_eq!((&data["status"], &data["resultInfo"]["code"]), (&json!("completed"), &json!(code)));
    let context = &body_of(request, "request")["clientContext"];
    assert_eq!(context.as_str().map(str::len), Some(36));
    assert_eq!((&response["clientContext"], &data["clientContext"]), (context, context));
}

async fn drive(bed: &Testbed, owner: usize, call: &str, row: &Row) {
    let before = steps(&bed.platform, call).await.len();
    if !row.step.is_null() {
        let target = format!("/emulator/calls/{call}/steps");
        assert_eq!(bed.platform.send("POST", &target, "", &row.step.to_string()).await.status(), 202);
        follow(bed, call, before, &row.words[..1], row.name).await;
    }
    let reply = bed.ask(owner, row.name, call, &row.with).await;
    assert_eq!(reply["outcome"], row.outcome, "{}: {reply}", row.name);
    let new = follow(bed, call, before, row.words, row.name).await;
    check_owner(&new, owner);
    if let Some(notified) = row.notified {
        check_operation(&new, notified);
    }
}

/// Returns what the bot shows of a call at `/calls`.
async fn shown(bed: &Testbed, bot: usize, call: &str) -> Value {
    let calls = bed.bots[bot].get("/calls").await;
    let mut calls = calls["calls"].as_array().unwrap().iter();
    calls.find(|shown| shown["id"] == call).unwrap_or_else(|| panic!("bot-{bot} has no {call}")).clone()
}

#[tokio::test]
async fn every_request_of_the_sdk_has_its_documented_sequence() {
    let Some(bed) = Testbed::with_sdk_bots(2, &[]).await else { return };
    let wav = sound(100).await;
    let placed = json!({
        "kind": "group", "participants": 2, "script": [{ "do": "tone", "tone": 7 }],
        "operations": "immediate:recordResponse,startHoldMusic,stopHoldMusic",
    });
    let call = bed.place(&placed).await;
    let owner = bed.owner(&call).await;
    let start = [
        "incoming (legacy) 204",
        "incoming 202",
        "answer 202",
        "establishing 202",
        "established 202",
        "roster 202",
        "roster 202",
        "tone 7 202",
    ];
    let first = follow(&bed, &call, 0, &start, "the answer").await;
    check_owner(&first[3..], owner);
    let people = &body_of(&first[6], "request")["value"][0]["resourceData"];
    let rows = rows(&wav, people[0]["id"].as_str().unwrap(), people[2]["id"].as_str().unwrap());
    for row in &rows {
        drive(&bed, owner, &call, row).await;
    }

    // The other bot takes the call over: it reads the call, its people, groups and sessions.
    let other = 1 - owner;
    let before = steps(&bed.platform, &call).await.len();
    assert_eq!(
        bed.ask(other, "rehydrate", &call, &json!({ "tenant": TENANT })).await["outcome"],
        "completed"
    );
    let mut read: Vec<_> = steps(&bed.platform, &call).await[before..].iter().map(word).collect();
    read[1..].sort();
    let lists = ["get audio routing groups 200", "get content sharing 200", "get participants 200"];
    assert_eq!(read, [&["get 200"][..], &lists].concat());
    let known = bed.bots[other].get("/sdk/calls").await;
    assert_eq!(
        (&known["calls"][0]["state"], &known["calls"][0]["people"]),
        (&json!("established"), &json!(6))
    );
    let own = bed.bots[owner].get("/sdk/calls").await;
    assert_eq!((&own["calls"][0]["people"], &own["calls"][0]["openOperations"]), (&json!(6), &json!(0)));
    assert_eq!(own["calls"][0]["resource"]["toneInfo"]["tone"], "tone5");

    // The operations are listed, and Graph needs a token for that.
    let target = format!("/v1.0/communications/calls/{call}/operations");
    assert_eq!(bed.platform.send("GET", &target, "", "").await.status(), 401);
    let token = bed.platform.token().await;
    let listed = bed.platform.send("GET", &target, &token, "").await.json();
    let documents = ["getParticipant", "audioRoutingGroups"];
    let is_operation = |row: &&Row| row.outcome == "completed" && !documents.contains(&row.name);
    let operations = rows.iter().filter(is_operation).count();
    assert_eq!(listed["value"].as_array().unwrap().len(), operations, "{listed}");

    let before = steps(&bed.platform, &call).await.len();
    assert_eq!(bed.ask(owner, "delete", &call, &json!({})).await["outcome"], "accepted");
    assert_eq!(end(&bed.platform, &call).await["outcome"], "completed");
    let last = follow(&bed, &call, before, &["hang up 204", "terminated 202"], "the end").await;
    check_owner(&last, owner);
    let result = &body_of(&last[1], "request")["value"][0]["resourceData"]["resultInfo"];
    assert_eq!((&result["code"], &result["subcode"]), (&json!(200), &json!(10_550)));

    // Each notification reached the bot that answered, once, and none the other bot.
    let all = steps(&bed.platform, &call).await;
    let sent = all.iter().filter(|step| step["received"] == false && step["status"] == 202).count();
    let kept = shown(&bed, owner, &call).await;
    assert_eq!(
        (&kept["count"], &kept["duplicates"], &kept["state"]),
        (&json!(sent), &json!(0), &json!("ended"))
    );
    let taken_over = json!({ "calls": { &call: 0 }, "strays": {}, "duplicates": 0 });
    assert_eq!(bed.bots[other].get("/ledger").await, taken_over);
    assert_eq!(bed.bots[owner].get("/ledger").await["strays"], json!({}));
}

#[tokio::test]
async fn three_operations_keep_the_sdk_waiting_unless_their_response_completes_them() {
    let Some(bed) = Testbed::with_sdk_bots(1, &[]).await else { return };
    let wav = sound(100).await;
    let call = bed.place(&json!({ "protocol": "graph" })).await;
    bed.owner(&call).await;
    let start = ["incoming 202", "answer 202", "establishing 202", "established 202", "roster 202"];
    let first = follow(&bed, &call, 0, &start, "the answer").await;
    let caller = body_of(&first[4], "request")["value"][0]["resourceData"][0]["id"].clone();
    let with = json!({ "prompt": wav, "participant": caller });
    let asked = ["recordResponse", "startHoldMusic", "stopHoldMusic"];
    let waits = asked.map(|name| bed.ask(0, name, &call, &with));
    let [recorded, started, stopped] = waits;
    let notified = async {
        // All three are notified as completed, and the bot accepts that and goes on waiting.
        until("three operations", async || {
            let all = steps(&bed.platform, &call).await;
            let ended = all.iter().filter(|step| word(step) == "operation 202");
            let ended: Vec<_> = ended.map(|step| body_of(step, "request")["value"][0].clone()).collect();
            (ended.len() == 3).then_some(ended)
        })
        .await
        .iter()
        .for_each(|item| assert_eq!(item["resourceData"]["status"], "completed", "{item}"));
        let calls = bed.bots[0].get("/sdk/calls").await;
        assert_eq!(calls["calls"][0]["openOperations"], 3);
        bed.ask(0, "delete", &call, &json!({})).await;
    };
    let (recorded, started, stopped, ()) = tokio::join!(recorded, started, stopped, notified);
    for reply in [recorded, started, stopped] {
        assert_eq!(
            (&reply["outcome"], &reply["message"]),
            (&json!("failed"), &json!("the call ended before the operation"))
        );
    }
    assert_eq!(end(&bed.platform, &call).await["outcome"], "completed");
}

#[tokio::test]
async fn calls_that_bots_place_have_their_callbacks_and_what_follows_them() {
    let wav = sound(50).await;
    let prompt = format!("prompt={wav}");
    let then = ["--then", "subscribeToTone,playPrompt", "--with", &prompt];
    let Some(bed) = Testbed::with_sdk_bots(2, &then).await else { return };
    let minted = bed.gateway.admin(&format!("/fleet/bot-1/callback?app={APP}")).await.json();
    let mut with = json!({ "callback": minted["callback_uri"], "tenant": TENANT });
    let follows = async |bot: usize, call: &str| {
        let done = until("what follows the call", async || {
            let operations = shown(&bed, bot, call).await["operations"].clone();
            (operations.as_array().map_or(0, Vec::len) >= 2).then_some(operations)
        });
        for (operation, name) in done.await.as_array().unwrap().iter().zip(["subscribeToTone", "playPrompt"])
        {
            assert_eq!((&operation["name"], &operation["outcome"]), (&json!(name), &json!("completed")));
        }
    };
    let mut calls = Vec::new();
    for (name, argument, value) in [
        ("create", "user", "550fae72-d251-43ec-868c-373732c2704f"),
        ("create", "phone", "+12025550123"),
        ("join", "thread", "19:meeting_x@thread.v2"),
    ] {
        let mut with = with.clone();
        with[argument] = json!(value);
        let placed = bed.ask(1, name, "", &with).await;
        let call = placed["outcome"].as_str().unwrap().to_owned();
        assert_eq!(call.len(), 36, "{placed}");
        follows(1, &call).await;
        let words = [
            "create call 201",
            "establishing 202",
            "established 202",
            "subscribe to tone 200",
            "operation 202",
            "play prompt 200",
            "operation 202",
        ];
        let mut all = steps_after(&bed, &call, 0, words.len() + 1).await;
        // The bot sends its first request while the roster is on its way.
        all.retain(|step| step["what"] != "roster");
        assert_eq!(all.iter().map(word).collect::<Vec<_>>(), words, "{name}");
        check_owner(&all, 1);
        check_operation(&all[3..5], ("subscribeToTone", 200));
        check_operation(&all[5..], ("playPrompt", 200));
        calls.push(call);
    }
    let known = bed.bots[1].get("/sdk/calls").await;
    let known: Vec<_> = known["calls"].as_array().unwrap().iter().rev().map(|call| &call["id"]).collect();
    assert_eq!(known, calls.iter().collect::<Vec<_>>());

    // The call with the number goes to a person; then a person takes over the call with another person.
    let transferred = ["transfer 202", "transferring 202", "transfer accepted 202", "terminated 202"];
    for (call, replaces) in [(&calls[1], None), (&calls[0], Some(&calls[2]))] {
        let before = steps(&bed.platform, call).await.len();
        if let Some(replaced) = replaces {
            with["replaces"] = json!(replaced);
        }
        assert_eq!(bed.ask(1, "transfer", call, &with).await["outcome"], "accepted");
        assert_eq!(end(&bed.platform, call).await["outcome"], "completed");
        let last = follow(&bed, call, before, &transferred, "the transfer").await;
        check_owner(&last, 1);
        let item = &body_of(&last[3], "request")["value"][0];
        let result = &item["resourceData"]["resultInfo"];
        assert_eq!(
            (&item["changeType"], &result["code"], &result["subcode"]),
            (&json!("deleted"), &json!(0), &json!(7_015))
        );
    }
    end(&bed.platform, &calls[2]).await;
    for call in &calls {
        until("the end in the ledger", async || {
            (shown(&bed, 1, call).await["state"] == "ended").then_some(())
        })
        .await;
    }

    // A callee who does not take the call ends it with the documented code, and nothing follows.
    with["user"] = json!("550fae72-d251-43ec-868c-373732c2704f");
    for (callee, code, subcode) in [("busy", 486, 0), ("reject", 603, 0), ("not-found", 480, 10_037)] {
        let fault = json!({ "callee": format!("{callee}*1") }).to_string();
        assert_eq!(bed.platform.send("PATCH", "/emulator/faults", "", &fault).await.status(), 200);
        let placed = bed.ask(1, "create", "", &with).await;
        let call = placed["outcome"].as_str().unwrap();
        let words = ["create call 201", "establishing 202", "terminated 202"];
        let all = follow(&bed, call, 0, &words, callee).await;
        check_owner(&all, 1);
        let result = &body_of(&all[2], "request")["value"][0]["resourceData"]["resultInfo"];
        assert_eq!((&result["code"], &result["subcode"]), (&json!(code), &json!(subcode)), "{callee}");
        let kept = shown(&bed, 1, call).await;
        assert_eq!(
            (&kept["state"], &kept["count"], &kept["operations"]),
            (&json!("ended"), &json!(2), &Value::Null)
        );
    }
    let ledger = bed.bots[1].get("/ledger").await;
    assert_eq!((&ledger["strays"], &bed.bots[1].get("/healthz").await["calls"]), (&json!({}), &json!(0)));

    // An incoming call is followed by the same requests.
    let call = bed.place(&json!({})).await;
    let owner = bed.owner(&call).await;
    follows(owner, &call).await;
}

#[tokio::test]
async fn a_bot_answers_rejects_redirects_or_deletes_a_call_by_itself() {
    let Some(bed) = Testbed::with_sdk_bots(1, &["--answer", "none"]).await else { return };
    for (name, word, outcome, code, subcode) in [
        ("reject", "reject 202", "rejected", 603, 0),
        ("redirect", "redirect 202", "redirected", 200, 0),
        ("delete", "hang up 204", "ended", 200, 10_550),
    ] {
        let call = bed.place(&json!({ "protocol": "graph", "expect": outcome })).await;
        until("the call", async || bed.bots[0].get("/sdk/calls").await["calls"][0].is_object().then_some(()))
            .await;
        assert_eq!(bed.ask(0, name, &call, &json!({})).await["outcome"], "accepted", "{name}");
        let ended = end(&bed.platform, &call).await;
        assert_eq!((&ended["outcome"], &ended["ok"]), (&json!(outcome), &json!(true)), "{ended}");
        let last = if name == "delete" { "terminated 202" } else { &format!("{outcome} 202") };
        let all = follow(&bed, &call, 0, &["incoming 202", word, last], name).await;
        let result = &body_of(&all[2], "request")["value"][0]["resourceData"]["resultInfo"];
        assert_eq!((&result["code"], &result["subcode"]), (&json!(code), &json!(subcode)), "{name}");
    }
    let call = bed.place(&json!({ "protocol": "graph" })).await;
    until("the call", async || bed.bots[0].get("/sdk/calls").await["calls"][0].is_object().then_some(()))
        .await;
    assert_eq!(bed.ask(0, "answer", &call, &json!({})).await["outcome"], "accepted");
    assert_eq!(bed.owner(&call).await, 0);
    assert_eq!(bed.ask(0, "delete", &call, &json!({})).await["outcome"], "accepted");
    assert_eq!(end(&bed.platform, &call).await["outcome"], "completed");
}
