//! A fleet that is listed in a file, which is replaced while the gateway runs.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies,
    gateway::{BINARY, CONFIG, path_of},
    soon, until,
};

const FLEET: &str = "fleet.json";
const KEPT: &str = "keeping the current fleet: its source was not read";

fn settings(issuer: &Issuer) -> Settings {
    Settings::new(issuer, &[]).table("[fleet.file]\npath = \"fleet.json\"\n")
}

fn listed(instance: &Instance, more: &str) -> String {
    format!("{{\"name\": \"{}\", \"url\": \"{}\"{more}}}", instance.name, instance.url())
}

/// Replaces the file by a rename, as its writers should.
fn replace(folder: &Path, instances: &[String]) {
    write(folder, &format!("[{}]", instances.join(",\n")));
}

fn write(folder: &Path, content: &str) {
    std::fs::write(folder.join("fleet.new"), content).unwrap();
    std::fs::rename(folder.join("fleet.new"), folder.join(FLEET)).unwrap();
}

/// Starts a gateway whose file has these instances.
async fn start(settings: &Settings, instances: &[String]) -> Gateway {
    let gateway = Gateway::start_unready(settings).await;
    replace(&gateway.path(""), instances);
    gateway.wait_for_ready(200).await;
    gateway.log.message("fleet updated").await;
    gateway
}

async fn place(gateway: &Gateway, call_id: &str) -> u16 {
    Request::webhook(&Token::skype().sign(), bodies::incoming(call_id)).send(gateway).await.status()
}

async fn call_back(gateway: &Gateway, path: &str) -> u16 {
    let body = bodies::updated("call-1", "established");
    Request::post(path, &Token::skype().sign(), body).send(gateway).await.status()
}

async fn minted(gateway: &Gateway, instance: &str) -> String {
    let response = gateway.admin(&format!("/fleet/{instance}/callback?app={APP}")).await.json();
    path_of(response["callback_uri"].as_str().unwrap())
}

/// The state and the reason of each instance.
async fn shown(gateway: &Gateway) -> Vec<String> {
    let fleet = gateway.admin("/fleet").await.json();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let one = |one: &Value| format!("{} {}: {}", text(one, "name"), text(one, "state"), text(one, "reason"));
    fleet.as_array().unwrap().iter().map(one).collect()
}

async fn until_shown(gateway: &Gateway, expected: &[&str]) {
    until(&format!("{expected:?}"), async || (shown(gateway).await == expected).then_some(())).await;
}

const READY: &str = "no probe is configured";
const BY_FILE: &str = "drained in the file of the fleet";
const BY_OPERATOR: &str = "drained by the operator";
const BY_BOTH: &str = "drained by the operator and in the file of the fleet";

