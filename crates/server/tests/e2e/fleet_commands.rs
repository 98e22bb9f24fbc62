//! `switchboard fleet` against a running gateway, as an operator or a script uses it.

use std::process::{Output, Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::support::{
    APP, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies,
    gateway::{BINARY, path_of},
    port::Port,
    soon, until,
};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("fleet").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Starts a drain of bot-0 with `--wait`. Returns the process and the lines of its progress.
fn drain_and_wait(admin: &str) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut waiting = command(&["drain", "bot-0", "--wait", "--admin", admin])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let progress = BufReader::new(waiting.stderr.take().unwrap()).lines();
    (waiting, progress)
}

async fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = soon("switchboard fleet", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn probed(issuer: &Issuer, instances: &[&Instance]) -> Settings {
    Settings::new(issuer, instances).line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
}

fn report(state: &str, calls: u32) -> Reply {
    Reply::with(200, &[], &format!("{{\"state\":\"{state}\",\"calls\":{calls},\"capacity\":40}}"))
}

async fn wait_for_state(gateway: &Gateway, state: &str) {
    until(state, async || (gateway.admin("/fleet").await.json()[0]["state"] == state).then_some(())).await;
}

#[tokio::test]
async fn a_fleet_is_listed_as_a_table_and_as_json() {
    let issuer = Issuer::start();
    let instances = Instance::start_all(["bot-0", "bot-1"]);
    instances[0].probe(report("ready", 12));
    let gateway = Gateway::start(&probed(&issuer, &[&instances[0], &instances[1]])).await;
    until("both are ready", async || {
        let fleet = gateway.admin("/fleet").await.json();
        (fleet[0]["state"] == "ready" && fleet[1]["state"] == "ready").then_some(())
    })
    .await;
    let admin = format!("http://{}", gateway.admin);
    let (code, table, stderr) = run(command(&["list", "--admin", &admin])).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("instance  state"), "{table}");
    assert!(lines[1].starts_with("bot-0     ready") && lines[1].contains(" 12/40 "), "{table}");
    assert_eq!((lines.len(), lines[3]), (4, "2 instances: 2 ready; 12 calls"), "{table}");

    let (code, json, _) = run(command(&["list", "--json", "--admin", &format!("{admin}/")])).await;
    let fleet: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &fleet[0]["calls"], &fleet[1]["name"]), (0, &12.into(), &"bot-1".into()));
}

#[tokio::test]
async fn a_drain_with_wait_returns_after_the_last_call() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    instance.probe(report("ready", 2));
    let gateway = Gateway::start(&probed(&issuer, &[&instance])).await;
    wait_for_state(&gateway, "ready").await;
    let admin = format!("http://{}", gateway.admin);
    let (waiting, mut progress) = drain_and_wait(&admin);
    let line = soon("a line", progress.next_line()).await.unwrap().unwrap();
    assert_eq!(line, "bot-0: 2 calls");
    wait_for_state(&gateway, "draining").await;
    let refused = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).send(&gateway).await;
    assert_eq!(refused.status(), 503);
    // The drained instance still gets its callbacks.
    let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    let path = path_of(minted["callback_uri"].as_str().unwrap());
    let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "terminated"));
    assert_eq!(callback.send(&gateway).await.status(), 202);
    instance.request().await;
    instance.probe(report("ready", 1));
    let line = loop {
        // A line may show the callback in flight, or its end before the next report.
        let line = soon("a line", progress.next_line()).await.unwrap().unwrap();
        if !line.starts_with("bot-0: 2 calls") {
            break line;
        }
    };
    assert_eq!(line, "bot-0: 1 call");
    instance.probe(report("ready", 0));
    let output = soon("the end of the drain", waiting.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "bot-0 is empty: its last call has ended\n");

    let (code, stdout, _) = run(command(&["resume", "bot-0", "--admin", &admin])).await;
    assert_eq!((code, stdout.as_str()), (0, "bot-0 no longer drains; it is ready: its probe says ready\n"));
    let (code, stdout, _) = run(command(&["drain", "bot-0", "--admin", &admin])).await;
    assert_eq!((code, stdout.as_str()), (0, "bot-0 takes no new calls; it has 0 calls\n"));
    let (code, stdout, _) = run(command(&["resume", "bot-0", "--json", "--admin", &admin])).await;
    let instance: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &instance["state"]), (0, &"ready".into()));
}

