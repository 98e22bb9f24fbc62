//! The rules for a token one by one, and the content of a refused token that a log may show.

use std::{fmt::Write, path::Path, sync::Arc};

use proptest::{collection::btree_map, prelude::*, sample::select};
use serde_json::{Value, json};
use switchboard_auth::{
    AuthError, Authenticator, Examination, Finding, KeyPolicy, LogValue, Missing, RefusedSender, Rule,
    TokenSummary,
};
use tokio::runtime::Builder;

use crate::support::{
    APP, BOTH_KEYS, Behaviour, CLOSED, FIRST, HOUR, Issuer, NOW, SERVICE, TENANT, World, apps, at, base64url,
    bearer, keys, trusts,
};

fn fixture(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokens").join(file)).unwrap()
}

fn label(finding: Finding) -> &'static str {
    match finding {
        Finding::Passed => "passed",
        Finding::Rejected(rejection) => rejection.label(),
        Finding::Forbidden(forbidden) => forbidden.label(),
        Finding::NotChecked(Missing::Earlier) => "-",
        Finding::NotChecked(Missing::Keys) => "no keys",
    }
}

/// Returns the rules that did not pass, each with its finding.
fn not_passed(examination: &Examination) -> String {
    let mut text = String::new();
    for (rule, finding) in examination.rules().filter(|(_, finding)| *finding != Finding::Passed) {
        write!(text, "{}: {}, ", rule.label(), label(finding)).unwrap();
    }
    text.trim_end_matches(", ").to_owned()
}

/// Checks the law of an examination against the verdict of `authenticate`.
async fn check_law(world: &World, field: &[u8], now: u64) -> Option<Box<RefusedSender>> {
    let verdict = world.authenticator.authenticate(field, at(now)).await;
    let examination = world.authenticator.examine(field, at(now));
    assert_eq!(verdict.is_ok(), examination.is_accepted(), "{verdict:?} {examination:?}");
    let refused = verdict.err()?;
    let expected = match &refused.error {
        AuthError::Rejected(..) | AuthError::Forbidden(..) => refused.error.label(),
        // The examination fetches nothing: a key that is unknown stays so.
        AuthError::KeyNotFetched { .. } | AuthError::KeysUnavailable { .. } => "unknown_key",
    };
    let failure = examination.failure().expect("a refused token fails a rule");
    assert_eq!(label(failure), expected, "{examination:?}");
    assert_eq!(refused.token, examination.token);
    assert_eq!(refused.error.trust(), examination.trust.as_deref());
    Some(refused)
}

/// Checks that a summary can be written to any log: bounded visible ASCII.
fn check_summary(refused: &RefusedSender, token: &[u8]) {
    let TokenSummary { issuer, key_id, audience, tenant, calling_app, .. } = &refused.token;
    for value in [issuer, key_id, audience, tenant, calling_app].into_iter().flatten() {
        assert!(value.len() <= 300 && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value:?}");
    }
    let text = format!("{refused:?} {refused} {}", refused.problem());
    assert!(!text.contains("EVIL") && !text.contains("eyJ"), "{text}");
    for segment in token.split(|byte| *byte == b'.').filter(|segment| segment.len() >= 24) {
        let end = String::from_utf8_lossy(&segment[segment.len() - 24..]);
        assert!(!text.contains(&*end), "{text}");
    }
}

#[derive(serde::Deserialize)]
struct Verdicts {
    tokens: Vec<Expected>,
}

#[derive(serde::Deserialize)]
struct Expected {
    file: String,
    now: u64,
}

#[tokio::test(start_paused = true)]
async fn a_fixture_is_accepted_exactly_if_it_meets_all_rules() {
    let verdicts: Verdicts = serde_json::from_slice(&fixture("verdicts.json")).unwrap();
    for Expected { file, now } in verdicts.tokens {
        let world = World::new(Behaviour::publishes(BOTH_KEYS));
        let token = fixture(&file);
        if let Some(refused) = check_law(&world, &bearer(&token), now).await {
            check_summary(&refused, &token);
        }
    }
}

