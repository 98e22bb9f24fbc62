//! The command line: `check`, `explain`, `keygen`, `mint`, and the errors of `serve`.

use std::process::{Command, Output, Stdio};

use openssl::asn1::Asn1Time;

use crate::support::{
    APP, Gateway, Instance, Issuer, Request, Settings, Token, bodies,
    gateway::{BINARY, CONFIG, path_of, write_configuration},
    settings::SEALS,
    tls::Identity,
};

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .env("SWITCHBOARD_SEAL_K1", SEALS[0].1)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn check(arguments: &[&str], code: i32) -> (String, String) {
    let output = run(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}

fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_prints_each_mistake_with_its_path() {
    let (stdout, stderr) = check(&["check", "--config", &fixture("config/five-mistakes.toml")], 64);
    let paths = [
        "listen.webhok_path: ",
        "app[0].id: ",
        "callback.base: ",
        "callback.patience: ",
        "fleet.instance[0].url: ",
    ];
    assert_eq!((stdout.as_str(), stderr.lines().count()), ("", paths.len()), "{stderr}");
    for path in paths {
        assert!(stderr.lines().any(|line| line.contains(&format!(": {path}"))), "no {path} in {stderr}");
    }
    assert!(stderr.contains("webhook_path"), "the nearest setting is named: {stderr}");
    check(&["check", "--config", &fixture("config/minimal.toml")], 0);
    check(&["check", "--config", "/nowhere/at/all.toml"], 64);
}

#[test]
fn check_warns_of_a_certificate_that_the_platform_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let minimal = std::fs::read_to_string(fixture("config/minimal.toml")).unwrap();
    write(CONFIG, &format!("{minimal}[listen.tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n"));
    let long_ago = Asn1Time::from_unix(1_700_000_000).unwrap();
    Identity::of("stranger", 1, "other.example", &long_ago).write(folder.path());
    let file = folder.path().join(CONFIG);
    let file = file.to_str().unwrap();
    let (stdout, stderr) = check(&["check", "--config", file], 0);
    assert!(stdout.starts_with("region emea; "), "{stdout}");
    let lines: Vec<_> = stderr.lines().collect();
    let place = minimal.lines().count() + 2;
    let parts = ["is self-signed", "is for other.example, localhost and not for ", "expired at Nov 14"];
    assert_eq!(lines.len(), parts.len(), "{stderr}");
    for (line, part) in lines.iter().zip(parts) {
        assert!(
            line.starts_with(&format!("{file}:{place}:1: warning: listen.tls.certificate: the cert")),
            "{line}"
        );
        assert!(line.contains(part), "{line}");
    }
    let (stdout, _) = check(&["check", "--config", file, "--format", "github"], 0);
    assert_eq!(stdout.matches("::warning file=").count(), 3, "{stdout}");
    assert!(stdout.contains(&format!("line={place},col=1::listen.tls.certificate: ")), "{stdout}");
    let (stdout, _) = check(&["check", "--config", file, "--format", "json"], 0);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&report["valid"], report["warnings"].as_array().unwrap().len()), (&true.into(), 3));
    let first = &report["warnings"][0];
    assert_eq!((&first["file"], &first["line"], &first["column"]), (&file.into(), &place.into(), &1.into()));
    // Without secrets no file is read.
    assert_eq!(check(&["check", "--config", file, "--without-secrets"], 0).1, "");

    // The key is that of the second certificate.
    let own = std::fs::read_to_string(folder.path().join("tls.crt")).unwrap();
    let other = tempfile::tempdir().unwrap();
    Identity::of("entra-2", 2, "third.example", &long_ago).write(other.path());
    let other = std::fs::read_to_string(other.path().join("tls.crt")).unwrap();
    write("tls.crt", &format!("{other}{own}"));
    let (_, stderr) = check(&["check", "--config", file], 64);
    let expected = "listen.tls: the key belongs to certificate 2 of the file, that of other.example; put the \
                    gateway's own certificate first";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let text = |name| std::fs::read_to_string(fixture(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut refused =
        vec![(format!("{}[placement]\nfull = \"reject\"\n", text("config/minimal.toml")), "placement.full")];
    if !cfg!(feature = "kubernetes") {
        refused.push((text("config/kubernetes.toml"), "fleet.kubernetes"));
    }
    for (text, path) in refused {
        let file = folder.path().join(CONFIG);
        std::fs::write(&file, text).unwrap();
        let (_, stderr) = check(&["check", "--config", file.to_str().unwrap()], 64);
        assert!(stderr.lines().any(|line| line.contains(&format!(": {path}: "))), "no {path} in {stderr}");
    }
}

#[tokio::test]
async fn explain_prints_the_rule_that_decides() {
    let issuer = Issuer::down();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::without_fleet(&issuer)
        .peer("amer")
        .peer("apac")
        .table("[[affinity.rule]]\ncountry = [\"US\"]\nserve_in = \"amer\"\n")
        .table("[[affinity.rule]]\ncaller_region = [\"apac\"]\nserve_in = \"apac\"\n")
        .rule("amer");
    write_configuration(folder.path(), &settings);
    let config = folder.path().join(CONFIG);
    let config = config.to_str().unwrap();
    let write = |name: &str, body: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, body).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let amer = write("amer.json", &bodies::incoming_from("call-1", "amer"));
    let emea = write("emea.json", &bodies::incoming("call-1"));
    let header = ["--header", "X-Microsoft-Skype-Caller-Region: APAC"];
    for (body, more, expected) in [
        (&amer, &[][..], "https://amer.bots.example/api/calls?switchboard-from=emea; by affinity.rule[2]"),
        (
            &amer,
            &header[..],
            "https://apac.bots.example/api/calls?switchboard-from=emea; by affinity.rule[1]",
        ),
        (&emea, &[][..], "decision: here"),
    ] {
        let (stdout, _) = check(&[&["explain", "--config", config, body], more].concat(), 0);
        let decision = stdout.lines().find(|line| line.trim_start().starts_with("decision: ")).unwrap();
        assert!(decision.contains(expected), "{stdout}");
        assert!(stdout.contains("affinity.rule[0]: does not match"), "{stdout}");
    }
    let legacy = write("legacy.json", &bodies::legacy());
    let (stdout, _) = check(&["explain", "--config", config, &legacy], 0);
    assert!(stdout.to_lowercase().contains("legacy"), "{stdout}");
}