#[tokio::test]
async fn a_wait_ends_when_an_operator_resumes() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    instance.probe(report("ready", 2));
    let gateway = Gateway::start(&probed(&issuer, &[&instance])).await;
    wait_for_state(&gateway, "ready").await;
    let admin = format!("http://{}", gateway.admin);
    let waiting = tokio::spawn(run(command(&["drain", "bot-0", "--wait", "--admin", &admin])));
    wait_for_state(&gateway, "draining").await;
    let (code, ..) = run(command(&["resume", "bot-0", "--admin", &admin])).await;
    assert_eq!(code, 0);
    let (code, _, stderr) = waiting.await.unwrap();
    assert_eq!(code, 1);
    assert!(stderr.contains("bot-0 no longer drains"), "{stderr}");
}

#[tokio::test]
async fn without_a_report_a_drain_waits_for_the_calls_that_the_gateway_placed_and_then_fails() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let token = Token::skype().sign();
    assert_eq!(Request::webhook(&token, bodies::incoming("call-1")).send(&gateway).await.status(), 202);
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());
    let admin = format!("http://{}", gateway.admin);
    let (mut waiting, mut progress) = drain_and_wait(&admin);
    let line = soon("a line", progress.next_line()).await.unwrap().unwrap();
    assert_eq!(line, "bot-0: 1 call placed by this gateway, and an unknown number of others");
    let ended = Request::post(&path, &token, bodies::updated("call-1", "terminated"));
    assert_eq!(ended.send(&gateway).await.status(), 202);
    let last = loop {
        let line = soon("a line", progress.next_line()).await.unwrap().unwrap();
        if !line.starts_with("bot-0: ") {
            break line;
        }
    };
    assert!(
        last.contains("bot-0 reports no call count, so the gateway cannot tell when it is empty"),
        "{last}"
    );
    assert_eq!(soon("the end of the drain", waiting.wait()).await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn an_error_names_the_mistake_and_the_remedy() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("admin", "token = { file = \"seal-k2\" }");
    let gateway = Gateway::start(&settings).await;
    let admin = format!("http://{}", gateway.admin);
    let public = format!("http://{}", gateway.public);
    let unused = Port::reserve();
    let unused = format!("http://{}", unused.address);
    let token = gateway.path("seal-k2");
    let token = token.to_str().unwrap();
    let missing = gateway.path("no-such-file");
    let secure = format!("https://{}", gateway.admin);
    let table: [(&[&str], i32, &str); 13] = [
        (&["list", "--admin", "http://10.0.0.1:9090"], 64, "plain http is for loopback hosts only"),
        (&["list", "--admin", "127.0.0.1:9090"], 64, "not an absolute URL of http or https"),
        (&["list", "--admin", "ftp://127.0.0.1:9090"], 64, "like http://127.0.0.1:9090, without user"),
        (&["list", "--admin", "http://me@127.0.0.1:9090"], 64, "without user, password and fragment"),
        (&["list", "--admin", &unused], 1, "set --admin to the gateway's admin.address"),
        (&["list", "--admin", &secure], 1, "the server does not speak TLS on this port"),
        (&["list", "--admin", &public], 1, "is not the admin listener of a gateway"),
        (&["list", "--admin", &instance.url().replace("/api/calls", "")], 1, "does not respond with a fleet"),
        (&["drain", "bot-0", "--admin", &admin], 1, "pass it with --token-env NAME or --token-file FILE"),
        (&["drain", "bot-0", "--admin", &admin, "--token-env", "WRONG"], 1, "the gateway rejects the token"),
        (
            &["drain", "bot-0", "--admin", &admin, "--token-env", "NONE"],
            64,
            "the environment has no variable NONE",
        ),
        (
            &["drain", "bot-0", "--admin", &admin, "--token-file", missing.to_str().unwrap()],
            64,
            "no-such-file cannot be read",
        ),
        (
            &["drain", "bot-9", "--admin", &admin, "--token-file", token],
            1,
            "the gateway refuses: no instance has that name; the instances are: bot-0",
        ),
    ];
    for (arguments, expected, part) in table {
        let mut command = command(arguments);
        command.env("WRONG", "open-sesame").env_remove("NONE");
        let (code, stdout, stderr) = run(command).await;
        assert_eq!((code, stdout.as_str()), (expected, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("open-sesame") && !stderr.contains("ssl/"), "{stderr}");
    }
    let (code, ..) = run(command(&["drain", "bot-0", "--admin", &admin, "--token-file", token])).await;
    assert_eq!(code, 0);
    // Without a probe the gateway does not know how many calls the instance has.
    let (code, _, stderr) =
        run(command(&["drain", "bot-0", "--wait", "--admin", &admin, "--token-file", token])).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("bot-0 reports no call count"), "{stderr}");
}