/// A token with several faults shows all of them.
#[tokio::test(start_paused = true)]
async fn each_rule_is_examined_on_its_own() {
    let world = World::new(Behaviour::publishes(BOTH_KEYS));
    world.verdict(&FIRST.fresh()).await;
    let good = json!({
        "tid": TENANT, "appid": SERVICE, "nbf": NOW - 10, "exp": NOW + 290,
        "iss": "https://api.botframework.com", "aud": APP,
    });
    let other = "33333333-2222-4333-8444-555555555555";
    for (header, changes, expected) in [
        (json!({ "alg": "RS256", "kid": FIRST.id() }), json!({}), ""),
        (
            json!({ "alg": "none", "kid": FIRST.id() }),
            json!({ "aud": "x", "exp": NOW - 900, "tid": "contoso.com" }),
            "header: algorithm, key_id: -, audience: audience, time: lifetime, tenant: claim_invalid, \
             key: -, key_issuer: -, signature: -, tenant_allowed: -",
        ),
        (
            json!({ "alg": "RS256", "kid": FIRST.id() }),
            json!({ "iss": "https://evil.example", "scp": "user", "cnf": {} }),
            "issuer: issuer, tenant: -, app_only: not_app_only, not_bound: bound_token, calling_app: -, \
             key: -, key_issuer: -, signature: -, caller_allowed: -, tenant_allowed: -",
        ),
        (
            json!({ "alg": "RS256", "kid": "other" }),
            json!({ "appid": other, "aud": CLOSED, "tid": other }),
            "key: unknown_key, key_issuer: -, signature: -, caller_allowed: service_forbidden, \
             tenant_allowed: tenant_forbidden",
        ),
    ] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let token = FIRST.sign(&header.to_string(), &claims.to_string());
        let found = not_passed(&world.authenticator.examine(&bearer(&token), at(NOW)));
        assert_eq!(found, expected, "{header} {claims}");
    }
    let unread = world.authenticator.examine(b"Bearer x", at(NOW));
    assert!(not_passed(&unread).starts_with("form: token_length, header: -, claims: -, "));
    assert_eq!(unread.rules().count(), Rule::ALL.len());
}

