//! `KeySet` on its own: the keys that it keeps, and a signature from RFC 7515.

use std::collections::BTreeSet;

use switchboard_auth::{InvalidKeySet, KeySet, Rejection};

use crate::support::{BOTH_KEYS, FIRST, SECOND};

const HOSTILE: &str = include_str!("../../../../fixtures/jwks/hostile.json");

#[test]
fn usable_keys_are_kept_and_others_are_skipped_with_a_reason() {
    let set = KeySet::parse(HOSTILE.as_bytes()).unwrap();
    let (first, second) = (FIRST.id(), "twice-the-same");
    assert_eq!(set.key_ids().collect::<BTreeSet<_>>(), BTreeSet::from([&*first, second]));
    let skipped: Vec<_> = set
        .skipped()
        .iter()
        .map(|skipped| format!("{} {}", skipped.key_id.as_deref().unwrap_or("?"), skipped.reason.label()))
        .collect();
    assert_eq!(
        skipped,
        [
            "elliptic not_rsa",
            "symmetric secret",
            "private secret",
            "for-encryption other_use",
            "for-signing-only other_use",
            "for-sha-512 other_use",
            "short modulus",
            "long modulus",
            "even modulus",
            "exponent-one exponent",
            "exponent-three exponent",
            "padded malformed",
            "no-exponent malformed",
            "? no_key_id",
            "? no_key_id",
            "? no_key_id",
            "ambiguous ambiguous",
        ]
    );
    assert_eq!(set.skipped().iter().filter(|skipped| skipped.reason.is_alarming()).count(), 5);
}

#[track_caller]
fn check(document: &str, expected: Result<usize, InvalidKeySet>) {
    assert_eq!(KeySet::parse(document.as_bytes()).map(|set| set.len()), expected);
}

#[test]
fn one_malformed_key_does_not_disable_the_others() {
    check(include_str!("../../../../fixtures/jwks/one-malformed.json"), Ok(1));
}

#[test]
fn other_documents_are_refused() {
    check(include_str!("../../../../fixtures/jwks/empty.json"), Ok(0));
    check(include_str!("../../../../fixtures/jwks/not-keys.html"), Err(InvalidKeySet::Malformed));
    check(include_str!("../../../../fixtures/jwks/cut-short.json"), Err(InvalidKeySet::Malformed));
    check(&format!("{{\"keys\":[{}0]}}", "0,".repeat(100_000)), Ok(0));
    check(&" ".repeat(256 * 1024 + 1), Err(InvalidKeySet::TooLarge));
    for text in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[]}x", "{\"keys\":[],\"keys\":[]}"] {
        check(text, Err(InvalidKeySet::Malformed));
    }
    check(&format!("{{\"keys\":[{}]}}", "[".repeat(100_000)), Err(InvalidKeySet::Malformed));
    check(&format!("{{\"keys\":[{}{}]}}", "[".repeat(1000), "]".repeat(1000)), Ok(0));
}

/// Unusable keys do not count, and only the keys beyond the bound are lost.
#[test]
fn the_first_64_usable_keys_of_a_set_are_kept() {
    let set = KeySet::parse(include_bytes!("../../../../fixtures/jwks/too-many.json")).unwrap();
    assert_eq!(set.len(), 64);
    let reasons: Vec<_> = set.skipped().iter().map(|skipped| skipped.reason.label()).collect();
    assert_eq!(reasons, ["not_rsa", "other_use", "too_many"]);
    assert_eq!(set.skipped()[2].key_id.as_deref(), Some("k64"));
    assert!(!set.skipped()[2].reason.is_alarming());
}

#[test]
fn an_empty_payload_can_be_signed() {
    let set = KeySet::parse(BOTH_KEYS.as_bytes()).unwrap();
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, SECOND.id());
    assert_eq!(set.verify(&SECOND.sign(&header, "")).unwrap(), b"");
}

#[test]
fn verify_returns_the_signed_payload() {
    let set = KeySet::parse(BOTH_KEYS.as_bytes()).unwrap();
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, SECOND.id());
    assert_eq!(set.verify(&SECOND.sign(&header, "any bytes")).unwrap(), b"any bytes");
    assert_eq!(set.verify(&FIRST.sign(&header, "any bytes")), Err(Rejection::Signature));
    let other = r#"{"alg":"RS256","kid":"other"}"#;
    assert_eq!(set.verify(&FIRST.sign(other, "any bytes")), Err(Rejection::UnknownKey));
    // Without a key id, the set must have exactly one key.
    assert_eq!(set.verify(&FIRST.sign(r#"{"alg":"RS256"}"#, "any bytes")), Err(Rejection::KeyId));
}

/// A key without `alg` verifies both algorithms, one with `alg` only that.
#[test]
fn alg_limits_a_key_to_one_algorithm() {
    let rs256 = include_bytes!("../../../../fixtures/tokens/skype.jwt");
    let ps256 = include_bytes!("../../../../fixtures/tokens/ps256.jwt");
    let published: serde_json::Value =
        serde_json::from_str(include_str!("../../../../fixtures/jwks/skype.json")).unwrap();
    let key = &published["keys"][0];
    let entry = |alg: Option<&str>| {
        let mut entry = key.clone();
        entry["alg"] = alg.into();
        entry
    };
    let both = entry(None);
    let (first, second) = (entry(Some("RS256")), entry(Some("PS256")));
    for (entries, takes_rs256, takes_ps256) in [
        (vec![&both], true, true),
        (vec![&first], true, false),
        (vec![&second], false, true),
        (vec![&first, &second], true, true),
        (vec![&second, &both], true, true),
    ] {
        let set = KeySet::parse(serde_json::json!({ "keys": entries }).to_string().as_bytes()).unwrap();
        for (token, takes) in [(&rs256[..], takes_rs256), (&ps256[..], takes_ps256)] {
            let expected = if takes { Ok(()) } else { Err(Rejection::Algorithm) };
            assert_eq!(set.verify(token).map(drop), expected, "{entries:?}");
        }
    }
}

/// RFC 7515 appendix A.2. The key there has no id, and it has private members that are left out here.
#[test]
fn the_example_of_rfc_7515_verifies() {
    let set = format!(r#"{{"keys":[{{"kty":"RSA","kid":"A.2","n":"{RFC_7515_MODULUS}","e":"AQAB"}}]}}"#);
    let set = KeySet::parse(set.as_bytes()).unwrap();
    let payload = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
    let whole = RFC_7515_TOKEN.concat();
    assert_eq!(set.verify(whole.as_bytes()).unwrap(), payload.as_bytes());
    let changed = whole.replace("eyJpc3MiOiJqb2Ui", "eyJpc3MiOiJqb2Yi");
    assert_eq!(set.verify(changed.as_bytes()), Err(Rejection::Signature));
}

const RFC_7515_MODULUS: &str = "\
    ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0B\
    m4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5\
    z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7\
    aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

const RFC_7515_TOKEN: [&str; 3] = [
    "eyJhbGciOiJSUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2F\
     p5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQB\
     MHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeY\
     I2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
];
