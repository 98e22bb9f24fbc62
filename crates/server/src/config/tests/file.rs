//! The file itself: the positions of problems, its encoding, and the check without secrets.

use super::*;

#[test]
fn a_syntax_error_has_its_position() {
    let twice = "not valid TOML: duplicate key; write each setting and each table once";
    let unquoted = "not valid TOML: string values must be quoted, expected literal string";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    for (text, position, expected) in [
        ("region = \"emea\"\nregion = \"amer\"\n", "2:1: region", twice),
        ("seal = [{ id = \"a\", id = \"b\" }]\n", "1:21: id", twice),
        ("region = emea\n", "1:10: region", unquoted),
        ("[listen\n", "1:8", "not valid TOML: unclosed table, expected `]`"),
        // Only the first error is reported: the address, and the rest of the list, would be further ones.
        ("[listen]\naddress = 1\n[listen]\naddress = 2\n", "3:2: listen", twice),
        (
            "tenants = [1, 2\nregion = 3\n",
            "2:1",
            "not valid TOML: missing comma between array elements, expected `,`",
        ),
        // A text that cannot be the name of a setting is not shown: the operator may have passed a secret
        // file by mistake.
        ("KioqKioqKioqKioqKioqKio=\n", "1:25", unquoted),
        ("\"a\\u001b\" = 1\n\"a\\u001b\" = 2\n", "2:1", twice),
    ] {
        fs::write(&file, text).unwrap();
        let problems = Config::load(&file, env).map(|_| ()).unwrap_err();
        assert_eq!(problems.to_string(), format!("{}:{position}: {expected}", file.display()));
    }
    let error = Config::load(Path::new("/nonexistent/a.toml"), env).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nonexistent/a.toml: cannot be read: No such file or directory (os error 2)"
    );
}

/// Each problem has the line and column of its setting, or of the table that lacks it.
#[test]
fn a_problem_has_the_position_of_its_setting() {
    let text = "region = \"emea\"\r\n\
                [listen]\n\
                drain = { dealy = \"5s\" } # ä\n\
                [[app]]\n\
                [callback]\n\
                \tbase = \"x\"\n\
                [[fleet.instance]]\n\
                name = \"a\"\n\
                url = \"http://127.0.0.1:8080/api/calls\"\n\
                [[fleet.instance]]\n\
                url = \"http://127.0.0.1:8081/api/calls\"\n";
    let problems = parse(text).map(|_| ()).unwrap_err();
    let found: Vec<_> = problems
        .iter()
        .map(|problem| {
            let position = problem.position.unwrap();
            (problem.path.as_str(), position.line, position.column)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("listen.drain.dealy", 3, 11),
            ("app[0].id", 4, 1),
            ("callback.seal", 5, 2),
            ("callback.base", 6, 2),
            ("fleet.instance[1].name", 10, 1),
        ]
    );
    // A problem between two tables is found by its path.
    let text = changed(&[]);
    let lines = text.lines().count();
    let own = "[[fleet.instance]]\nname = \"own\"\nurl = \"http://127.0.0.1:8443/\"\n";
    let problems = parse(&format!("{text}{own}")).map(|_| ()).unwrap_err();
    let [problem] = problems.iter().collect::<Vec<_>>()[..] else { panic!("{problems}") };
    assert_eq!((problem.path.as_str(), problem.position.unwrap().line), ("fleet.instance[1].url", lines + 3));
}

#[test]
fn a_configuration_is_checked_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let load = |text: &str| {
        fs::write(&file, text).unwrap();
        Config::load_without_secrets(&file).map(|_| ())
    };
    // None of their files and variables exists.
    for text in [
        EXAMPLE,
        MINIMAL,
        DNS,
        &with_graph("certificate = \"a.crt\", key = \"a.key\"", ""),
        &with_graph("federated_token = \"a\"", ""),
        &with_graph("federated_identity = {}", ""),
        &with_graph("secret = { file = \"a\" }", ""),
    ] {
        load(text).unwrap();
    }
    let secret = "{ env = \"SEAL\" }";
    for (from, to, expected) in [
        (secret, "{ env = \"SEAL\", file = \"a\" }", "callback.seal[0].secret: not exactly one"),
        (secret, "\"aGVsbG8=\"", "callback.seal[0].secret: not { env"),
        (secret, "{ file = \"\" }", "callback.seal[0].secret.file: not the path"),
        ("[callback]", "[listen]\ntls = { key = \"a\" }\n[callback]", "listen.tls.certificate: missing"),
    ] {
        let problems = load(&changed(&[(from, to)])).unwrap_err();
        let is_found = problems.iter().any(|problem| problem.to_string().starts_with(expected));
        assert!(is_found, "{expected}: {problems}");
    }
}

