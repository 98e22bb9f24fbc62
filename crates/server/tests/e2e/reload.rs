//! Reload on SIGHUP: a valid configuration applies without an interruption. An invalid one changes nothing,
//! and all of its problems are logged. `check --against` says both before.

use std::process::Command;

use serde_json::Value;

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies,
    gateway::{BINARY, CONFIG, path_of},
    tls::Identity,
};

fn from_amer() -> Vec<u8> {
    Request::webhook(&Token::skype().sign(), bodies::incoming_from("call-1", "amer")).bytes()
}

async fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("switchboard_config_reloads_total", &[("result", result)]).await
}

#[tokio::test]
async fn a_new_rule_applies_and_connections_stay_open() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer");
    let gateway = Gateway::start(&settings).await;
    let mut client = Client::connect(gateway.public).await;
    assert_eq!(client.exchange(from_amer()).await.status(), 202);
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());

    // A request in flight is finished under the old configuration.
    instance.next(Reply::status(202).held());
    let mut busy = Client::connect(gateway.public).await;
    busy.send(from_amer()).await;
    instance.request().await;

    gateway.rewrite(&settings.clone().rule("amer"));
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    assert_eq!(reloads(&gateway, "ok").await, 1.0);
    assert_eq!(client.exchange(from_amer()).await.status(), 302);
    instance.release();
    assert_eq!(busy.response().await.status(), 202);
    // The gateway keeps its keys and placements, and callback URIs stay valid.
    let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
    assert_eq!(client.exchange(callback.bytes()).await.status(), 202);
    instance.request().await;
    assert_eq!(issuer.fetches().skype, 1, "a reload causes no early fetch");
    assert_eq!(gateway.admin("/readyz").await.status(), 200);
}

#[tokio::test]
async fn a_reload_can_change_nearly_every_setting() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = Settings::new(&issuer, &[&instances[0]]);
    let gateway = Gateway::start(&settings).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    assert_eq!(request.send(&gateway).await.status(), 202);
    instances[0].request().await;
    let next = Settings::new(&issuer, &[&instances[1]])
        .line("listen", "webhook_path = \"/hooks\"")
        .line("app", "tenants = [\"33333333-41c3-47a4-8775-7259bfef4241\"]")
        .line("log", "level = \"debug\"");
    gateway.rewrite(&next);
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    assert_eq!(request.send(&gateway).await.status(), 404);
    // A token that was accepted before is checked against the new settings.
    assert_eq!(request.clone().target("/hooks").send(&gateway).await.status(), 403);
    let allowed = Token::skype().claim("tid", "33333333-41c3-47a4-8775-7259bfef4241").sign();
    let request = Request::post("/hooks", &allowed, bodies::incoming("call-2"));
    assert_eq!(request.send(&gateway).await.status(), 202);
    instances[1].request().await;
    instances[0].expect_nothing();
}

#[tokio::test]
async fn an_invalid_configuration_is_refused_as_a_whole() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer").rule("amer");
    let gateway = Gateway::start(&settings).await;
    let good = settings.render();
    let rows: [(&str, String, &[&str]); 6] = [
        (
            "three mistakes",
            good.replace(&format!("id = \"{APP}\""), "id = \"contoso\"")
                .replace("serve_in = \"amer\"", "serve_in = \"apac\"")
                .replace("name = \"bot-0\"", "name = \"bot-0\"\nwieght = 1"),
            &["app[0].id: ", "affinity.rule[0].serve_in: ", "fleet.instance[0].wieght: "],
        ),
        ("invalid TOML", "region = ".into(), &["not valid TOML"]),
        ("an address", good.replacen("127.0.0.1:0", "127.0.0.1:1", 1), &["listen.address: "]),
        (
            "both addresses",
            good.replace("127.0.0.1:0", "127.0.0.2:0"),
            &["listen.address: ", "admin.address: "],
        ),
        ("the region", good.replacen("region = \"emea\"", "region = \"apac\"", 1), &["region: "]),
        ("an empty file", String::new(), &["region: ", "app: ", "callback.base: ", "fleet.instance: "]),
    ];
    for (count, (what, text, paths)) in rows.iter().enumerate() {
        gateway.rewrite_text(text);
        gateway.signal("HUP");
        let refused = "reload refused: keeping the old configuration";
        let event = gateway.log.nth(count, what, |event| event["message"] == refused).await;
        assert_eq!(reloads(&gateway, "failed").await, f64::from(u32::try_from(count).unwrap() + 1));
        assert_eq!(event["level"], "error");
        let problems = event["problems"].as_str().unwrap();
        for path in *paths {
            assert!(problems.contains(path), "{what}: no {path:?} in {problems}");
        }
        let response = Client::connect(gateway.public).await.exchange(from_amer()).await;
        assert_eq!(response.status(), 302, "{what}");
    }
    // A valid configuration still applies afterwards.
    gateway.rewrite(&settings);
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
}

/// Returns the changes that `check --against` finds between two files of the gateway's folder.
fn compared(gateway: &Gateway, old: &str) -> Vec<Value> {
    let output = Command::new(BINARY)
        .args(["check", "--format", "json", "--config"])
        .arg(gateway.path(CONFIG))
        .arg("--against")
        .arg(gateway.path(old))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["changes"].as_array().unwrap().clone()
}

/// Returns the paths of the changes that need a restart.
fn need_restart(changes: &[Value]) -> Vec<&str> {
    let paths = changes.iter().filter(|change| change["needs_restart"] == true);
    paths.map(|change| change["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_comparison_marks_the_settings_for_which_a_reload_is_refused() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let gateway = Gateway::start(&settings).await;
    Identity::new(1).write(&gateway.path(""));
    let good = settings.render();
    std::fs::write(gateway.path("old.toml"), &good).unwrap();
    let region = good.replacen("region = \"emea\"", "region = \"apac\"", 1);
    let tls = "[listen]\ntls = { certificate = \"tls.crt\", key = \"tls.key\" }";
    let rows = [
        ("listen.address", good.replacen("127.0.0.1:0", "127.0.0.1:1", 1)),
        ("listen.address admin.address", good.replace("127.0.0.1:0", "127.0.0.2:0")),
        ("region", region.clone()),
        ("listen.tls", good.replacen("[listen]", tls, 1)),
        ("region listen.tls", region.replacen("[listen]", tls, 1)),
    ];
    for (count, (expected, text)) in rows.iter().enumerate() {
        gateway.rewrite_text(text);
        let changes = compared(&gateway, "old.toml");
        assert_eq!(need_restart(&changes).join(" "), *expected);
        gateway.signal("HUP");
        let refused = "reload refused: keeping the old configuration";
        let event = gateway.log.nth(count, expected, |event| event["message"] == refused).await;
        let problems = event["problems"].as_str().unwrap().lines();
        let mut logged: Vec<_> = problems.filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        let mut expected: Vec<_> = expected.split(' ').collect();
        expected.sort_unstable();
        logged.sort_unstable();
        assert_eq!(logged, expected, "{event}");
    }
    // All other settings apply.
    gateway.rewrite(
        &settings.clone().line("listen", "webhook_path = \"/hooks\"").line("log", "level = \"debug\""),
    );
    let changes = compared(&gateway, "old.toml");
    let paths: Vec<_> = changes.iter().map(|change| change["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["listen.webhook_path", "log.level"]);
    assert_eq!(need_restart(&changes), [""; 0]);
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
}