#[tokio::test]
async fn calls_go_on_while_the_file_is_replaced() {
    let issuer = Issuer::start();
    let mut bots = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = start(&settings(&issuer), &[listed(&bots[0], "")]).await;
    assert_eq!(place(&gateway, "call-1").await, 202);
    let path = path_of(bots[0].request().await.field("switchboard-callback-uri").unwrap());
    // A callback is in flight while its instance leaves the file.
    bots[0].next(Reply::status(202).held());
    let mut held = Client::connect(gateway.public).await;
    let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
    held.send(callback.bytes()).await;
    bots[0].request().await;
    replace(&gateway.path(""), &[listed(&bots[1], "")]);
    until_shown(&gateway, &[&format!("bot-1 ready: {READY}"), "bot-0 draining: no longer listed"]).await;
    bots[0].release();
    assert_eq!(held.response().await.status(), 202);
    // Its call goes on, and new ones go to the other.
    assert_eq!(call_back(&gateway, &path).await, 202);
    bots[0].request().await;
    assert_eq!(place(&gateway, "call-2").await, 202);
    bots[1].request().await;
    bots[0].expect_nothing();
    let read_at = gateway.metric("switchboard_fleet_source_last_success_timestamp_seconds", &[]).await;
    let started_at = gateway.metric("process_start_time_seconds", &[]).await;
    assert!(started_at > 1.7e9 && read_at >= started_at.floor(), "{read_at} {started_at}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_changes_nothing_and_is_logged_once() {
    let issuer = Issuer::start();
    let mut bot = Instance::start("bot-0");
    let gateway = start(&settings(&issuer), &[listed(&bot, "")]).await;
    let file = gateway.path(FLEET);
    let whole = std::fs::read_to_string(&file).unwrap();
    let name = file.to_str().unwrap();
    let half = whole.get(..whole.len() - 3).unwrap();
    let unknown = listed(&bot, ", \"wieght\": 2");
    let problems: [(Option<&str>, String); 4] = [
        (Some(half), format!("{name}:1:{}: not valid JSON: EOF while parsing a ", half.chars().count())),
        (
            Some(&format!("[{unknown}]")),
            format!(
                "{name}:1:{}: instance[0].wieght: unknown setting; the nearest known one is `weight`",
                unknown.find("\"wieght").unwrap() + 2
            ),
        ),
        (None, format!("{name}: cannot be read: No such file or directory (os error 2)")),
        (Some(""), format!("{name}:1:1: empty; an empty list is []")),
    ];
    let kept = |event: &Value| event["message"] == KEPT;
    let logged = || gateway.log.events().iter().filter(|event| kept(event)).count();
    // The file did not exist at the start.
    let before_all = logged();
    for (count, (content, problem)) in problems.iter().enumerate() {
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let event = gateway.log.nth(before_all + count, KEPT, kept).await;
        let error = event["error"].as_str().unwrap();
        assert!(error.starts_with(problem.as_str()), "{error}");
        assert_eq!(event["source"], name);
        // A file in place of the old one is read twice more before the next problem.
        let read = || gateway.bytes_read();
        let before = read();
        if content.is_some_and(|content| !content.is_empty()) {
            let size = u64::try_from(content.unwrap().len()).unwrap();
            until("two reads", async || (read() >= before + 2 * size).then_some(())).await;
        }
        assert_eq!(shown(&gateway).await, [format!("bot-0 ready: {READY}")]);
        assert_eq!(place(&gateway, "call").await, 202);
        bot.request().await;
        assert_eq!(logged(), before_all + count + 1, "{problem}");
    }
    // An owner that the fleet does not have may be in the file.
    let known = minted(&gateway, "bot-0").await;
    assert_eq!(call_back(&gateway, &known).await, 202);
    bot.request().await;
    write(&gateway.path(""), &whole);
    gateway.log.message("fleet source is readable again").await;
    assert_eq!(place(&gateway, "call").await, 202);
}

#[tokio::test]
async fn an_instance_drains_if_the_file_or_the_operator_says_so() {
    let issuer = Issuer::start();
    let bots = Instance::start_all(["bot-0", "bot-1"]);
    let settings = settings(&issuer);
    let gateway = start(&settings, &[listed(&bots[0], ""), listed(&bots[1], "")]).await;
    let admin = format!("http://{}", gateway.admin);
    let fleet = async |command: &[&str]| {
        let arguments = [&["fleet"], command, &["--admin", &*admin]].concat();
        let output =
            soon("fleet", tokio::process::Command::new(BINARY).args(arguments).output()).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let other = format!("bot-1 ready: {READY}");
    let first = |state: &str| format!("bot-0 {state}");
    let drained = [listed(&bots[0], ", \"draining\": true"), listed(&bots[1], "")];
    replace(&gateway.path(""), &drained);
    until_shown(&gateway, &[&first(&format!("draining: {BY_FILE}")), &other]).await;
    for call in ["call-1", "call-2", "call-3"] {
        assert_eq!(place(&gateway, call).await, 202);
    }
    assert!(fleet(&["list"]).await.contains(BY_FILE));
    assert_eq!(fleet(&["resume", "bot-0"]).await, format!("bot-0 still drains: {BY_FILE}\n"));
    // The operator drains it, too, and the file lifts its drain.
    fleet(&["drain", "bot-0"]).await;
    assert_eq!(shown(&gateway).await, [first(&format!("draining: {BY_BOTH}")), other.clone()]);
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    assert_eq!(shown(&gateway).await, [first(&format!("draining: {BY_BOTH}")), other.clone()]);
    replace(&gateway.path(""), &[listed(&bots[0], ""), listed(&bots[1], "")]);
    until_shown(&gateway, &[&first(&format!("draining: {BY_OPERATOR}")), &other]).await;
    let resumed = fleet(&["resume", "bot-0"]).await;
    assert_eq!(resumed, format!("bot-0 no longer drains; it is ready: {READY}\n"));
    assert_eq!(shown(&gateway).await, [first(&format!("ready: {READY}")), other]);
}

#[tokio::test]
async fn the_callbacks_of_another_incarnation_in_the_file_are_gone() {
    let issuer = Issuer::start();
    let mut bot = Instance::start("bot-0");
    let gateway = start(&settings(&issuer), &[listed(&bot, ", \"incarnation\": \"a1\"")]).await;
    assert_eq!(place(&gateway, "call-1").await, 202);
    let request = bot.request().await;
    assert_eq!(request.field("switchboard-incarnation"), Some("a1"));
    let old = path_of(request.field("switchboard-callback-uri").unwrap());
    assert_eq!(call_back(&gateway, &old).await, 202);
    bot.request().await;
    replace(&gateway.path(""), &[listed(&bot, ", \"incarnation\": \"b2\"")]);
    until("another incarnation", async || {
        (gateway.admin("/fleet").await.json()[0]["incarnation"] == "b2").then_some(())
    })
    .await;
    assert_eq!(call_back(&gateway, &old).await, 410);
    bot.expect_nothing();
    let new = minted(&gateway, "bot-0").await;
    assert_eq!(call_back(&gateway, &new).await, 202);
    assert_eq!(bot.request().await.field("switchboard-incarnation"), Some("b2"));
}

/// Kubernetes mounts a ConfigMap as links to a folder, and replaces the link to the folder.
#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_swapped_is_followed() {
    use std::os::unix::fs::symlink;
    let issuer = Issuer::start();
    let bots = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start_unready(&settings(&issuer)).await;
    let folder = gateway.path("");
    for (name, bot) in [("1", &bots[0]), ("2", &bots[1])] {
        std::fs::create_dir(folder.join(name)).unwrap();
        // Of the same size, and within one tick of the file system's clock.
        std::fs::write(folder.join(name).join(FLEET), format!("[{}]", listed(bot, ""))).unwrap();
    }
    symlink("1", folder.join("..data")).unwrap();
    symlink("..data/fleet.json", folder.join(FLEET)).unwrap();
    until_shown(&gateway, &[&format!("bot-0 ready: {READY}")]).await;
    symlink("2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    until_shown(&gateway, &[&format!("bot-1 ready: {READY}"), "bot-0 draining: no longer listed"]).await;
}

/// A pipe without a writer stands for a mount that hangs: opening it never ends.
#[tokio::test]
async fn a_file_that_hangs_stops_nothing_and_piles_up_no_threads() {
    let issuer = Issuer::start();
    let mut bot = Instance::start("bot-0");
    let settings = settings(&issuer).line("listen", "drain = { delay = \"0s\", deadline = \"1s\" }");
    let mut gateway = start(&settings, &[listed(&bot, "")]).await;
    let file = gateway.path(FLEET);
    std::fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let says = |part: &'static str| {
        move |event: &Value| event["message"] == KEPT && event["error"].as_str().unwrap().contains(part)
    };
    gateway.log.event("the time limit", says("no response in 5 s")).await;
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    for _ in 0..3 {
        assert_eq!(place(&gateway, "call").await, 202);
        bot.request().await;
        assert_eq!(gateway.admin("/readyz").await.status(), 200);
    }
    gateway.log.event("the bound", says("4 earlier operations on it did not end")).await;
    assert!(gateway.threads_named("file") <= 4);
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await, Some(0));
}

