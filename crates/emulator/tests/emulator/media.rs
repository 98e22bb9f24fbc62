//! Operations on media: prompts, recordings, tones.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_emulator::CallRequest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::Instant,
};

use crate::{
    operations::{Answered, answered, notified},
    support::{get, platform, post, send},
};

/// Returns a WAV file of silence.
fn sound(rate: u32, milliseconds: u32) -> Vec<u8> {
    let size = rate / 1_000 * milliseconds * 2;
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(size + 36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&(rate * 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&size.to_le_bytes());
    file.resize(file.len() + usize::try_from(size).unwrap(), 0);
    file
}

/// Serves a body with a status at each path until the test ends. Returns the origin.
async fn files(files: Vec<(&'static str, u16, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let found = files.iter().find(|(name, ..)| *name == path);
            let (status, body) = found.map_or((404, &[][..]), |(_, status, body)| (*status, body));
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body).await;
        }
    });
    origin
}

fn prompts(context: &str, uris: &[String]) -> Value {
    let prompt = |uri: &String| {
        json!({
            "@odata.type": "#microsoft.graph.mediaPrompt",
            "mediaInfo": {"@odata.type": "#microsoft.graph.mediaInfo", "uri": uri},
        })
    };
    json!({"clientContext": context, "prompts": uris.iter().map(prompt).collect::<Vec<_>>()})
}

