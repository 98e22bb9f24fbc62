//! `switchboard explain` and the running gateway agree on every fixture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::process::Command;

use crate::support::{
    APP, Gateway, Instance, Issuer, Request, Response, Settings, TENANT, Token, bodies,
    gateway::{BINARY, CONFIG},
    http::Message,
    soon,
    token::contains_secret,
    until,
};

/// The call id in most fixtures.
const CALL_ID: &str = "6d1c0b00-77a3-4f0e-9b1d-3c5e2a7f9001";
const CALLER_REGION: &str = "X-Microsoft-Skype-Caller-Region";

/// Returns every fixture, each with the region of its caller.
///
/// Fixtures with a new call or several items occur a second time, with a caller in amer.
fn notifications() -> Vec<(PathBuf, Option<&'static str>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/notifications");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let has_call = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with("graph") && (name.contains("incoming") || name.contains("batch"))
    };
    let from_amer: Vec<_> = files.iter().filter(|file| has_call(file)).cloned().collect();
    let of_region = |region| move |file| (file, region);
    files.into_iter().map(of_region(None)).chain(from_amer.into_iter().map(of_region(Some("amer")))).collect()
}

fn settings(issuer: &Issuer, instances: &[Instance]) -> Settings {
    Settings::new(issuer, &instances.iter().collect::<Vec<_>>())
        .peer("amer")
        .peer("apac")
        .line("affinity", "status = 307")
        .table("[[affinity.rule]]\ncaller_region = [\"amer\"]\nserve_in = \"amer\"\n")
        .table("[[affinity.rule]]\nsource_region = [\"apac\"]\nserve_in = \"apac\"\n")
        .table("[[affinity.rule]]\nsource_region = [\"amer\"]\nshare = 0.5\nserve_in = \"amer\"\n")
}

