//! `switchboard fleet` against a running gateway, as an operator or a script uses it.

use std::process::{Output, Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies,
    gateway::{BINARY, interrupt, path_of},
    instance::first_request,
    port::Port,
    soon, until,
};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .arg("fleet")
        .args(arguments)
        .env_remove("SWITCHBOARD_ADMIN")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Starts two gateways with the same instances and waits until they know the reports of all of them.
async fn two_gateways(issuer: &Issuer, instances: &[&Instance]) -> ([Gateway; 2], [String; 2]) {
    let settings = probed(issuer, instances);
    let gateways = [Gateway::start(&settings).await, Gateway::start(&settings).await];
    for gateway in &gateways {
        until("all instances are ready", async || {
            let fleet = gateway.admin("/fleet").await.json();
            fleet.as_array().unwrap().iter().all(|instance| instance["state"] == "ready").then_some(())
        })
        .await;
    }
    let urls = gateways.each_ref().map(|gateway| format!("http://{}", gateway.admin));
    (gateways, urls)
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
async fn several_gateways_are_listed_as_one_fleet() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    instances.iter().for_each(|instance| instance.probe(report("ready", 3)));
    let (gateways, [a, b]) = two_gateways(&issuer, &instances.each_ref()).await;
    let token = Token::skype().sign();
    for gateway in &gateways {
        assert_eq!(Request::webhook(&token, bodies::incoming("call-1")).send(gateway).await.status(), 202);
        first_request(&mut instances).await;
    }
    let (code, ..) = run(command(&["drain", "bot-0", "--admin", &a])).await;
    assert_eq!(code, 0);
    let (code, table, stderr) = run(command(&["list", "--admin", &a, "--admin", &b])).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    let (name_a, name_b) = (gateways[0].admin, gateways[1].admin);
    let disagreement =
        format!("draining at {name_a}: drained by the operator; ready at {name_b}: its probe says ready");
    assert!(lines[1].starts_with("bot-0     draining|ready  "), "{table}");
    assert!(lines[1].contains(" 3/40 ") && lines[1].ends_with(&disagreement), "{table}");
    assert!(
        lines[2].starts_with("bot-1     ready  ") && lines[2].ends_with(" its probe says ready"),
        "{table}"
    );
    assert_eq!(lines[3], "2 instances: 1 draining|ready, 1 ready; 6 calls", "{table}");

    // The variable names the gateways, too, and one that is gone is an error beside the others.
    let unused = Port::reserve();
    let gone = format!("http://{}", unused.address);
    let mut of_variable = command(&["list", "--json"]);
    of_variable.env("SWITCHBOARD_ADMIN", format!("{a},{b} {gone}"));
    let (code, json, stderr) = run(of_variable).await;
    assert_eq!(code, 1, "{stderr}");
    let advice = "set the variable SWITCHBOARD_ADMIN to the gateway's admin.address";
    assert!(stderr.starts_with(&format!("cannot reach {gone}/; {advice}: ")), "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let asked = &document["gateways"];
    assert_eq!((&asked[0]["gateway"], &asked[0]["error"]), (&a.as_str().into(), &serde_json::Value::Null));
    assert_eq!(asked[2]["gateway"], gone);
    assert!(asked[2]["error"].as_str().unwrap().starts_with("cannot reach"), "{json}");
    let (drained, other) = (&document["instances"][0], &document["instances"][1]);
    assert_eq!((&drained["state"], &other["state"]), (&serde_json::Value::Null, &"ready".into()));
    assert_eq!(
        (&drained["at"][0]["gateway"], &drained["at"][0]["state"]),
        (&a.as_str().into(), &"draining".into())
    );
    let placed = |instance: &serde_json::Value| instance["placed"].as_u64().unwrap();
    assert_eq!(placed(drained) + placed(other), 2, "{json}");

    let (code, stdout, stderr) =
        run(command(&["list", "--admin", &gone, "--admin", "http://127.0.0.1:9"])).await;
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (1, "", 2), "{stderr}");
}

