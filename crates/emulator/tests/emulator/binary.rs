//! The binary, as a user or a script runs it.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::APP;

fn emulator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard-emulator"));
    command.args(arguments).env_remove("NO_COLOR").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Starts a server and reads its one line of JSON.
async fn start(arguments: &[&str]) -> (Child, Value) {
    let mut child = emulator(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

async fn call(platform: &str, to: &str, more: &[&str]) -> (Output, String) {
    let app = APP.to_string();
    let mut arguments =
        vec!["call", "--platform", platform, "--app-id", &app, "--to", to, "--duration", "1ms"];
    arguments.extend(more);
    let output = emulator(&arguments).output().await.unwrap();
    let complaint = String::from_utf8(output.stderr.clone()).unwrap();
    (output, complaint)
}

#[tokio::test]
async fn three_processes_play_a_call() {
    let (_platform, urls) = start(&["serve", "--listen", "127.0.0.1:0", "--json"]).await;
    let origin = urls["origin"].as_str().unwrap();
    assert!(urls["skype_metadata"].as_str().unwrap().starts_with(origin));
    let (_bot, bot) = start(&["bot", "--name", "bot-7", "--platform", origin, "--json"]).await;
    assert_eq!(bot["name"], "bot-7");
    let webhook = format!("{}/api/calls", bot["url"].as_str().unwrap());

    let (output, complaint) = call(origin, &webhook, &[]).await;
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}{complaint}");
    assert!(table.contains("incoming (legacy)") && table.contains("ok: completed"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colour in a pipe");

    let (output, _) = call(origin, &webhook, &["--json", "--token", "entra-v2", "--kind", "pstn"]).await;
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["event"], &lines.last().unwrap()["outcome"]),
        (&"call".into(), &"completed".into())
    );

    let (output, complaint) = call(origin, &webhook, &["--expect", "refused"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("completed, not refused"), "{complaint}");
}

#[tokio::test]
async fn a_failed_call_is_reported_in_one_line() {
    let (_platform, urls) = start(&["serve", "--listen", "127.0.0.1:0", "--json"]).await;
    let origin = urls["origin"].as_str().unwrap();
    // The platform itself is not a webhook.
    let (output, complaint) = call(origin, origin, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.starts_with("switchboard-emulator: refused: "), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");

    let (output, complaint) = call("http://127.0.0.1:1", origin, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("the platform at http://127.0.0.1:1/ placed no call"), "{complaint}");
}

#[tokio::test]
async fn a_failure_to_start_or_to_connect_is_one_line_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().to_str().unwrap();
    let (_secure, urls) = start(&["serve", "--listen", "127.0.0.1:0", "--tls", tls, "--json"]).await;
    let https = urls["origin"].as_str().unwrap();
    let (_plain, urls) = start(&["serve", "--listen", "127.0.0.1:0", "--json"]).await;
    let http = urls["origin"].as_str().unwrap();
    let app = APP.to_string();
    let taken = http.strip_prefix("http://").unwrap();
    for (arguments, expected) in [
        (&["call", "--platform", https][..], "name the certificate authority to trust with --ca"),
        (&["call", "--platform", &http.replace("http", "https")], "does not speak TLS: is it http?"),
        (&["call", "--platform", &https.replace("https", "http")], "if it serves https, write https://"),
        (&["call", "--ca", "/nowhere/ca.pem"], "--ca: cannot read /nowhere/ca.pem: No such file"),
        (&["call", "--ca", "Cargo.toml"], "not a file of certificates in PEM, like the ca.pem that"),
        (&["serve", "--listen", taken], "choose another address or port with --listen"),
        (&["serve", "--listen", "127.0.0.1:0", "--tls", "Cargo.toml"], "name a folder that can be created"),
        (&["bot", "--platform", http, "--listen", taken], &format!("cannot listen on {taken}: Address")),
        (&["bot", "--platform", http, "--journal", "."], "cannot open the journal .: "),
    ] {
        let target = ["--app-id", &app, "--to", "http://127.0.0.1:1/"];
        let target = if arguments[0] == "call" { &target[..] } else { &[] };
        let output = emulator(arguments).args(target).output().await.unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), complaint.lines().count()), (Some(1), 1), "{complaint}");
        assert!(complaint.contains(expected), "{complaint}");
    }
}

#[tokio::test]
async fn a_load_prints_its_report_as_a_table_or_as_json() {
    let (_platform, urls) = start(&["serve", "--listen", "127.0.0.1:0", "--json"]).await;
    let origin = urls["origin"].as_str().unwrap();
    let (_bot, bot) = start(&["bot", "--platform", origin, "--json"]).await;
    let url = bot["url"].as_str().unwrap();
    let app = APP.to_string();
    let load = |more: &'static [&'static str]| {
        let mut arguments = vec!["load", "--platform", origin, "--app-id", &app, "--to", url, "--bot", url];
        arguments.extend(["--calls", "6", "--rate", "100", "--duration", "1ms"]);
        arguments.extend(more);
        emulator(&arguments)
    };
    let output = load(&["--kind-mix", "p2p=1,pstn=1"]).output().await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for line in
        ["6 calls in ", "completed                            6", "misrouted                            0"]
    {
        assert!(table.contains(line), "{table}");
    }
    let output = load(&["--json", "--token", "entra-v2"]).output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ok"], &report["sent"]), (&true.into(), &36.into()), "{report}");
}

