//! `up`: one command, its files, its ports, and the end of its processes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard-emulator");
const FREE_PORTS: [&str; 8] =
    ["--listen", "127.0.0.1:0", "--bot-port", "0", "--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

fn up(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("up").args(FREE_PORTS).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The gateway beside the emulator. Tests of the whole workspace build it; tests of this crate do not.
fn gateway() -> Option<PathBuf> {
    let gateway = Path::new(BINARY).with_file_name("switchboard");
    if gateway.is_file() {
        return Some(gateway);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is not built", gateway.display());
    None
}

async fn signal(process: &Child, name: &str) {
    let id = process.id().unwrap().to_string();
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status().await.unwrap();
    assert!(sent.success());
}

async fn started(arguments: &[&str]) -> (Child, Value) {
    let mut process = up(arguments).arg("--json").stderr(Stdio::inherit()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    (process, serde_json::from_str(&line).unwrap())
}

async fn until_closed(url: &str) {
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let closed = async {
        while TcpStream::connect(&address).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), closed).await.expect("the gateway ends");
}

#[tokio::test]
async fn up_runs_calls_through_the_gateway_and_ends_all_on_sigterm() {
    if gateway().is_none() {
        return;
    }
    let (mut process, urls) = started(&["--bots", "3"]).await;
    assert_eq!(urls["bots"].as_array().unwrap().len(), 3, "{urls}");
    let text = |name: &str| urls[name].as_str().unwrap().to_owned();
    // The app id comes from its default, the rest from variables.
    for answer in ["p2p", "meeting"] {
        let call = Command::new(BINARY)
            .args(["call", "--kind", answer, "--duration", "1ms"])
            .env("SWITCHBOARD_EMULATOR_PLATFORM", text("platform"))
            .env("SWITCHBOARD_EMULATOR_TO", text("webhook"))
            .output()
            .await
            .unwrap();
        let table = String::from_utf8_lossy(&call.stdout);
        assert!(call.status.success() && table.contains("/api/callbacks/emea/bot-"), "{table}");
    }
    let configuration = fs::read_to_string(text("config")).unwrap();
    assert!(
        configuration.contains("[[trust]]") && !configuration.contains("not-a-secret"),
        "{configuration}"
    );
    signal(&process, "TERM").await;
    assert!(process.wait().await.unwrap().success());
    until_closed(&text("webhook")).await;
    assert!(!Path::new(&text("config")).parent().unwrap().exists(), "the temporary folder is removed");
}

#[tokio::test]
async fn bots_that_reply_with_actions_have_a_gateway_that_can_act() {
    if gateway().is_none() {
        return;
    }
    // The process is killed at the end, so its folder is one that the test removes.
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let (_process, urls) = started(&["--answer", "action", "--bots", "1", "--folder", folder]).await;
    let text = |name: &str| urls[name].as_str().unwrap().to_owned();
    let (platform, webhook) = (text("platform"), text("webhook"));
    let call = ["call", "--duration", "1ms", "--platform", &platform, "--to", &webhook];
    let call = Command::new(BINARY).args(call).output().await.unwrap();
    assert!(call.status.success(), "{}", String::from_utf8_lossy(&call.stderr));
}

#[tokio::test]
async fn a_bot_of_the_user_takes_the_place_of_the_emulators_bots() {
    if gateway().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = format!("http://{}/calls?key=a\\b", own.local_addr().unwrap());
    let (_process, urls) = started(&["--own-bot", &webhook, "--folder", folder]).await;
    assert_eq!(urls["bots"], serde_json::json!([webhook]));
    let text = |name: &str| urls[name].as_str().unwrap().to_owned();
    let call = ["call", "--platform", &text("platform"), "--to", &text("webhook")];
    let _call = Command::new(BINARY).args(call).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let (stream, _) =
        timeout(Duration::from_secs(30), own.accept()).await.expect("the call arrives").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    assert!(line.starts_with("POST /calls?key=a"), "{line}");
}

#[tokio::test]
async fn bots_like_the_sdk_get_credentials_and_their_requests() {
    if gateway().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let arguments = ["--like", "sdk", "--then", "subscribeToTone,mute", "--bots", "1", "--folder", folder];
    let (_process, urls) = started(&arguments).await;
    let text = |name: &str| urls[name].as_str().unwrap().to_owned();
    let (platform, webhook) = (text("platform"), text("webhook"));
    let call = ["call", "--duration", "600s", "--platform", &platform, "--to", &webhook];
    let _call = Command::new(BINARY).args(call).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let bot = urls["bots"][0].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let done = async {
        loop {
            let calls = crate::support::get(bot, "/calls").await.json();
            match calls["calls"][0]["operations"].as_array() {
                Some(operations) if operations.len() == 2 => return Value::from(operations.clone()),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let done = timeout(Duration::from_secs(30), done).await.expect("both requests end");
    let expected = serde_json::json!([
        {"name": "subscribeToTone", "outcome": "completed", "message": null},
        {"name": "mute", "outcome": "completed", "message": null},
    ]);
    assert_eq!(done, expected);
    let known = crate::support::get(bot, "/sdk/calls").await.json();
    assert_eq!(known["calls"][0]["state"], "established");
}

#[tokio::test]
async fn a_killed_up_leaves_no_gateway_behind() {
    if gateway().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut process, urls) = started(&["--folder", folder.path().to_str().unwrap()]).await;
    signal(&process, "KILL").await;
    process.wait().await.unwrap();
    until_closed(urls["webhook"].as_str().unwrap()).await;
    assert!(folder.path().join("gateway.toml").is_file(), "a folder of the user stays");
}

/// A program that stands for the gateway.
fn script(folder: &Path, text: &str) -> String {
    let file = folder.join("switchboard");
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    file.to_str().unwrap().to_owned()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn up_ends_with_the_name_of_a_process_that_ends() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "echo its log; exit 64");
    let output = up(&["--switchboard", &program]).output().await.unwrap();
    let complaint = complaint(&output);
    let expected = format!("switchboard-emulator: the gateway ({program}) ended: exit status: 64");
    assert!(complaint.contains("its log\n") && complaint.contains(&expected), "{complaint}");
}

#[tokio::test]
async fn a_gateway_that_dies_later_ends_up() {
    let Some(gateway) = gateway() else { return };
    let folder = tempfile::tempdir().unwrap();
    let id = folder.path().join("id");
    let text = format!("echo $$ > {}\nexec {} \"$@\"", id.display(), gateway.display());
    let program = script(folder.path(), &text);
    let (process, _) = started(&["--switchboard", &program]).await;
    let id = fs::read_to_string(id).unwrap();
    let killed = Command::new("sh").args(["-c", "kill -s KILL \"$0\"", id.trim()]).status().await.unwrap();
    assert!(killed.success());
    let output = process.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn what_is_missing_or_taken_is_named_with_the_option_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "exit 1");
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, port) = (holder.local_addr().unwrap().to_string(), holder.local_addr().unwrap().port());
    let port = port.to_string();
    let existing = folder.path().to_str().unwrap();
    fs::write(folder.path().join("gateway.toml"), "mine").unwrap();
    let command = |changed: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("up").args(["--switchboard", &program]);
        for pair in FREE_PORTS.chunks(2).filter(|pair| !changed.contains(&pair[0])) {
            command.args(pair);
        }
        command.args(changed).stdin(Stdio::null());
        command
    };
    for (changed, expected) in [
        (["--listen", &address], "for the platform with --listen"),
        (["--bot-port", &port], "choose another first port for the bots with --bot-port"),
        (["--gateway", &address], "choose another address or port with --gateway"),
        (["--admin", &address], "choose another address or port with --admin"),
        (["--folder", existing], "gateway.toml exists and is not overwritten; use it with --config"),
    ] {
        let output = command(&changed).output().await.unwrap();
        let complaint = complaint(&output);
        assert!(complaint.contains(expected) && complaint.lines().count() == 1, "{complaint}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("gateway.toml")).unwrap(), "mine");

    let output = up(&["--switchboard", "/nowhere/switchboard"]).output().await.unwrap();
    assert!(complaint(&output).contains("--switchboard: there is no file /nowhere/switchboard"));
    // A copy of the emulator alone in a folder has no gateway beside it.
    let alone = folder.path().join("alone");
    fs::create_dir(&alone).unwrap();
    fs::copy(BINARY, alone.join("switchboard-emulator")).unwrap();
    let output = Command::new(alone.join("switchboard-emulator"))
        .arg("up")
        .args(FREE_PORTS)
        .env("PATH", "/nowhere")
        .output()
        .await
        .unwrap();
    let complaint = complaint(&output);
    let beside = alone.join("switchboard").display().to_string();
    assert!(complaint.contains(&beside) && complaint.contains("in PATH (/nowhere)"), "{complaint}");
}