/// Waits until as many operations were notified.
async fn until_notified(call: &Answered, count: usize) -> Vec<String> {
    for _ in 0..1_500 {
        let lines = notified(&call.webhook);
        if lines.len() >= count {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", notified(&call.webhook));
}

#[tokio::test]
async fn prompts_are_played_one_after_another_for_as_long_as_they_sound() {
    let platform = platform().await;
    let origin = files(vec![("/a.wav", 200, sound(16_000, 300)), ("/b.wav", 200, sound(16_000, 200))]).await;
    let (a, b) = (format!("{origin}/a.wav"), format!("{origin}/b.wav"));
    let call = answered(&platform, |call| call).await;
    let started = Instant::now();
    let first = call.start(&platform, "playPrompt", &prompts("first", &[a, b.clone()])).await;
    assert_eq!((&first["status"], &first["resultInfo"]), (&json!("running"), &Value::Null));
    call.start(&platform, "playPrompt", &prompts("second", &[b])).await;
    assert_eq!(until_notified(&call, 2).await, ["first completed 200/0", "second completed 200/0"]);
    assert!(started.elapsed() >= Duration::from_millis(700), "the prompts sound for 700 ms");
    call.end(&platform).await;
}

#[tokio::test]
async fn a_prompt_that_cannot_be_played_fails_with_the_reason() {
    let platform = platform().await;
    let served = vec![
        ("/slow.wav", 200, sound(8_000, 100)),
        ("/page.wav", 200, b"<html>".to_vec()),
        ("/gone.wav", 500, Vec::new()),
        ("/good.wav", 200, sound(16_000, 10)),
    ];
    let origin = files(served).await;
    let call = answered(&platform, |call| call).await;
    for name in ["slow", "page", "gone", "none", "good"] {
        call.start(&platform, "playPrompt", &prompts(name, &[format!("{origin}/{name}.wav")])).await;
    }
    call.start(&platform, "playPrompt", &prompts("closed", &["http://127.0.0.1:9/x.wav".to_owned()])).await;
    let lines = until_notified(&call, 6).await;
    let expected = [
        "slow failed 400/8535",
        "page failed 400/8535",
        "gone failed 400/8536",
        "none failed 400/8536",
        "good completed 200/0",
        "closed failed 400/8536",
    ];
    assert_eq!(lines, expected);
    let id = call.path.rsplit('/').next().unwrap().to_owned();
    let details = get(platform.address(), &format!("/emulator/calls/{id}")).await.json();
    let notes: Vec<&str> =
        details["events"].as_array().unwrap().iter().filter_map(|event| event["note"].as_str()).collect();
    let shown =
        notes.iter().any(|note| note.contains("16000 Hz and 16 bits; it has coding 1, 1 channels, 8000 Hz"));
    assert!(shown, "{notes:?}");
    for (body, expected) in [
        (json!({"prompts": []}), "prompts takes 1 to 20"),
        (json!({"prompts": [{}]}), "needs a mediaInfo"),
        (json!({"prompts": [{"mediaInfo": {"uri": "file:///etc/passwd"}}]}), "http or https URL"),
        (json!({"prompts": [{"mediaInfo": {"uri": "http://x/", "resourceId": 5}}]}), "resourceId"),
    ] {
        let reply = call.ask(&platform, "POST", "/playPrompt", &body).await;
        assert!(reply.status == 400 && reply.body.contains(expected), "{}", reply.body);
    }
    call.end(&platform).await;
}

#[tokio::test]
async fn a_recording_is_made_and_only_its_token_downloads_it() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    let steps = format!("/emulator/calls/{}/steps", call.path.rsplit('/').next().unwrap());
    let spoken = post(platform.address(), &steps, r#"{"do":"speak","for":"300ms"}"#).await;
    assert_eq!(spoken.status, 202, "{spoken:?}");
    let body = json!({"clientContext": "r", "maxRecordDurationInSeconds": 10, "maxSilenceTimeoutInSeconds": 1,
        "playBeep": false, "stopTones": ["#"]});
    let running = call.start(&platform, "recordResponse", &body).await;
    assert_eq!(running["recordingLocation"], Value::Null);
    assert_eq!(until_notified(&call, 1).await, ["r completed 200/0"]);
    let id = running["id"].as_str().unwrap();
    let ended = call.ask(&platform, "GET", &format!("/operations/{id}"), &Value::Null).await.json();
    assert_eq!(ended["completionReason"], "maxSilenceTimeout");
    let (location, token) = (&ended["recordingLocation"], &ended["recordingAccessToken"]);
    let location = location.as_str().unwrap().strip_prefix(platform.origin()).unwrap();
    for (authorization, status) in [
        ("Bearer x".to_owned(), 401),
        (format!("Bearer {}x", token.as_str().unwrap()), 401),
        (token.as_str().unwrap().to_owned(), 401),
        (format!("Bearer {}", token.as_str().unwrap()), 200),
    ] {
        let headers = [("Authorization", authorization.as_str())];
        let reply = send(platform.address(), "GET", location, &headers, "").await;
        assert_eq!(reply.status, status, "{authorization}");
        if status == 200 {
            // 1.3 s of sound, with the head of the file.
            assert!(reply.head.contains("content-length: 41644"), "{}", reply.head);
            assert!(reply.head.contains("audio/wav") && reply.body.starts_with("RIFF"), "{}", reply.head);
        }
    }
    let path = format!("/emulator/calls/{}", call.path.rsplit('/').next().unwrap());
    let details = get(platform.address(), &path).await.json();
    assert_eq!(details["recordings"][0]["bytes"], 41_644);
    call.end(&platform).await;
}

#[tokio::test]
async fn a_recording_ends_by_a_stop_tone_by_its_length_or_by_silence() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    let steps = format!("/emulator/calls/{}/steps", call.path.rsplit('/').next().unwrap());
    let step = async |step: Value| {
        let reply = post(platform.address(), &steps, &step.to_string()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    };
    call.start(&platform, "subscribeToTone", &json!({"clientContext": "s"})).await;
    let body = json!({"clientContext": "tone", "maxRecordDurationInSeconds": 100, "playBeep": false,
        "maxSilenceTimeoutInSeconds": 100, "stopTones": ["Pound", "1"]});
    call.start(&platform, "recordResponse", &body).await;
    until_notified(&call, 1).await;
    // The recording starts in the task of the call, after this request.
    tokio::time::sleep(Duration::from_millis(300)).await;
    step(json!({"do": "tone", "tone": 5})).await;
    step(json!({"do": "tone", "tone": "pound"})).await;
    until_notified(&call, 2).await;

    let body = json!({"clientContext": "long", "maxRecordDurationInSeconds": 1, "playBeep": false});
    call.start(&platform, "recordResponse", &body).await;
    until_notified(&call, 3).await;

    step(json!({"do": "speak", "for": "0s"})).await;
    let body = json!({"clientContext": "silent", "initialSilenceTimeoutInSeconds": 1, "playBeep": false});
    call.start(&platform, "recordResponse", &body).await;
    let expected =
        ["s completed 200/0", "tone completed 200/8514", "long completed 200/8515", "silent failed 400/8510"];
    assert_eq!(until_notified(&call, 4).await, expected);
    for (body, expected) in [
        (json!({"maxRecordDurationInSeconds": 121}), "maxRecordDurationInSeconds takes 1 to 120"),
        (json!({"stopTones": ["x"]}), "stopTones takes"),
        (json!({"prompts": [{}, {}]}), "one mediaPrompt"),
    ] {
        let reply = call.ask(&platform, "POST", "/recordResponse", &body).await;
        assert!(reply.status == 400 && reply.body.contains(expected), "{}", reply.body);
    }
    call.end(&platform).await;
}

#[tokio::test]
async fn media_that_is_cancelled_barged_into_or_cut_off_is_notified() {
    let platform = platform().await;
    let origin = files(vec![("/long.wav", 200, sound(16_000, 60_000))]).await;
    let long = [format!("{origin}/long.wav")];
    let call = answered(&platform, |call| call).await;
    call.start(&platform, "playPrompt", &prompts("one", &long)).await;
    call.start(&platform, "playPrompt", &prompts("two", &long)).await;
    call.start(&platform, "cancelMediaProcessing", &json!({"clientContext": "cancel"})).await;
    until_notified(&call, 3).await;
    call.start(&platform, "playPrompt", &prompts("three", &long)).await;
    let body = json!({"clientContext": "barge", "bargeInAllowed": true, "maxRecordDurationInSeconds": 100,
        "maxSilenceTimeoutInSeconds": 100});
    call.start(&platform, "recordResponse", &body).await;
    until_notified(&call, 4).await;
    let tones =
        json!({"clientContext": "keys", "delayBetweenTonesMs": 100, "tones": ["Tone1", "star", "Pound"]});
    let started = Instant::now();
    call.start(&platform, "sendDtmfTones", &tones).await;
    until_notified(&call, 5).await;
    assert!(started.elapsed() >= Duration::from_millis(300), "three tones with 100 ms each");
    call.start(&platform, "playPrompt", &prompts("late", &long)).await;
    let (words, webhook) = call.end(&platform).await;
    let expected = [
        "one failed 400/8508",
        "two failed 400/8508",
        "cancel completed 200/0",
        "three failed 400/8508",
        "keys completed 200/0",
        "barge failed 400/8508",
        "late failed 400/8508",
    ];
    assert_eq!(notified(&webhook), expected);
    assert_eq!(words.last().map(String::as_str), Some("terminated 202"));
}

#[tokio::test]
async fn recordings_and_prompts_are_immediate_on_request() {
    let platform = platform().await;
    let operations = Some("immediate:recordResponse,playPrompt".parse().unwrap());
    let call = answered(&platform, |call| CallRequest { operations, ..call }).await;
    let recorded = call.start(&platform, "recordResponse", &json!({"clientContext": "r"})).await;
    assert_eq!(recorded["status"], "completed");
    let location = recorded["recordingLocation"].as_str().unwrap().strip_prefix(platform.origin()).unwrap();
    let bearer = format!("Bearer {}", recorded["recordingAccessToken"].as_str().unwrap());
    let reply = send(platform.address(), "GET", location, &[("Authorization", &bearer)], "").await;
    assert_eq!(reply.status, 200);
    let played =
        call.start(&platform, "playPrompt", &prompts("p", &["http://127.0.0.1:9/".to_owned()])).await;
    assert_eq!(played["status"], "completed");
    let (_, webhook) = call.end(&platform).await;
    assert_eq!(notified(&webhook), [""; 0]);
}

#[tokio::test]
async fn everyone_sees_that_the_bot_is_muted() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    for (name, odata_type) in [("mute", "muteParticipant"), ("unmute", "unmuteParticipant")] {
        let operation = call.start(&platform, name, &json!({"clientContext": name})).await;
        assert_eq!(operation["@odata.type"], format!("#microsoft.graph.{odata_type}Operation"));
    }
    assert_eq!(until_notified(&call, 2).await, ["mute completed 200/0", "unmute completed 200/0"]);
    let (_, webhook) = call.end(&platform).await;
    let rosters = webhook.seen().into_iter().filter(|seen| seen.kind() == "participants");
    let muted: Vec<Value> =
        rosters.map(|seen| seen.body["value"][0]["resourceData"][1]["isMuted"].clone()).collect();
    assert_eq!(muted, [false, true, false]);
}