#[tokio::test]
async fn a_generated_secret_is_a_valid_seal_key() {
    let (one, _) = check(&["keygen"], 0);
    let (two, _) = check(&["keygen"], 0);
    assert_ne!(one, two);
    assert_eq!(openssl::base64::decode_block(one.trim()).unwrap().len(), 32);
    let issuer = Issuer::down();
    let folder = tempfile::tempdir().unwrap();
    write_configuration(folder.path(), &Settings::without_fleet(&issuer));
    std::fs::write(folder.path().join("seal-k1"), &one).unwrap();
    check(&["check", "--config", folder.path().join(CONFIG).to_str().unwrap()], 0);
}

#[tokio::test]
async fn a_minted_uri_is_accepted() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let config = gateway.path(CONFIG);
    let config = config.to_str().unwrap();
    let (uri, _) = check(&["mint", "--config", config, "--instance", "bot-0", "--app", APP], 0);
    let request =
        Request::post(&path_of(uri.trim()), &Token::skype().sign(), bodies::updated("call-1", "established"));
    assert_eq!(request.send(&gateway).await.status(), 202);
    assert_eq!(instance.request().await.field("switchboard-callback-uri"), Some(uri.trim()));
    // Without a probe nothing can show that this incarnation has ended.
    let (uri, _) = check(
        &["mint", "--config", config, "--instance", "bot-0", "--app", APP, "--incarnation", "other"],
        0,
    );
    assert_eq!(request.target(&path_of(uri.trim())).send(&gateway).await.status(), 202);
    assert_eq!(instance.request().await.field("switchboard-incarnation"), Some("other"));
    check(&["mint", "--config", config, "--instance", "bot-9", "--app", APP], 64);
}

#[tokio::test]
async fn serve_prints_why_it_cannot_start() {
    check(&["serve", "--config", &fixture("config/five-mistakes.toml")], 64);
    check(&["serve", "--config"], 64);
    check(&["no-such-command"], 64);
    let (help, _) = check(&["--help"], 0);
    assert!(
        ["serve", "check", "explain", "keygen", "mint"].iter().all(|command| help.contains(command)),
        "{help}"
    );

    let issuer = Issuer::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::without_fleet(&issuer);
    write_configuration(folder.path(), &settings);
    let address = listener.local_addr().unwrap().to_string();
    let text = settings.render().replacen("127.0.0.1:0", &address, 1);
    std::fs::write(folder.path().join(CONFIG), text).unwrap();
    let (_, stderr) = check(&["serve", "--config", folder.path().join(CONFIG).to_str().unwrap()], 1);
    assert!(stderr.contains("listen.address") && stderr.contains(&address), "{stderr}");
}
