//! Answered calls: scripts, participants who join and leave, bots that decline or hang up.

use std::time::Duration;

use serde_json::json;
use switchboard_emulator::{
    AnswerMode, Behaviour, Bot, BotSettings, CallKind, CallOutcome, CallRequest, CallStep, Client,
    JoinResponse, Platform, Protocol, Script, parse_http_url,
};

use crate::support::{Act, Webhook, call_to, platform, played};

async fn bot_that(platform: &Platform, behaviour: Behaviour) -> (Bot, CallRequest) {
    let settings =
        BotSettings { behaviour, ..BotSettings::new("bot-0", parse_http_url(platform.origin()).unwrap()) };
    let bot = Bot::start(settings, Client::new(None).unwrap()).await.unwrap();
    let mut call = call_to(&format!("http://{}/api/calls", bot.address()));
    call.protocol = Protocol::Graph;
    (bot, call)
}

/// Plays the call, which must end as expected, and returns its steps as `what status`.
async fn check(platform: &Platform, call: CallRequest) -> (Vec<String>, Vec<CallStep>) {
    let (words, steps, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok, "{end:?} {words:?}");
    (words, steps)
}

fn after_the_roster(words: &[String]) -> &[String] {
    let roster = words.iter().position(|word| word == "roster 202").expect("a roster");
    &words[roster + 1..]
}

#[tokio::test]
async fn a_script_is_played_in_order() {
    let platform = platform().await;
    let (bot, mut call) = bot_that(&platform, Behaviour::default()).await;
    let script = r#"
        [[step]]
        do = "join"
        participants = 2
        expect = 202
        [[step]]
        do = "tone"
        tone = "star"
        [[step]]
        do = "hold"
        [[step]]
        do = "resume"
        after = "1ms"
        [[step]]
        do = "operation"
        operation = "playPrompt"
        [[step]]
        do = "leave"
        [[step]]
        do = "terminate"
        code = 500
        subcode = 7106
    "#;
    call.script = Some(Script::parse(script).unwrap());
    let (words, _) = check(&platform, call).await;
    let expected = [
        "roster 202",
        "tone star 202",
        "hold 202",
        "resume 202",
        "operation 202",
        "roster 202",
        "terminated 202",
    ];
    assert_eq!(after_the_roster(&words), expected);
    let kinds = &bot.calls().calls[0].notifications;
    assert_eq!(kinds[4..], ["roster", "tone", "hold", "established", "operation", "roster", "terminated"]);
}

#[tokio::test]
async fn an_unexpected_status_ends_the_call_and_names_the_step() {
    let platform = platform().await;
    let (_bot, mut call) = bot_that(&platform, Behaviour::default()).await;
    call.script = Some(Script::parse("[[step]]\ndo = \"hold\"\nexpect = 404").unwrap());
    call.expect = CallOutcome::Unexpected;
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok, "{end:?}");
    let reason = "step 1 of the script expects 404, but the response to hold was 202 Accepted";
    assert_eq!(end.reason, reason);
}

#[tokio::test]
async fn a_dropped_call_is_unknown_to_graph_and_not_notified() {
    let platform = platform().await;
    let (bot, mut call) = bot_that(&platform, Behaviour::default()).await;
    call.script = Some(Script::parse("[[step]]\ndo = \"drop\"").unwrap());
    let (words, _) = check(&platform, call).await;
    assert!(!words.iter().any(|word| word.starts_with("terminated")), "{words:?}");
    let call = &bot.calls().calls[0];
    assert_eq!(call.state, "established");
    let path = format!("/v1.0/communications/calls/{}", call.id);
    assert_eq!(crate::support::get(platform.address(), &path).await.status, 404);
}