/// Returns an authenticator that never fetches.
fn offline(policy: KeyPolicy) -> Authenticator {
    let (skype, entra) = (Issuer::skype(Behaviour::Fails("connect")), Issuer::entra());
    Authenticator::new(trusts(&skype, &entra), apps(), policy).unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_the_network_the_stored_keys_are_used() {
    let field = bearer(&FIRST.fresh());
    let authenticator = offline(keys());
    assert!(authenticator.read_stored_keys(at(NOW)).is_empty());
    let examination = authenticator.examine(&field, at(NOW));
    assert_eq!(not_passed(&examination), "key: no keys, key_issuer: no keys, signature: no keys");
    assert!(!examination.is_accepted() && examination.failure().is_none());

    let folder = tempfile::tempdir().unwrap();
    let policy = KeyPolicy { store: Some(folder.path().join("keys")), ..keys() };
    let world = World::with(Behaviour::publishes(BOTH_KEYS), policy.clone(), NOW);
    world.verdict(&FIRST.fresh()).await;
    while !folder.path().join("keys/skype.json").exists() {
        tokio::time::sleep(HOUR / 3600).await;
    }
    let authenticator = offline(policy);
    assert!(authenticator.read_stored_keys(at(NOW + 60)).is_empty());
    let examination = authenticator.examine(&field, at(NOW + 60));
    assert!(examination.is_accepted(), "{examination:?}");
    assert_eq!(examination.keys.map(|(count, age)| (count, age.as_secs())), Some((2, 60)));
    assert_eq!(examination.app.map(|app| app.to_string()).as_deref(), Some(APP));
    assert_eq!(examination.tenant.map(|tenant| tenant.to_string()).as_deref(), Some(TENANT));

    std::fs::write(folder.path().join("keys/skype.json"), "EVIL").unwrap();
    let authenticator = offline(KeyPolicy { store: Some(folder.path().join("keys")), ..keys() });
    let problems = authenticator.read_stored_keys(at(NOW));
    assert_eq!(problems, [(Arc::from("skype"), "the file is not a stored key set".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_summarised() {
    let world = World::new(Behaviour::publishes(BOTH_KEYS));
    const SKYPE: &str = "https://api.botframework.com";
    const SKYPE_KEY: &str = "hr1grphedGeaOiVCJwinEhScCVg";
    const ENTRA_KEY: &str = "Jskr_X8LHHfsv1BR1U7PsigKKnI";
    let entra = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let other = "deadbeef-cdf7-4a6a-91cb-beb352805e81";
    let host = "74 bytes, host login.microsoftonline.us";
    let text = |value: &Option<LogValue>| value.as_deref().unwrap_or("-").to_owned();
    for (file, [issuer, key_id, audience, tenant, calling_app], times) in [
        ("dots.jwt", ["-"; 5], (None, None)),
        ("iss-other-cloud.jwt", [host, ENTRA_KEY, APP, TENANT, SERVICE], (Some(60), Some(3840))),
        ("aud-graph.jwt", [SKYPE, SKYPE_KEY, "27 bytes", TENANT, SERVICE], (Some(10), Some(290))),
        ("aud-number.jwt", [SKYPE, SKYPE_KEY, "not a text", TENANT, SERVICE], (Some(10), Some(290))),
        ("kid-path.jwt", [SKYPE, "../../../../etc/passwd", APP, TENANT, SERVICE], (Some(10), Some(290))),
        ("kid-line-end.jwt", [SKYPE, "18 bytes", APP, TENANT, SERVICE], (Some(10), Some(290))),
        ("tid-name.jwt", [SKYPE, SKYPE_KEY, APP, "23 bytes", SERVICE], (Some(10), Some(290))),
        ("v2-other-caller.jwt", [&entra, ENTRA_KEY, APP, TENANT, other], (Some(60), Some(3840))),
    ] {
        let token = world.authenticate(&fixture(file), NOW).await.unwrap_err().token;
        let found =
            [&token.issuer, &token.key_id, &token.audience, &token.tenant, &token.calling_app].map(text);
        assert_eq!(found, [issuer, key_id, audience, tenant, calling_app], "{file}");
        assert_eq!((token.age_s, token.expires_in_s), times, "{file}");
    }
}

/// Values for any member: fit ones, ones of another type, and text that would forge a line of a log.
fn value() -> impl Strategy<Value = Value> {
    let fit = [
        json!("RS256"),
        json!("PS256"),
        json!("JWT"),
        json!(FIRST.id()),
        json!("https://api.botframework.com"),
        json!("https://login.microsoftonline.com/11111111-2222-4333-8444-555555555555/v2.0"),
        json!(APP),
        json!([CLOSED]),
        json!(TENANT),
        json!(SERVICE),
        json!(NOW - 10),
        json!(NOW + 290),
        json!("app"),
        json!("2.0"),
    ];
    let hostile = [
        json!(null),
        json!(-1),
        json!(u64::MAX),
        json!([]),
        json!({ "EVIL": 1 }),
        json!("EVIL\r\n{\"level\":\"info\"}"),
        json!("EVIL\u{1b}[31m\u{202e}"),
        json!("EVIL ".repeat(60)),
        json!("https://evil.example/EVIL path"),
        json!("https://EVIL_ .example"),
        json!(format!("https://{}.example", "a".repeat(250))),
        json!("none"),
        json!(""),
    ];
    select([&fit[..], &hostile[..]].concat())
}

/// Members that replace those of a valid token.
fn members(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(String, Value)>> {
    btree_map(select(names), value(), 0..3)
        .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Authentication and examination agree on every token, and no summary has text that is not safe.
    #[test]
    fn a_token_is_accepted_exactly_if_it_meets_all_rules(
        header in members(&["alg", "kid", "typ", "crit", "jku", "Alg"]),
        claims in members(&[
            "iss", "aud", "exp", "nbf", "iat", "tid", "appid", "azp", "ver", "scp", "idtyp", "cnf", "Iss",
        ]),
        is_forged: bool,
    ) {
        let mut good_header = json!({ "alg": "RS256", "kid": FIRST.id(), "typ": "JWT" });
        let mut good_claims = json!({
            "tid": TENANT, "appid": SERVICE, "nbf": NOW - 10, "exp": NOW + 290,
            "iss": "https://api.botframework.com", "aud": APP,
        });
        good_header.as_object_mut().unwrap().extend(header);
        good_claims.as_object_mut().unwrap().extend(claims);
        let mut token = FIRST.sign(&good_header.to_string(), &good_claims.to_string());
        if is_forged {
            let end = token.len() - base64url(&[7; 256]).len();
            token.truncate(end);
            token.extend(base64url(&[7; 256]).bytes());
        }
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
            let world = World::new(Behaviour::publishes(BOTH_KEYS));
            if let Some(refused) = check_law(&world, &bearer(&token), NOW).await {
                check_summary(&refused, &token);
            }
        });
    }

    /// The same for any bytes.
    #[test]
    fn any_field_is_examined_as_it_is_authenticated(field in prop::collection::vec(any::<u8>(), 0..200)) {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
            let world = World::new(Behaviour::publishes(BOTH_KEYS));
            for field in [field.clone(), bearer(&field)] {
                check_law(&world, &field, NOW).await;
            }
        });
    }
}