#[tokio::test]
async fn a_reload_changes_the_path_and_the_old_fleet_stays_until_that_file_is_read() {
    let issuer = Issuer::start();
    let bots = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = start(&settings(&issuer), &[listed(&bots[0], "")]).await;
    gateway.rewrite(&Settings::new(&issuer, &[]).table("[fleet.file]\npath = \"other.toml\"\n"));
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    let of_other = |event: &Value| {
        event["message"] == KEPT && event["source"].as_str().unwrap().ends_with("/other.toml")
    };
    gateway.log.event("the other file", of_other).await;
    assert_eq!(shown(&gateway).await, [format!("bot-0 ready: {READY}")]);
    let toml = format!("[[instance]]\nname = \"bot-1\"\nurl = \"{}\"\n", bots[1].url());
    std::fs::write(gateway.path("other.toml"), toml).unwrap();
    until_shown(&gateway, &[&format!("bot-1 ready: {READY}"), "bot-0 draining: no longer listed"]).await;
}

/// The start waits for the file, and not for ever. With a store, callbacks go on.
#[tokio::test]
async fn a_gateway_starts_without_its_file() {
    let issuer = Issuer::start();
    let mut bot = Instance::start("bot-0");
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().join("fleet");
    let file = store.path().join(FLEET);
    let settings = Settings::new(&issuer, &[]).table(&format!(
        "[fleet]\nstore = \"{}\"\n[fleet.file]\npath = \"{}\"\n",
        folder.display(),
        file.display()
    ));
    replace(store.path(), &[listed(&bot, ", \"incarnation\": \"a1\"")]);
    let mut gateway = Gateway::start(&settings).await;
    let path = minted(&gateway, "bot-0").await;
    until("the fleet is stored", async || folder.join("emea.fleet.json").exists().then_some(())).await;
    gateway.signal("TERM");
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await, Some(0));
    drop(gateway);
    std::fs::remove_file(&file).unwrap();

    let gateway = Gateway::start(&settings).await;
    gateway.log.message("stored fleet loaded: it serves callbacks until the source is read").await;
    assert_eq!(gateway.admin("/readyz").await.json()["fleet_known"], false);
    assert_eq!(call_back(&gateway, &path).await, 202);
    bot.request().await;
    assert_eq!(place(&gateway, "call-1").await, 503);
    replace(store.path(), &[listed(&bot, ", \"incarnation\": \"b2\"")]);
    until("the file is read", async || (place(&gateway, "call-1").await == 202).then_some(())).await;
    assert_eq!(call_back(&gateway, &path).await, 410);

    // Without a store the start waits for five seconds.
    std::fs::remove_file(&file).unwrap();
    let settings =
        Settings::new(&issuer, &[]).table(&format!("[fleet.file]\npath = \"{}\"\n", file.display()));
    let unread = Gateway::start_unready(&settings).await;
    unread.wait_for_ready(200).await;
    assert_eq!(unread.admin("/readyz").await.json()["fleet_known"], false);
    assert_eq!(call_back(&unread, &path).await, 503);
}