/// Returns the fixture with another call id, so that the owner of its call is chosen independently.
fn with_call_id(body: &[u8], number: usize) -> Vec<u8> {
    let own = format!("6d1c0b00-77a3-4f0e-9b1d-{number:012}");
    let mut rest = body;
    let mut replaced = Vec::new();
    while let Some(at) = rest.windows(CALL_ID.len()).position(|window| window == CALL_ID.as_bytes()) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(own.as_bytes());
        rest = &rest[at + CALL_ID.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Runs `switchboard explain` for a body and returns its output.
async fn explained(gateway: &Gateway, body: &Path, caller_region: Option<&str>) -> Value {
    let mut command = Command::new(BINARY);
    command.args(["explain", "--json", "--tenant", TENANT, "--config"]).arg(gateway.path(CONFIG));
    if let Some(region) = caller_region {
        command.arg("--header").arg(format!("{CALLER_REGION}: {region}"));
    }
    let output =
        soon("explain", command.arg(body).stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the requests that the explanation predicts: for each part the instance and the indices of the
/// items.
///
/// Uses only the explained items: `placed` starts a part, and `with_new_call` joins the part of the same
/// call. `owner` joins the part of that instance, and `with_others` the first part.
fn predicted(body: &Value) -> Vec<(String, Vec<usize>)> {
    let items = body["items"].as_array().unwrap();
    let call_of = |item: &Value| item["call_id"].as_str().map(str::to_ascii_lowercase);
    let new_calls: BTreeMap<_, _> = items
        .iter()
        .filter(|item| item["target"]["goes"] == "placed")
        .map(|item| (call_of(item), item["target"]["instances"][0].as_str().unwrap()))
        .collect();
    let mut parts: Vec<(String, String, Vec<usize>)> = Vec::new();
    let mut others = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let target = &item["target"];
        let (key, instance) = match target["goes"].as_str().unwrap() {
            "placed" | "with_new_call" => {
                (format!("call {}", call_of(item).unwrap()), new_calls[&call_of(item)])
            }
            "owner" => {
                let instance = target["probable"].as_str().unwrap();
                (format!("instance {instance}"), instance)
            }
            _ => {
                others.push(index);
                continue;
            }
        };
        match parts.iter_mut().find(|(other, ..)| *other == key) {
            Some((.., indices)) => indices.push(index),
            None => parts.push((key, instance.to_owned(), vec![index])),
        }
    }
    parts[0].2.extend(others);
    parts.into_iter().map(|(_, instance, indices)| (instance, sorted(indices))).collect()
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

/// Waits for the requests to the instances. Returns them in the form of `predicted`.
async fn received(
    predicted: &[(String, Vec<usize>)],
    instances: &mut [Instance],
    whole: &[u8],
) -> Vec<(String, Vec<usize>)> {
    let mut requests = Vec::new();
    for (name, items) in predicted {
        let instance = instances.iter_mut().find(|instance| instance.name == *name).unwrap();
        let request = instance.request().await;
        if predicted.len() == 1 {
            assert_eq!(request.body, whole, "one owner receives the notification byte for byte");
            requests.push((name.clone(), items.clone()));
        } else {
            requests.push((name.clone(), items_of(&request, whole)));
        }
    }
    for instance in instances {
        instance.expect_nothing();
    }
    requests
}

/// Returns the indices that the items of a request have in the whole notification.
fn items_of(request: &Message, whole: &[u8]) -> Vec<usize> {
    let whole = whole.strip_prefix("\u{feff}".as_bytes()).unwrap_or(whole);
    let whole: Value = serde_json::from_slice(whole).unwrap();
    let all = whole["value"].as_array().unwrap();
    let mut found = vec![false; all.len()];
    let mine = request.json();
    let indices = mine["value"].as_array().unwrap().iter().map(|item| {
        let index = (0..all.len()).find(|index| !found[*index] && all[*index] == *item).unwrap();
        found[index] = true;
        index
    });
    indices.collect()
}

/// Returns the redirect that the explanation predicts, if the whole notification is redirected.
fn redirect(body: &Value) -> Option<(u64, &str)> {
    let items = body["items"].as_array()?;
    let redirect = items.iter().find_map(|item| item["target"]["decision"]["redirect"].as_object())?;
    Some((redirect["status"].as_u64().unwrap(), redirect["location"].as_str().unwrap()))
}

fn head(response: &Response) -> (u64, Option<&str>) {
    (u64::from(response.status()), response.field("location"))
}

#[tokio::test]
async fn explain_and_the_gateway_agree_on_every_fixture() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1", "bot-2"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    let notifications = notifications();
    assert!(notifications.len() >= 40);
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut owners = BTreeSet::new();
    for (number, (file, caller_region)) in notifications.iter().enumerate() {
        let body = with_call_id(&fs::read(file).unwrap(), number);
        let path = gateway.path("body.json");
        fs::write(&path, &body).unwrap();
        let explanation = explained(&gateway, &path, *caller_region).await;
        let explained = &explanation["body"];
        let mut request = Request::webhook(&Token::skype().sign(), body.clone());
        if let Some(region) = caller_region {
            request = request.with(CALLER_REGION, region);
        }
        let response = request.send(&gateway).await;
        let context = format!("{} {caller_region:?}\n{explanation:#}", file.display());
        let kind = match explained["is"].as_str().unwrap() {
            "legacy" => {
                assert_eq!(head(&response), (explained["status"].as_u64().unwrap(), None), "{context}");
                "legacy"
            }
            "refused" => {
                assert_eq!(head(&response), (explained["status"].as_u64().unwrap(), None), "{context}");
                assert_eq!(response.json()["error"]["code"], explained["code"], "{context}");
                "refused"
            }
            _ => match redirect(explained) {
                Some((status, location)) => {
                    assert_eq!(head(&response), (status, Some(location)), "{context}");
                    "redirected"
                }
                None => {
                    assert_eq!(head(&response), (202, None), "{context}");
                    let predicted = predicted(explained);
                    let received = received(&predicted, &mut instances, &body).await;
                    assert_eq!(sorted(received), sorted(predicted.clone()), "{context}");
                    owners.extend(predicted.into_iter().map(|(instance, _)| instance));
                    if explained["split"] == true { "split" } else { "delivered" }
                }
            },
        };
        if matches!(kind, "legacy" | "refused" | "redirected") {
            instances.iter_mut().for_each(Instance::expect_nothing);
        }
        *seen.entry(kind).or_default() += 1;
    }
    // Every case must occur: otherwise the test would prove little.
    assert_eq!(owners.len(), instances.len(), "{owners:?}");
    for kind in ["legacy", "refused", "redirected", "delivered", "split"] {
        assert!(seen.contains_key(kind), "no fixture is {kind}: {seen:?}");
    }
}

/// Runs `switchboard explain --token` and returns its output.
async fn explained_token(gateway: &Gateway, token: &str) -> Value {
    let file = gateway.path("token.jwt");
    fs::write(&file, token).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["explain", "--json", "--config"]).arg(gateway.path(CONFIG)).arg("--token").arg(file);
    let output = soon("explain", command.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!contains_secret(&text), "part of a token in {text}");
    serde_json::from_str(&text).unwrap()
}

/// With the stored keys of the gateway, `explain` gives its verdict; without them, the signature is not
/// checked.
#[tokio::test]
async fn explain_and_the_gateway_agree_on_tokens() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let folder = tempfile::tempdir().unwrap();
    let without = Settings::new(&issuer, &[&instance]).line("app", &format!("tenants = [\"{TENANT}\"]"));
    let store = format!("store = \"{}\"", folder.path().join("keys").display());
    let gateway = Gateway::start(&without.clone().line("keys", &store)).await;
    for trust in ["skype", "entra"] {
        let file = folder.path().join(format!("keys/{trust}.json"));
        until(trust, async || file.exists().then_some(())).await;
    }
    let other = "33333333-41c3-47a4-8775-7259bfef4241";
    let tokens = [
        Token::skype().sign(),
        Token::entra_v1().sign(),
        Token::entra_v2().sign(),
        Token::skype().claim("tid", other).sign(),
        Token::entra_v2().claim("azp", other).sign(),
        Token::skype().claim("aud", other).sign(),
        Token::skype().claim("iss", "https://evil.example").sign(),
        Token::skype().header("alg", "none").sign(),
        Token::skype().header("kid", "a\r\nb").sign(),
        Token::skype().signed_by("stranger").sign(),
        Token::skype().claim("exp", 1).sign(),
        Token::skype().without("tid").sign(),
        "x".repeat(9_000),
    ];
    for (number, token) in tokens.iter().enumerate() {
        let explanation = explained_token(&gateway, token).await;
        let id = format!("m-{number}");
        let request = Request::webhook(token, bodies::incoming("call-1"));
        let status = request.with("X-Microsoft-Skype-Message-ID", &id).send(&gateway).await.status();
        let event = gateway.log.event(&id, |event| event["message.id"] == *id).await;
        let verdict = &explanation["token"]["verdict"];
        let expected = match status {
            202 => serde_json::json!({ "is": "accepted" }),
            _ => serde_json::json!({ "is": "refused", "status": status, "reason": event["reason"] }),
        };
        assert_eq!(verdict, &expected, "{explanation:#}");
        assert_eq!(explanation["token"]["rules"].as_array().unwrap().len(), 16);
    }

    gateway.rewrite(&without);
    let explanation = explained_token(&gateway, &tokens[0]).await;
    assert_eq!(explanation["token"]["verdict"]["is"], "undecided");
    let rules = explanation["token"]["rules"].as_array().unwrap();
    let signature = rules.iter().find(|rule| rule["rule"] == "signature").unwrap();
    assert_eq!(signature["result"], "not_checked", "{explanation:#}");
    let fetches = issuer.fetches();
    assert_eq!((fetches.skype, fetches.entra), (1, 1), "explain uses the network");
}

/// With a body, the app and the tenant are those of the token.
#[tokio::test]
async fn a_body_is_explained_with_the_token() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let (token, body) = (gateway.path("token.jwt"), gateway.path("body.json"));
    fs::write(&token, Token::skype().sign()).unwrap();
    fs::write(&body, bodies::incoming("call-1")).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["explain", "--json", "--config"]).arg(gateway.path(CONFIG)).arg("--token").arg(token);
    let output = soon("explain", command.arg(body).output()).await.unwrap();
    let explanation: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(explanation["tenant"], serde_json::json!({ "id": TENANT, "given": true }));
    assert_eq!(explanation["app"], APP);
    assert_eq!(explanation["body"]["is"], "graph", "{explanation:#}");
}