#[tokio::test]
async fn an_instance_is_drained_and_resumed_at_all_gateways() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    instance.probe(report("ready", 2));
    let (gateways, [a, b]) = two_gateways(&issuer, &[&instance]).await;
    let (name_a, name_b) = (gateways[0].admin, gateways[1].admin);
    let both = ["--admin", &a, "--admin", &b];
    let (code, stdout, stderr) = run(command(&[&["drain", "bot-0"], &both[..]].concat())).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, format!("bot-0 takes no new calls from {name_a}, {name_b}; it has 2 calls\n"));
    for gateway in &gateways {
        wait_for_state(gateway, "draining").await;
    }
    let (code, stdout, _) = run(command(&[&["resume", "bot-0"], &both[..]].concat())).await;
    let resumed =
        format!("bot-0 no longer drains at {name_a}, {name_b}; it is ready: its probe says ready\n");
    assert_eq!((code, stdout), (0, resumed));

    // One gateway cannot be reached, and another one refuses. The others are drained all the same.
    let unused = Port::reserve();
    let gone = format!("http://{}", unused.address);
    let stranger = Instance::start("bot-1");
    let refusing = Gateway::start(&Settings::new(&issuer, &[&stranger])).await;
    let refuses = format!("http://{}", refusing.admin);
    for wait in [&[][..], &["--wait"]] {
        let arguments =
            [&["drain", "bot-0", "--admin", &gone, "--admin", &refuses], &both[..], wait].concat();
        let (code, stdout, stderr) = run(command(&arguments)).await;
        assert_eq!(code, 1, "{stderr}");
        assert_eq!(stdout, format!("bot-0 takes no new calls from {name_a}, {name_b}; it has 2 calls\n"));
        let lines: Vec<_> = stderr.lines().collect();
        assert!(lines[0].starts_with(&format!("cannot reach {gone}/; set --admin to ")), "{stderr}");
        let refusal = "no instance has that name; the instances are: bot-1";
        assert_eq!(lines[1], format!("the gateway {refuses} refuses: {refusal}"), "{stderr}");
        let still = format!("bot-0 still takes new calls from {}, {}", unused.address, refusing.admin);
        assert_eq!(lines[2..], [still], "{stderr}");
    }
    wait_for_state(&gateways[1], "draining").await;
    let arguments = [&["resume", "bot-0", "--json", "--admin", &refuses], &both[..]].concat();
    let (code, json, stderr) = run(command(&arguments)).await;
    assert_eq!(code, 1);
    assert!(stderr.ends_with(&format!("bot-0 was not resumed at {}\n", refusing.admin)), "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["instances"][0]["state"], "ready", "{json}");
}

#[tokio::test]
async fn a_wait_at_several_gateways_ends_when_the_instance_is_empty_at_all() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    instance.probe(report("ready", 0));
    let (gateways, [a, b]) = two_gateways(&issuer, &[&instance]).await;
    // A request in flight at the second gateway.
    instance.next(Reply::status(202).held());
    let body = bodies::updated("call-1", "established");
    let mut busy = Client::connect(gateways[1].public).await;
    busy.send(Request::webhook(&Token::skype().sign(), body).bytes()).await;
    instance.request().await;
    let mut waiting = command(&["drain", "bot-0", "--wait", "--admin", &a, "--admin", &b])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let line = soon("a line", progress.next_line()).await.unwrap().unwrap();
    assert_eq!(line, "bot-0: 0 calls, 1 request in flight");
    instance.release();
    let output = soon("the end of the drain", waiting.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "bot-0 is empty: its last call has ended\n");

    assert_eq!(run(command(&["resume", "bot-0", "--admin", &a, "--admin", &b])).await.0, 0);

    // The instance is drained again, and resumed at one gateway only.
    instance.probe(report("ready", 1));
    let again = ["drain", "bot-0", "--wait", "--admin", &a, "--admin", &b].map(str::to_owned);
    let waiting = tokio::spawn(async move { run(command(&again.each_ref().map(String::as_str))).await });
    wait_for_state(&gateways[1], "draining").await;
    assert_eq!(run(command(&["resume", "bot-0", "--admin", &b])).await.0, 0);
    let (code, _, stderr) = soon("the end of the wait", waiting).await.unwrap();
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("{}: bot-0 no longer drains", gateways[1].admin)), "{stderr}");
}