#[tokio::test]
async fn a_terminated_bot_stops_after_its_calls_and_leaves_a_journal() {
    let (_platform, urls) = start(&["serve", "--listen", "127.0.0.1:0", "--json"]).await;
    let origin = urls["origin"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let arguments = ["bot", "--platform", origin, "--json", "--journal", journal.to_str().unwrap()];
    let (mut process, bot) = start(&arguments).await;
    let webhook = format!("{}/api/calls", bot["url"].as_str().unwrap());
    let app = APP.to_string();
    let arguments =
        ["call", "--platform", origin, "--app-id", &app, "--to", &webhook, "--duration", "500ms", "--json"];
    let mut caller = emulator(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(caller.stdout.take().unwrap()).lines();
    let mut last = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("\"step\"") && line.contains("\"roster\"") {
            let id = process.id().unwrap().to_string();
            let kill = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &id]).status().await.unwrap();
            assert!(kill.success());
        }
        last = line;
    }
    assert!(last.contains("\"completed\""), "{last}");
    assert_eq!(process.wait().await.unwrap().code(), Some(0));

    let text = std::fs::read_to_string(&journal).unwrap();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["incoming", "establishing", "established", "roster", "terminated"]);
    let first = &entries[0];
    assert!(first["name"] == "bot-0" && first["life"].is_string() && first["message"].is_string(), "{first}");
    assert!(entries.iter().all(|entry| entry["life"] == first["life"] && entry["call"] == first["call"]));
}

#[tokio::test]
async fn an_invalid_script_is_reported_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.toml");
    std::fs::write(&file, "[[step]]\ndo = \"hold\"\n\n[[step]]\ndo = \"wait\"\n").unwrap();
    let script = file.to_str().unwrap();
    let (output, complaint) = call("http://127.0.0.1:1", "http://127.0.0.1:1", &["--script", script]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("script.toml: line 4, step 2 (wait): for is needed"), "{complaint}");
}

#[tokio::test]
async fn a_call_without_a_platform_starts_its_own() {
    // Port 1 refuses the notification. The command has started a platform all the same.
    let app = APP.to_string();
    let arguments = ["call", "--app-id", &app, "--to", "http://127.0.0.1:1/", "--listen", "127.0.0.1:0"];
    let more = ["--expect", "undelivered", "--protocol", "graph", "--answer-within", "300ms"];
    let arguments: Vec<&str> = arguments.into_iter().chain(more).collect();
    let output = emulator(&arguments).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_invalid_command_line_exits_with_2() {
    for arguments in [&["call", "--to", "nowhere"][..], &["serve", "--listen", "4000"], &["dance"], &[]] {
        let output = emulator(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[tokio::test]
async fn a_bot_reports_a_graph_failure_with_a_remedy() {
    let app = APP.to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--json", "--app-id", &app, "--secret", "right"];
    let (_platform, urls) = start(&serve).await;
    let origin = urls["origin"].as_str().unwrap();
    for (more, expected) in [
        (
            &[][..],
            "answer failed: Graph responded 401 Unauthorized (InvalidAuthenticationToken: Access token is \
             empty.); this bot sends no token: start it with the --app-id and the --secret of an app",
        ),
        (
            &["--app-id", &app, "--secret", "wrong"],
            "answer failed: the token endpoint responded 401 Unauthorized (AADSTS7000215: Invalid client \
             secret",
        ),
    ] {
        let mut bot = emulator(&["bot", "--platform", origin, "--json"]);
        let mut bot = bot.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(bot.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let shown: Value = serde_json::from_str(&line).unwrap();
        let (_, complaint) = call(origin, shown["url"].as_str().unwrap(), &["--answer-within", "1s"]).await;
        assert!(complaint.contains("unanswered"), "{complaint}");
        let mut report = String::new();
        BufReader::new(bot.stderr.take().unwrap()).read_line(&mut report).await.unwrap();
        assert!(report.starts_with("switchboard-emulator: call ") && report.contains(expected), "{report}");
    }
}

#[tokio::test]
async fn a_bot_reports_a_failed_action() {
    let mut bot = emulator(&["bot", "--platform", "http://127.0.0.1:1", "--answer", "action", "--json"]);
    let mut bot = bot.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(bot.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let shown: Value = serde_json::from_str(&line).unwrap();
    let address = shown["url"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    let body =
        r#"{"action":"answer","callId":"a1","error":{"code":"call_not_found","outcomeUnknown":false}}"#;
    let headers = [("Content-Type", "application/vnd.switchboard.action-failed+json")];
    assert_eq!(crate::support::send(address, "POST", "/", &headers, body).await.status, 202);
    let mut report = String::new();
    BufReader::new(bot.stderr.take().unwrap()).read_line(&mut report).await.unwrap();
    assert_eq!(report, "switchboard-emulator: call a1: the gateway's answer failed: call_not_found\n");
}
