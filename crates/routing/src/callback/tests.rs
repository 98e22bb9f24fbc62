//! Round trips, and paths that must not open.

use proptest::prelude::*;
use url::Url;
use uuid::{Uuid, uuid};

use super::{CallbackUriError, CallbackUris, InvalidCallbackUris, Owner, SealError, SealKey};
use crate::{endpoint::InvalidUrl, name::Name};

const APP: Uuid = uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");

fn key(id: &str, fill: u8) -> SealKey {
    SealKey::new(id, &[fill; 32]).unwrap()
}

fn build(base: &str, path: &str, keys: Vec<SealKey>) -> Result<CallbackUris, InvalidCallbackUris> {
    CallbackUris::new(&Url::parse(base).unwrap(), path, keys)
}

fn uris(keys: Vec<SealKey>) -> CallbackUris {
    build("https://emea.bots.contoso.com", "/api/callbacks", keys).unwrap()
}

fn owner(region: &str, instance: &str, incarnation: &str) -> Owner {
    let name = |text| Name::parse(text).unwrap();
    Owner { region: name(region), instance: name(instance), incarnation: name(incarnation) }
}

fn path_of(uri: &str) -> &str {
    uri.strip_prefix("https://emea.bots.contoso.com").unwrap()
}

fn open(uris: &CallbackUris, path: &str, app: Uuid) -> Option<Result<Owner, SealError>> {
    let sealed = uris.parse(path)?;
    Some(uris.open(&sealed, app).map(|owner| owner.to_owner()))
}

/// Applies `edit` to a valid path; opening the result gives `expected`.
#[track_caller]
fn check(edit: impl Fn(&str) -> String, expected: Option<Result<[&str; 3], SealError>>) {
    let uris = uris(vec![key("k1", 1), key("k2", 2)]);
    let uri = uris.mint(&owner("emea", "bot-0", "7f3c.a"), APP);
    let path = edit(path_of(&uri));
    let found = uris
        .parse(&path)
        .map(|sealed| uris.open(&sealed, APP).map(|owner| owner.names().map(|name| name.as_str())));
    assert_eq!(found, expected, "{path}");
}

#[test]
fn the_shape_of_a_uri_is_stable() {
    let uri = uris(vec![key("k1", 1)]).mint(&owner("emea", "bot-0", "0"), APP);
    assert_eq!(uri, "https://emea.bots.contoso.com/api/callbacks/emea/bot-0/k1.0.oF5ucPccNO9qqV3vkV851w");
}

#[test]
fn a_minted_uri_opens() {
    check(str::to_owned, Some(Ok(["emea", "bot-0", "7f3c.a"])));
}

#[test]
fn another_region_instance_or_incarnation_is_refused() {
    let mismatch = Some(Err(SealError::Mismatch));
    check(|path| path.replace("/emea/", "/amer/"), mismatch);
    check(|path| path.replace("/emea/", "/EMEA/"), mismatch);
    check(|path| path.replace("/bot-0/", "/bot-1/"), mismatch);
    check(|path| path.replace(".7f3c.a.", ".7f3c.b."), mismatch);
    check(|path| path.replace(".7f3c.a.", ".0."), mismatch);
    // The same letters with another boundary between the names.
    check(|path| path.replace("/emea/bot-0/", "/eme/abot-0/"), mismatch);
    check(|path| path.replace("/emea/bot-0/", "/bot-0/emea/"), mismatch);
}

#[test]
fn a_key_signs_only_under_its_own_id() {
    check(|path| path.replace("/k1.", "/k2."), Some(Err(SealError::Mismatch)));
    check(|path| path.replace("/k1.", "/k3."), Some(Err(SealError::UnknownKey)));
    check(|path| path.replace("/k1.", "/K1."), Some(Err(SealError::UnknownKey)));
    check(|path| path.replace("/k1.", "/."), None);
    check(|path| path.replace("/k1.", "/"), Some(Err(SealError::UnknownKey))); // now the key id is 7f3c
}