#[test]
fn a_file_in_utf16_is_named_as_such() {
    let folder = example_files();
    let utf16 = |text: &str, mark: bool| {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect::<Vec<_>>()
    };
    let file = folder.path().join("a.toml");
    for mark in [true, false] {
        fs::write(&file, utf16(MINIMAL, mark)).unwrap();
        let problems = Config::load(&file, env).map(|_| ()).unwrap_err().to_string();
        assert!(problems.contains("cannot be read: it is UTF-16, "), "{problems}");
    }
    let text = changed(&[("{ env = \"SEAL\" }", "{ file = \"seal-k1\" }")]);
    let parse = || Config::parse(&text, folder.path(), env).map(|_| ());
    fs::write(folder.path().join("seal-k1"), utf16(SEAL, true)).unwrap();
    let problems = parse().unwrap_err().to_string();
    assert!(problems.starts_with("callback.seal[0].secret.file: "), "{problems}");
    assert!(problems.contains("is UTF-16, "), "{problems}");
    // A byte order mark is not part of a secret.
    fs::write(folder.path().join("seal-k1"), format!("\u{feff}{SEAL}\r\n")).unwrap();
    parse().unwrap();
}

#[test]
fn a_url_that_cannot_be_requested_is_refused() {
    let base = "https://emea.bots.contoso.com";
    for (url, expected) in [
        ("https://*.bots.contoso.com", "has a wildcard in its host; write the full name of one host"),
        (
            "https://bücher.example",
            "has a host outside ASCII; write it in punycode, \"xn--bcher-kva.example\"",
        ),
        (
            "https://{region}.bots.example",
            "has {region}, which is not replaced here; write the URL as it is requested",
        ),
    ] {
        refused_text(&changed(&[(base, url)]), &format!("callback.base: {expected}"));
        refused(
            &format!("[[peer]]\nname = \"amer\"\nwebhook = \"{url}/api/calls\"\n"),
            &format!("peer[0].webhook: {expected}"),
        );
    }
    refused(
        "[[trust]]\nname = \"t\"\nissuers = [\"https://a.example\"]\n\
         metadata = \"https://login.microsoftonline.com/{tid}/v2.0/.well-known/openid-configuration\"\n",
        "trust[0].metadata: has {tid}, which is not replaced here; write the URL as it is requested",
    );
    refused(
        "[[fleet.instance]]\nname = \"b\"\nurl = \"http://*.bots.svc/\"\n",
        "fleet.instance[1].url: has a wildcard in its host; write the full name of one host",
    );
}

#[test]
fn an_admin_token_cannot_be_guessed() {
    let token = |length: usize| {
        let env = move |name: &str| match name {
            "TOKEN" => Some("t".repeat(length)),
            _ => env(name),
        };
        let text = format!("{}[admin]\ntoken = {{ env = \"TOKEN\" }}\n", changed(&[]));
        Config::parse(&text, Path::new("/nonexistent"), env).map(|_| ())
    };
    token(16).unwrap();
    let problems = token(15).unwrap_err().to_string();
    assert!(problems.starts_with("admin.token: 15 bytes; at least 16 are required"), "{problems}");
}

/// Only the owner of a key store may write it: it decides which tokens are accepted.
#[cfg(unix)]
#[test]
fn a_key_store_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}[keys]\nstore = \"{}\"\n", changed(&[]), folder.path().display());
    for (mode, is_refused) in [(0o700, false), (0o755, false), (0o770, true), (0o707, true), (0o1777, true)] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let problems = parse(&text).map(|_| ()).map_err(|problems| problems.to_string());
        let expected = "keys.store: other users may write the folder, and so decide which tokens are \
                        accepted; take the permission from them: chmod go-w";
        assert_eq!(problems.is_err(), is_refused, "{mode:o}");
        assert!(problems.err().is_none_or(|problems| problems.ends_with(expected)));
    }
    fs::remove_dir(folder.path()).unwrap();
    parse(&text).unwrap();
}