#[tokio::test]
async fn the_commands_read_the_file() {
    let issuer = Issuer::down();
    let bot = Instance::start("bot-0");
    let folder = tempfile::tempdir().unwrap();
    crate::support::gateway::write_configuration(folder.path(), &settings(&issuer));
    let config = folder.path().join(CONFIG);
    let run = async |command: &str, more: &[&str]| {
        let mut process = tokio::process::Command::new(BINARY);
        process.arg(command).arg("--config").arg(&config).args(more);
        let output = soon(command, process.output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let file = folder.path().join(FLEET);
    let name = file.to_str().unwrap();

    let (code, stdout, stderr) = run("check", &[]).await;
    assert_eq!(code, 0);
    assert!(stdout.contains(&format!("instances: by file, {name}")), "{stdout}");
    assert!(stderr.starts_with(&format!("{name}: warning: cannot be read: No such file")), "{stderr}");
    assert_eq!(run("check", &["--without-secrets"]).await.2, "");

    write(folder.path(), "[\n  {\"name\": \"bot-0\", \"uri\": \"http://127.0.0.1:9/\"}\n]");
    let (code, _, stderr) = run("check", &[]).await;
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!((code, lines.len()), (0, 2), "{stderr}");
    assert!(lines[0].starts_with(&format!("{name}:2:3: warning: instance[0].url: missing; ")), "{stderr}");
    assert_eq!(
        lines[1],
        format!("{name}:2:21: warning: instance[0].uri: unknown setting; the nearest known one is `url`")
    );
    let (_, json, _) = run("check", &["--format", "json"]).await;
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["valid"], &report["warnings"][0]["line"]), (&true.into(), &2.into()));
    let (code, stdout, _) = run("doctor", &[]).await;
    assert_eq!(code, 1);
    assert!(stdout.contains(&format!("{name}:2:3: instance[0].url: missing")), "{stdout}");

    replace(folder.path(), &[listed(&bot, "")]);
    assert_eq!(run("check", &[]).await.2, "");
    let (_, stdout, _) = run("doctor", &[]).await;
    assert!(stdout.contains(&format!("the file {name} lists 1 instances")), "{stdout}");
    assert!(stdout.contains("accepts connections; no probe is configured"), "{stdout}");
    let body = folder.path().join("call.json");
    std::fs::write(&body, bodies::incoming("call-1")).unwrap();
    let (code, stdout, stderr) = run("explain", &[body.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("asked: bot-0"), "{stdout}");
    let minted = ["--instance", "bot-9", "--app", APP];
    assert_eq!(run("mint", &minted).await.0, 0, "a file may list it later");
}
