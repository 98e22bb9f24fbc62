//! Settings that are not safe are refused, each with its path.

use std::time::Duration;

use switchboard_auth::{AppSettings, Authenticator, KeyPolicy, Tenants, TrustSettings};
use url::Url;

use crate::support::{Behaviour, CLOSED, Issuer, apps, keys, trusts};

struct Settings {
    trusts: Vec<TrustSettings>,
    apps: Vec<AppSettings>,
    keys: KeyPolicy,
}

#[track_caller]
fn check(change: impl FnOnce(&mut Settings), expected: &[&str]) {
    let (skype, entra) = (Issuer::skype(Behaviour::Hangs), Issuer::entra());
    let fetched = trusts(&skype, &entra);
    let mut settings = Settings {
        trusts: fetched.iter().map(|(settings, _)| settings.clone()).collect(),
        apps: apps(),
        keys: keys(),
    };
    change(&mut settings);
    let problems = Authenticator::problems(&settings.trusts, &settings.apps, &settings.keys);
    let paths: Vec<_> = problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(paths, expected, "{problems:?}");
    // `new` returns the first.
    let fetch = std::iter::repeat_with(|| fetched[0].1.clone());
    let built =
        Authenticator::new(settings.trusts.into_iter().zip(fetch).collect(), settings.apps, settings.keys);
    assert_eq!(built.err(), problems.first().cloned());
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn good_settings_have_no_problems() {
    check(|_| (), &[]);
    check(|it| it.trusts[0].metadata = url("http://127.0.0.1:4000/metadata"), &[]);
    check(|it| it.trusts[0].metadata = url("http://[::1]:4000/metadata"), &[]);
    check(|it| it.trusts[0].metadata = url("http://localhost:4000/metadata"), &[]);
    // An issuer without a tenant in it needs no list of callers.
    check(|it| it.trusts[0].callers.clear(), &[]);
}

#[test]
fn an_issuer_with_a_tenant_needs_callers() {
    check(|it| it.trusts[1].callers.clear(), &["trust[1].callers"]);
    let fixed = "https://login.example/11111111-2222-4333-8444-555555555555/v2.0";
    check(
        |it| {
            it.trusts[0].callers.clear();
            it.trusts[0].issuers.push(fixed.into());
        },
        &["trust[0].callers"],
    );
}

#[test]
fn an_audience_must_not_be_an_issuer() {
    for audience in [
        "https://api.botframework.com",
        "https://graph.microsoft.com",
        "https://sts.windows.net/{tid}/",
        "https://sts.windows.net/11111111-2222-4333-8444-555555555555/",
        "",
    ] {
        check(|it| it.apps[0].audiences.push(audience.into()), &["app[0].audiences[0]"]);
    }
}

#[test]
fn an_audience_belongs_to_one_app() {
    check(|it| it.apps[0].audiences.push("api://closed.example".into()), &["app[1].audiences[0]"]);
    check(|it| it.apps[1].id = it.apps[0].id, &["app[1].id"]);
    check(|it| it.apps[0].audiences.push(CLOSED.into()), &["app[0].audiences[0]"]);
    check(|it| it.apps[0].audiences.push(CLOSED.to_uppercase()), &["app[0].audiences[0]"]);
}

#[test]
fn metadata_is_https_or_on_loopback() {
    for metadata in [
        "http://api.aps.skype.com/metadata",
        "http://10.0.0.1/metadata",
        "http://localhost.evil.example/metadata",
        "file:///etc/passwd",
        "https://user:password@api.aps.skype.com/metadata",
        "https://api.aps.skype.com/metadata#x",
    ] {
        check(|it| it.trusts[0].metadata = url(metadata), &["trust[0].metadata"]);
    }
}

#[test]
fn names_are_different_and_safe_file_names() {
    for name in ["", ".", "..", "../skype", "a/b", "a\\b", "a b", "a\0", "\u{e9}", &"n".repeat(64)] {
        check(|it| it.trusts[0].name = name.into(), &["trust[0].name"]);
    }
    check(|it| it.trusts[1].name = "SKYPE".into(), &["trust[1].name"]);
}

#[test]
fn an_issuer_belongs_to_one_trust() {
    check(|it| it.trusts[1].issuers.push("https://api.botframework.com".into()), &["trust[1].issuers[2]"]);
    let fixed = "https://sts.windows.net/11111111-2222-4333-8444-555555555555/";
    check(|it| it.trusts[1].issuers.push(fixed.into()), &["trust[1].issuers[2]"]);
    check(|it| it.trusts[0].issuers[1] = "https://a/{tenantid}/".into(), &["trust[0].issuers[1]"]);
}

#[test]
fn empty_lists_are_refused() {
    check(|it| it.trusts.clear(), &["trust"]);
    check(|it| it.apps.clear(), &["app"]);
    check(|it| it.trusts[0].issuers.clear(), &["trust[0].issuers"]);
    check(|it| it.apps[1].tenants = Tenants::Only(Vec::new()), &["app[1].tenants"]);
}

#[test]
fn times_must_fit_each_other() {
    check(|it| it.keys.cooldown = Duration::ZERO, &["keys.cooldown"]);
    check(|it| it.keys.refresh = Duration::ZERO, &["keys.refresh"]);
    check(|it| it.keys.keep_stale = it.keys.refresh, &["keys.keep_stale"]);
    check(|it| it.keys.keep_stale = Duration::MAX, &["keys.keep_stale"]);
    check(|it| it.keys.cooldown = Duration::MAX, &["keys.cooldown"]);
}

#[test]
fn all_problems_are_reported() {
    check(
        |it| {
            it.trusts[0].name = "/".into();
            it.trusts[1].callers.clear();
            it.apps[0].audiences.push(String::new());
            it.keys.cooldown = Duration::ZERO;
        },
        &["trust[0].name", "trust[1].callers", "app[0].audiences[0]", "keys.cooldown"],
    );
}
