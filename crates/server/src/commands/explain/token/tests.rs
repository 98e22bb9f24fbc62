//! The explanation of a token, as people see it, for tokens of the fixtures.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::*;
use crate::config::tests::parse;

const CONFIG: &str = r#"
    region = "emea"
    [[app]]
    id = "9fd00000-f7af-4f74-947d-000000000abc"
    tenants = ["11111111-2222-4333-8444-555555555555"]
    [callback]
    base = "https://emea.bots.contoso.com"
    seal = [{ id = "k1", secret = { env = "SEAL" } }]
    [[fleet.instance]]
    name = "bot-0"
    url = "http://10.0.0.10:3978/api/calls"
"#;

fn explained(token: &[u8]) -> TokenExplained {
    // The time of the fixtures.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    TokenExplained::of(&parse(CONFIG).unwrap(), token, now).unwrap()
}

#[track_caller]
fn check(token: &[u8], expected: &Expect) {
    let explained = explained(token);
    expected.assert_eq(&explained.to_string());
    for text in [explained.to_string(), serde_json::to_string(&explained).unwrap()] {
        assert!(!text.contains("eyJ"), "{text}");
        for segment in token.split(|byte| *byte == b'.').filter(|segment| segment.len() >= 24) {
            let end = String::from_utf8_lossy(&segment[segment.len() - 24..]);
            assert!(!text.contains(&*end), "{text}");
        }
    }
}

macro_rules! fixture {
    ($file:literal) => {
        include_bytes!(concat!("../../../../../../fixtures/tokens/", $file))
    };
}

#[test]
fn without_stored_keys_the_signature_is_not_checked() {
    check(
        fixture!("skype.jwt"),
        &expect![[r#"
        token: not decided; it meets every rule that was checked
          trust: skype, no stored keys
          form: passed, a compact JWS in canonical base64url
          header: passed, an allowed algorithm and type, and no member that is refused
          claims: passed, a JSON object, each name once
          issuer: passed, a trust has the issuer (https://api.botframework.com)
          key_id: passed, the token names a key (hr1grphedGeaOiVCJwinEhScCVg)
          audience: passed, the audience is a configured app (9fd00000-f7af-4f74-947d-000000000abc)
          time: passed, valid now, and for a bounded time (age 10 s, expires in 290 s)
          tenant: passed, one tenant, that of the issuer (11111111-2222-4333-8444-555555555555)
          app_only: passed, issued to an app, not to a user
          not_bound: passed, not bound to a key of its sender
          calling_app: passed, named where the version says (26a18ebc-cdf7-4a6a-91cb-beb352805e81)
          key: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          key_issuer: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          signature: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          caller_allowed: passed, the trust allows the calling app
          tenant_allowed: passed, the app allows the tenant"#]],
    );
}

#[test]
fn each_failed_rule_has_its_reason() {
    check(
        fixture!("kid-line-end.jwt"),
        &expect![[r#"
        token: refused with 401, key_id
          trust: skype, no stored keys
          form: passed, a compact JWS in canonical base64url
          header: failed, key_id: key id is absent or malformed
          claims: passed, a JSON object, each name once
          issuer: passed, a trust has the issuer (https://api.botframework.com)
          key_id: not checked: an earlier rule failed (18 bytes)
          audience: passed, the audience is a configured app (9fd00000-f7af-4f74-947d-000000000abc)
          time: passed, valid now, and for a bounded time (age 10 s, expires in 290 s)
          tenant: passed, one tenant, that of the issuer (11111111-2222-4333-8444-555555555555)
          app_only: passed, issued to an app, not to a user
          not_bound: passed, not bound to a key of its sender
          calling_app: passed, named where the version says (26a18ebc-cdf7-4a6a-91cb-beb352805e81)
          key: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          key_issuer: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          signature: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          caller_allowed: passed, the trust allows the calling app
          tenant_allowed: passed, the app allows the tenant"#]],
    );
    check(
        fixture!("skype-other-caller.jwt"),
        &expect![[r#"
        token: refused with 403, service_forbidden, if its signature is valid
          trust: skype, no stored keys
          form: passed, a compact JWS in canonical base64url
          header: passed, an allowed algorithm and type, and no member that is refused
          claims: passed, a JSON object, each name once
          issuer: passed, a trust has the issuer (https://api.botframework.com)
          key_id: passed, the token names a key (hr1grphedGeaOiVCJwinEhScCVg)
          audience: passed, the audience is a configured app (9fd00000-f7af-4f74-947d-000000000abc)
          time: passed, valid now, and for a bounded time (age 10 s, expires in 290 s)
          tenant: passed, one tenant, that of the issuer (11111111-2222-4333-8444-555555555555)
          app_only: passed, issued to an app, not to a user
          not_bound: passed, not bound to a key of its sender
          calling_app: passed, named where the version says (deadbeef-cdf7-4a6a-91cb-beb352805e81)
          key: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          key_issuer: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          signature: not checked: no stored keys were read: keys.store is not set, or secrets are left out
          caller_allowed: failed, service_forbidden: calling app deadbeef-cdf7-4a6a-91cb-beb352805e81 is not allowed
          tenant_allowed: passed, the app allows the tenant"#]],
    );
    check(
        b"not a token",
        &expect![[r#"
        token: refused with 401, token_length
          form: failed, token_length: token length of 11 bytes is out of range
          header: not checked: an earlier rule failed
          claims: not checked: an earlier rule failed
          issuer: not checked: an earlier rule failed
          key_id: not checked: an earlier rule failed
          audience: not checked: an earlier rule failed
          time: not checked: an earlier rule failed
          tenant: not checked: an earlier rule failed
          app_only: not checked: an earlier rule failed
          not_bound: not checked: an earlier rule failed
          calling_app: not checked: an earlier rule failed
          key: not checked: an earlier rule failed
          key_issuer: not checked: an earlier rule failed
          signature: not checked: an earlier rule failed
          caller_allowed: not checked: an earlier rule failed
          tenant_allowed: not checked: an earlier rule failed"#]],
    );
}

#[test]
fn a_file_may_have_the_scheme_and_white_space() {
    let plain = explained(fixture!("skype.jwt")).to_string();
    for before in ["Bearer ", "bearer ", "\n "] {
        let bytes = [before.as_bytes(), fixture!("skype.jwt"), b"\r\n"].concat();
        assert_eq!(explained(&bytes).to_string(), plain, "{before:?}");
    }
}
