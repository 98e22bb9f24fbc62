//! The binary, as a person or a script runs it.

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

/// Starts a server and reads the one line of JSON it prints.
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
    assert!(!table.contains('\u{1b}'), "no colour into a pipe");

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
async fn a_call_that_fails_says_why_in_one_line() {
    let (_platform, urls) = start(&["serve", "--listen", "127.0.0.1:0", "--json"]).await;
    let origin = urls["origin"].as_str().unwrap();
    // The platform itself is no webhook.
    let (output, complaint) = call(origin, origin, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.starts_with("switchboard-emulator: refused: "), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");

    let (output, complaint) = call("http://127.0.0.1:1", origin, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("the platform at http://127.0.0.1:1/ did not place the call"), "{complaint}");
}

#[tokio::test]
async fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [&["call", "--to", "nowhere"][..], &["serve", "--listen", "4000"], &["dance"], &[]] {
        let output = emulator(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