#[test]
fn other_paths_do_not_parse() {
    for (from, to) in [
        ("/api/callbacks/", "/api/callback/"),
        ("/api/callbacks/", "/API/callbacks/"),
        ("/api/callbacks/", "//api/callbacks/"),
        ("/api/callbacks/", "/api/callbacks//"),
        ("/api/callbacks/", "/api/../api/callbacks/"),
        ("/api/callbacks/", "/api%2fcallbacks/"),
        ("/api/callbacks/", "api/callbacks/"),
        ("/emea/", "/"),
        ("/emea/", "/../"),
        ("/emea/", "/./"),
        ("/emea/", "/%65mea/"),
        ("/emea/", "/emea;v=1/"),
        ("/emea/", "/emea/x/"),
        ("/emea/", "/emea%2f"),
        ("/bot-0/", "/bot%2d0/"),
        ("/bot-0/", "/bot-0%00/"),
        ("/bot-0/", "/bot-0\r\n/"),
        ("/bot-0/", "/bot 0/"),
        ("/bot-0/", "/\u{ff42}ot-0/"),
        ("/bot-0/", "\\bot-0\\"),
        ("/k1.", "/k1%2e"),
        (".7f3c.a.", "."),
        (".7f3c.a.", ".."),
        (".7f3c.a.", "..."),
        (".7f3c.a.", "...."),
        (".7f3c.a.", ".7f3c/a."),
    ] {
        check(|path| path.replacen(from, to, 1), None);
    }
    check(|path| format!("{path}/"), None);
    check(|path| format!("{path}/x"), None);
    check(|path| format!("{path}?x"), None);
    check(|path| format!("{path}#x"), None);
    check(|path| format!("{path}="), None);
    check(|path| format!("{path}A"), None);
    check(|path| format!("{path}.A"), None);
    check(|path| format!("https://emea.bots.contoso.com{path}"), None);
    for empty in
        ["", "/", "/api/callbacks", "/api/callbacks/", "/api/callbacks/a/b/", "/api/callbacks/a/b/.."]
    {
        check(|_| empty.to_owned(), None);
    }
}

#[test]
fn a_truncated_path_never_opens() {
    let uris = uris(vec![key("k1", 1)]);
    let uri = uris.mint(&owner("emea", "bot-0", "7f3c.a"), APP);
    let path = path_of(&uri);
    for length in 0..path.len() {
        let cut = path.get(..length).unwrap();
        assert_eq!(open(&uris, cut, APP), None, "{cut}");
    }
}

#[test]
fn all_keys_verify_and_the_first_one_signs() {
    let (old, both, new) =
        (uris(vec![key("k1", 1)]), uris(vec![key("k2", 2), key("k1", 1)]), uris(vec![key("k2", 2)]));
    let owner = owner("emea", "bot-0", "0");
    let (first, second) = (old.mint(&owner, APP), both.mint(&owner, APP));
    assert_eq!(open(&both, path_of(&first), APP), Some(Ok(owner.clone())));
    assert_eq!(open(&both, path_of(&second), APP), Some(Ok(owner.clone())));
    assert_eq!(open(&new, path_of(&second), APP), Some(Ok(owner)));
    assert_eq!(open(&old, path_of(&second), APP), Some(Err(SealError::UnknownKey)));
    assert_eq!(open(&new, path_of(&first), APP), Some(Err(SealError::UnknownKey)));
}

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9_.-]{1,63}".prop_filter_map("dot segments", |text| Name::parse(&text).ok())
}

fn any_owner() -> impl Strategy<Value = Owner> {
    (name(), name(), name()).prop_map(|(region, instance, incarnation)| Owner {
        region,
        instance,
        incarnation,
    })
}