#[tokio::test]
async fn a_bot_declines_or_hangs_up_through_graph() {
    let platform = platform().await;
    for (answer, expect, word) in [
        (AnswerMode::Reject, CallOutcome::Rejected, "rejected 202"),
        (AnswerMode::Redirect, CallOutcome::Redirected, "redirected 202"),
        (AnswerMode::None, CallOutcome::Unanswered, "terminated 202"),
    ] {
        let (bot, mut call) = bot_that(&platform, Behaviour { answer, ..Behaviour::default() }).await;
        call.expect = expect;
        if answer == AnswerMode::None {
            call.answer_within = Duration::from_millis(200);
        }
        let (words, _) = check(&platform, call).await;
        assert!(words.iter().any(|seen| seen == word), "{words:?}");
        assert_eq!(bot.calls().active, 0);
    }
    let hang_up_after = Some(Duration::from_millis(1));
    let (_bot, mut call) = bot_that(&platform, Behaviour { hang_up_after, ..Behaviour::default() }).await;
    call.duration = Duration::from_secs(60);
    let (words, _) = check(&platform, call).await;
    assert!(words.contains(&"hang up 204".to_owned()), "{words:?}");
}

#[tokio::test]
async fn a_delta_roster_names_only_the_people_who_joined() {
    let platform = platform().await;
    for (delta_roster, expected) in [(false, vec![2, 3, 4]), (true, vec![2, 1, 1])] {
        let webhook = Webhook::start(&platform, move |seen, _| match seen.kind().as_str() {
            "incoming" => Act::Ask {
                method: "POST",
                action: "/answer",
                body: json!({
                    "callbackUri": format!("http://{}/", seen.header("host").unwrap()),
                    "acceptedModalities": ["audio"],
                    "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
                    "callOptions": {"isDeltaRosterEnabled": delta_roster},
                })
                .to_string(),
            },
            _ => Act::status(202),
        })
        .await;
        let mut call = call_to(&webhook.url()).with_kind(CallKind::Meeting);
        call.protocol = Protocol::Graph;
        call.participants = 3;
        check(&platform, call).await;
        let rosters: Vec<usize> = webhook
            .seen()
            .iter()
            .filter(|seen| seen.kind() == "participants")
            .map(|seen| {
                let data = &seen.body["value"][0]["resourceData"];
                let list = data.pointer("/0/participants").unwrap_or(data);
                list.as_array().unwrap().len()
            })
            .collect();
        assert_eq!(rosters, expected, "delta {delta_roster}");
    }
}

#[tokio::test]
async fn a_bot_with_a_capacity_admits_or_rejects_participants() {
    let platform = platform().await;
    let (other, _) = bot_that(&platform, Behaviour::default()).await;
    let other_url = parse_http_url(&format!("http://{}/api/calls", other.address())).unwrap();
    for (joining, expected, joined) in [
        (JoinResponse::Accept, "accepted".to_owned(), true),
        (JoinResponse::Reject, "rejected: busy".to_owned(), false),
        (JoinResponse::Invite(other_url.clone()), format!("a new bot is invited at {other_url}"), false),
        (JoinResponse::Silent, "invalid response: the body is not JSON".to_owned(), false),
    ] {
        let behaviour =
            Behaviour { participant_capacity: Some(2), joining: joining.clone(), ..Behaviour::default() };
        let (bot, call) = bot_that(&platform, behaviour).await;
        let mut call = call.with_kind(CallKind::Recording);
        call.participants = 2;
        let (words, steps) = check(&platform, call).await;
        let asked = words.iter().filter(|word| word.starts_with("participant joining 20")).count();
        assert_eq!(asked, if joining == JoinResponse::Silent { 3 } else { 1 }, "{words:?}");
        let notes: Vec<&str> = steps.iter().filter_map(|step| step.note.as_deref()).collect();
        assert!(notes.contains(&expected.as_str()), "{notes:?}");
        assert_eq!(words.iter().filter(|word| *word == "roster 202").count(), 1 + usize::from(joined));
        assert_eq!(bot.calls().calls[0].state, "ended");
        let dropped = words.iter().any(|word| word.starts_with("participant dropped"));
        assert_eq!(dropped, joining == JoinResponse::Silent);
        if matches!(joining, JoinResponse::Invite(_)) {
            assert!(notes.iter().any(|note| note.starts_with("completed: ")), "{notes:?}");
            assert_eq!(other.calls().calls[0].state, "ended");
        }
    }
    // Only in a recording is the bot asked.
    let behaviour = Behaviour { participant_capacity: Some(2), ..Behaviour::default() };
    let (_bot, mut call) = bot_that(&platform, behaviour).await;
    call.participants = 2;
    let (words, _) = check(&platform, call).await;
    assert!(!words.iter().any(|word| word.starts_with("participant joining")), "{words:?}");
}