#[tokio::test]
async fn a_watch_goes_on_without_a_gateway_and_ends_with_ctrl_c() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    instance.probe(report("ready", 2));
    let ([_first, second], [a, b]) = two_gateways(&issuer, &[&instance]).await;
    let mut watching = command(&["list", "--watch", "--admin", &a, "--admin", &b])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = async || soon("a line", output.next_line()).await.unwrap().unwrap();
    let time = next().await;
    assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 20, "{time}");
    assert!(next().await.starts_with("instance  state"));
    assert!(next().await.starts_with("bot-0     ready"));
    assert_eq!(next().await, "1 instance: 1 ready; 2 calls");
    drop(second);
    let cannot_reach = format!("cannot reach {b}/");
    loop {
        let line = next().await;
        assert!(!line.contains('\u{1b}'), "colours and redraws are for terminals: {line:?}");
        if line.starts_with(&cannot_reach) {
            break;
        }
    }
    interrupt(&watching);
    let output = soon("the end", watching.wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[tokio::test]
async fn a_call_is_found_at_the_gateway_that_remembers_it() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    instance.probe(report("ready", 0));
    let (gateways, [a, b]) = two_gateways(&issuer, &[&instance]).await;
    let token = Token::skype().sign();
    assert_eq!(Request::webhook(&token, bodies::incoming("call%41")).send(&gateways[1]).await.status(), 202);
    instance.request().await;
    let both = ["--admin", &a, "--admin", &b];
    let (code, stdout, stderr) = run(command(&[&["find", "Call%41"], &both[..]].concat())).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("bot-0: incoming, first seen 20"), "{stdout}");
    let end = format!(", remembered by {}, which placed it\n", gateways[1].admin);
    assert!(stdout.ends_with(&end), "{stdout}");
    let (code, json, _) = run(command(&[&["find", "call%41", "--json"], &both[..]].concat())).await;
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, &found["call"]["instance"], &found["guess"]),
        (0, &"bot-0".into(), &serde_json::Value::Null)
    );
    assert_eq!(
        (&found["gateways"][0]["call"], &found["gateways"][0]["guess"]),
        (&serde_json::Value::Null, &"bot-0".into())
    );
    assert_eq!(
        (&found["gateways"][1]["gateway"], &found["gateways"][1]["call"]["id"]),
        (&b.as_str().into(), &"call%41".into())
    );

    // A call that no gateway remembers has an instance that is only probable.
    for gateways in [&both[..], &both[..2]] {
        let (code, stdout, stderr) = run(command(&[&["find", "call-9"], gateways].concat())).await;
        assert_eq!((code, stderr.as_str()), (1, "no gateway remembers the call call-9\n"));
        assert_eq!(stdout, "bot-0: guess, the call id ranks this instance first\n");
    }
    // A gateway that cannot be reached may be the one that remembers it.
    let unused = Port::reserve();
    let gone = format!("http://{}", unused.address);
    let (code, stdout, stderr) = run(command(&["find", "call%41", "--admin", &gone, "--admin", &b])).await;
    assert!(code == 0 && stdout.starts_with("bot-0: incoming"), "{stdout}{stderr}");
    assert!(stderr.starts_with(&format!("cannot reach {gone}/; ")), "{stderr}");
    let (code, stdout, stderr) = run(command(&["find", "call%41", "--admin", &gone])).await;
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
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
    let table: [(&[&str], i32, &str); 14] = [
        (
            &["list", "--admin", &format!("{admin} http://10.0.0.1:1")],
            64,
            "http://10.0.0.1:1: plain http is for",
        ),
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