fn any_app() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn minted_uris_open_to_their_owner(owner in any_owner(), app in any_app()) {
        let uris = uris(vec![key("k1", 1)]);
        let uri = uris.mint(&owner, app);
        prop_assert_eq!(open(&uris, path_of(&uri), app), Some(Ok(owner.clone())));
        prop_assert_eq!(uri.len() <= 250, uris.check(owner.as_ref()).is_ok());
        let url = Url::parse(&uri).unwrap();
        prop_assert_eq!(url.as_str(), uri.as_str(), "a client does not change it");
    }

    #[test]
    fn a_change_of_one_character_never_gives_another_owner(
        owner in any_owner(),
        at in any::<prop::sample::Index>(),
        with in prop_oneof![
            prop::char::range(' ', '~'), any::<char>(), prop::sample::select(vec!['/', '.', '-', '%', '\0']),
        ],
        operation in 0..3_u8,
    ) {
        let uris = uris(vec![key("k1", 1), key("k2", 2)]);
        let uri = uris.mint(&owner, APP);
        let mut path: Vec<char> = path_of(&uri).chars().collect();
        let at = at.index(path.len());
        match operation {
            0 => path[at] = with,
            1 => path.insert(at, with),
            _ => drop(path.remove(at)),
        }
        let changed: String = path.into_iter().collect();
        if changed == path_of(&uri) {
            prop_assert_eq!(open(&uris, &changed, APP), Some(Ok(owner)));
        } else {
            prop_assert!(!matches!(open(&uris, &changed, APP), Some(Ok(_))), "{}", changed);
        }
    }

    #[test]
    fn another_app_is_refused(owner in any_owner(), app in any_app(), other in any_app()) {
        prop_assume!(app != other);
        let uris = uris(vec![key("k1", 1)]);
        prop_assert_eq!(open(&uris, path_of(&uris.mint(&owner, app)), other), Some(Err(SealError::Mismatch)));
    }

    #[test]
    fn another_key_of_the_same_id_is_refused(owner in any_owner(), secret in any::<[u8; 32]>()) {
        prop_assume!(secret != [1; 32]);
        let forger = uris(vec![SealKey::new("k1", &secret).unwrap()]);
        let uri = forger.mint(&owner, APP);
        prop_assert_eq!(open(&uris(vec![key("k1", 1)]), path_of(&uri), APP), Some(Err(SealError::Mismatch)));
    }

    #[test]
    fn no_path_panics(tail in "[/.%A-Za-z0-9_é-]{0,80}", text in any::<String>()) {
        let uris = uris(vec![key("k1", 1)]);
        for path in [format!("/api/callbacks/{tail}"), format!("/api/callbacks/{text}"), text] {
            prop_assert!(!matches!(open(&uris, &path, APP), Some(Ok(_))));
        }
    }
}

#[track_caller]
fn check_settings(base: &str, path: &str, keys: Vec<SealKey>, expected: Result<(), &InvalidCallbackUris>) {
    assert_eq!(build(base, path, keys).map(drop).as_ref(), expected.map(|()| &()), "{base} {path}");
}

#[test]
fn the_base_is_an_https_origin() {
    for good in ["https://contoso.com", "https://contoso.com:8443/", "http://127.0.0.1:8080", "https://[::1]"]
    {
        check_settings(good, "/cb", vec![key("k1", 1)], Ok(()));
    }
    for (bad, problem) in [
        ("http://contoso.com", InvalidUrl::Scheme),
        ("https://a:b@contoso.com", InvalidUrl::Userinfo),
        ("https://contoso.com/x", InvalidUrl::Path),
        ("https://contoso.com/?x", InvalidUrl::Query),
        ("https://contoso.com/#x", InvalidUrl::Fragment),
    ] {
        check_settings(bad, "/cb", vec![key("k1", 1)], Err(&InvalidCallbackUris::Base(problem)));
    }
}

#[test]
fn the_base_keeps_its_port_and_becomes_lower_case() {
    let uris = build("https://Bots.Contoso.com:8443", "/cb", vec![key("k1", 1)]).unwrap();
    let uri = uris.mint(&owner("emea", "bot-0", "0"), APP);
    assert!(uri.starts_with("https://bots.contoso.com:8443/cb/emea/bot-0/k1.0."), "{uri}");
}

#[test]
fn the_path_has_plain_segments() {
    for good in ["/api/callbacks", "/c", "/a.b/~c_d-e/..."] {
        check_settings("https://contoso.com", good, vec![key("k1", 1)], Ok(()));
    }
    for bad in
        ["", "/", "api", "/api/", "//api", "/a//b", "/a/../b", "/.", "/a b", "/a%20b", "/é", "/a?b", "/a;b"]
    {
        let error = InvalidCallbackUris::Path { path: bad.to_owned() };
        check_settings("https://contoso.com", bad, vec![key("k1", 1)], Err(&error));
    }
}

#[test]
fn there_is_a_key_and_ids_are_unique() {
    check_settings("https://contoso.com", "/cb", vec![], Err(&InvalidCallbackUris::NoKey));
    let doubled = InvalidCallbackUris::DoubledKey { id: "k1".to_owned() };
    check_settings(
        "https://contoso.com",
        "/cb",
        vec![key("k1", 1), key("k2", 2), key("k1", 3)],
        Err(&doubled),
    );
}

#[test]
fn a_uri_has_at_most_250_characters() {
    let long = |letters: usize| format!("/{}", "a".repeat(letters));
    // https://contoso.com (19) + path + / + r/i/ (4) + k1.0. (5) + MAC (22)
    check_settings("https://contoso.com", &long(198), vec![key("k1", 1)], Ok(()));
    let error = InvalidCallbackUris::TooLong { length: 251 };
    check_settings("https://contoso.com", &long(199), vec![key("k1", 1)], Err(&error));

    let uris = build("https://contoso.com", "/cb", vec![key("k1", 1)]).unwrap();
    let fits = owner(&"r".repeat(63), &"i".repeat(63), &"n".repeat(62));
    assert_eq!(uris.check(owner("emea", "bot-0", "0").as_ref()), Ok(()));
    assert_eq!(uris.mint(&fits, APP).len(), 19 + 4 + 64 + 64 + 3 + 63 + 22);
    let long = build("https://contoso.com", &long(16), vec![key("k1", 1)]).unwrap();
    assert_eq!(long.check(fits.as_ref()), Err(CallbackUriError { length: 253 }));
}

#[test]
fn errors_have_a_label_and_say_what_would_be_right() {
    let check = |error: InvalidCallbackUris, label, text: &str| {
        assert_eq!((error.label(), error.to_string().as_str()), (label, text));
    };
    check(InvalidCallbackUris::NoKey, "no_key", "there is no seal key; at least one is needed");
    check(
        InvalidCallbackUris::DoubledKey { id: "k1".to_owned() },
        "doubled_key",
        "two seal keys are named k1; each needs its own id",
    );
    check(
        InvalidCallbackUris::Base(InvalidUrl::Path),
        "base",
        "the callback base has a path; write scheme, host and port only",
    );
    check(
        InvalidCallbackUris::Path { path: "/a\n".to_owned() },
        "path",
        "the callback path \"/a\\n\" is not like /api/callbacks: segments of A-Z a-z 0-9 . _ ~ - \
         (not `.` or `..`), each after a slash, no slash at the end",
    );
    check(
        InvalidCallbackUris::TooLong { length: 251 },
        "too_long",
        "the callback base, path and seal key id are too long: with the shortest names a URI has 251 \
         characters, and at most 250 are allowed",
    );
    assert_eq!(CallbackUriError { length: 300 }.label(), "uri_too_long");
    assert_eq!(SealError::UnknownKey.label(), "unknown_seal_key");
    assert_eq!(SealError::Mismatch.label(), "wrong_seal");
}

#[test]
fn debug_of_an_unchecked_path_shows_the_key_id_only() {
    let uris = uris(vec![key("k1", 1)]);
    let uri = uris.mint(&owner("emea", "bot-0", "0"), APP);
    assert_eq!(format!("{:?}", uris.parse(path_of(&uri)).unwrap()), r#"Sealed { key_id: "k1", .. }"#);
}
