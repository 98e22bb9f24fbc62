//! The parser of fleet files: cases as data, in both formats, and hostile input.

use std::sync::Arc;

use proptest::prelude::*;
use switchboard_auth::Tenants;
use switchboard_delivery::{InstanceSettings, TrustAnchors, UpstreamUrl};
use uuid::uuid;

use super::*;
use crate::config::tests::certificate;

fn file(name: &str) -> FleetFile {
    let id = uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");
    let app = AppSettings { id, tenants: Tenants::Any, audiences: Vec::new() };
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    let listen = "10.0.0.1:8443".parse().unwrap();
    FleetFile::new(Path::new("/run").join(name), Some(&[app]), Some(listen), Some(&base)).unwrap()
}

fn parsed(name: &str, content: &[u8]) -> Result<Vec<FileInstance>, String> {
    switchboard_delivery::FleetFile::parse(&file(name), content).instances
}

fn shown(instances: &[FileInstance]) -> Vec<String> {
    let shown = |one: &FileInstance| {
        let InstanceSettings { name, url, callback_url, apps, weight } = &one.settings;
        let callbacks = callback_url.as_ref().unwrap_or(url);
        let incarnation = one.incarnation.as_ref().map_or("-", Name::as_str);
        let apps = apps.as_ref().map_or(0, Vec::len);
        format!("{name} {incarnation} {url} {callbacks} {apps} {weight} {}", one.is_draining)
    };
    instances.iter().map(shown).collect()
}

#[track_caller]
fn accepted(json: &str, toml: &str, expected: &[&str]) {
    for (name, text) in [("fleet.json", json), ("fleet.toml", toml)] {
        assert_eq!(shown(&parsed(name, text.as_bytes()).unwrap()), expected, "{text}");
        let marked = format!("\u{feff}{text}");
        assert_eq!(shown(&parsed(name, marked.as_bytes()).unwrap()), expected, "{text}");
    }
}

#[track_caller]
fn refused(name: &str, text: &str, expected: &str) {
    let expected = expected.replace("FILE", &format!("/run/{name}"));
    assert_eq!(parsed(name, text.as_bytes()).map(|_| "no problem").unwrap_err(), expected, "{text}");
}

#[test]
fn the_formats_mean_the_same() {
    accepted(
        r#"[{"name": "bot-0", "url": "http://10.0.0.10:3978/api/calls"}]"#,
        "[[instance]]\nname = \"bot-0\"\nurl = \"http://10.0.0.10:3978/api/calls\"\n",
        &["bot-0 - http://10.0.0.10:3978/api/calls http://10.0.0.10:3978/api/calls 0 1 false"],
    );
    accepted(
        r#"[
            {"name": "bot-0", "url": "https://10.0.0.10/c", "callback_url": "https://10.0.0.10/n",
             "apps": ["0efc74f7-41c3-47a4-8775-7259bfef4241"], "weight": 3, "draining": true,
             "incarnation": "1790000000123", "host": "bots.contoso.com", "tls_name": "bots.contoso.com"},
            {"name": "bot-1", "url": "http:\/\/bot-1\u002eexample/c", "draining": false}
        ]"#,
        "instance = [{ name = \"bot-0\", url = \"https://10.0.0.10/c\", \
         callback_url = \"https://10.0.0.10/n\", \
         apps = [\"0efc74f7-41c3-47a4-8775-7259bfef4241\"], weight = 3, draining = true, \
         incarnation = \"1790000000123\", host = \"bots.contoso.com\", tls_name = \"bots.contoso.com\" },\n\
         { name = \"bot-1\", url = \"http://bot-1.example/c\", draining = false }]",
        &[
            "bot-0 1790000000123 https://10.0.0.10/c https://10.0.0.10/n 1 3 true",
            "bot-1 - http://bot-1.example/c http://bot-1.example/c 0 1 false",
        ],
    );
    accepted("[]", "instance = []", &[]);
}

#[test]
fn the_examples_in_the_documents_are_fleet_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/instances.md")).unwrap();
    for (name, start, count) in [("fleet.json", "```json\n[", 2), ("fleet.toml", "```toml\n[[instance]]", 1)]
    {
        let (_, rest) = text.split_once(start).unwrap();
        let list = start.split_once('\n').unwrap().1;
        let block = format!("{list}{}", rest.split("```").next().unwrap());
        assert_eq!(parsed(name, block.as_bytes()).unwrap().len(), count, "{block}");
    }
}

#[test]
fn a_mistake_is_named_with_its_place_and_what_would_be_right() {
    let bot = r#"{"name": "bot-0", "url": "http://10.0.0.10/"}"#;
    for (text, expected) in [
        ("", "FILE:1:1: empty; an empty list is []"),
        ("[{", "FILE:1:2: not valid JSON: EOF while parsing an object"),
        ("{}", "FILE:1:1: not an array of instances, like [{\"name\": …, \"url\": …}]"),
        (
            "[\n {\"name\": \"bot-0\", \"uri\": \"http://10.0.0.10/\"}]",
            "FILE:2:2: instance[0].url: missing; it must be the URL for new calls, like \
             \"http://10.0.0.10:3978/api/calls\"\n\
             FILE:2:20: instance[0].uri: unknown setting; the nearest known one is `url`",
        ),
        (
            &format!("[{bot},\n{bot}]"),
            "FILE:2:2: instance[1].name: another instance has the same name; give each its own",
        ),
        (
            r#"[{"name": "bot-0", "url": "http://10.0.0.10/", "weight": null}]"#,
            "FILE:1:48: instance[0].weight: not a whole number from 1 to 1000",
        ),
        (
            r#"[{"name": "bot-0", "url": "http://10.0.0.10/", "weight": 1.0}]"#,
            "FILE:1:48: instance[0].weight: not a whole number from 1 to 1000",
        ),
        (
            r#"[{"name": "bot-0", "url": "http://10.0.0.10/", "draining": "yes"}]"#,
            "FILE:1:48: instance[0].draining: not true or false",
        ),
        (
            r#"[{"name": "bot-0", "url": "http://10.0.0.10/", "incarnation": "12345678901234"}]"#,
            "FILE:1:48: instance[0].incarnation: not 1 to 13 of A-Z a-z 0-9 . _ -, another one for each \
             process",
        ),
        (
            r#"[{"name": "bot-0", "url": "http://10.0.0.10/", "zone": "a"}]"#,
            "FILE:1:48: instance[0].zone: unknown setting; the known ones are `apps`, `ca`, \
             `callback_url`, `draining`, `host`, `incarnation`, `name`, `tls_name`, `url`, `weight`",
        ),
        (
            r#"[{"name": "bot-0", "url": "http://10.0.0.10/",
                 "apps": ["22222222-41c3-47a4-8775-7259bfef4241"]}]"#,
            "FILE:2:27: instance[0].apps[0]: not the id of an [[app]]; add the app",
        ),
        (
            r#"[{"name": "bot-0", "url": "http://10.0.0.1:8443/"}]"#,
            "FILE:1:20: instance[0].url: leads to this gateway, whose listen.address has the same host and \
             port; write the URL at which the bot itself listens",
        ),
    ] {
        refused("fleet.json", text, expected);
    }
    for (text, expected) in [
        (
            "",
            "FILE:1:1: instance: missing; write one [[instance]] or more, or `instance = []` for an empty \
             fleet",
        ),
        ("[[instance]\n", "FILE:1:12: not valid TOML: unclosed array table, expected `]`"),
        (
            "[[instances]]\nname = \"bot-0\"\n",
            "FILE:1:1: instance: missing; write one [[instance]] or more, or `instance = []` for an empty \
             fleet\n\
             FILE:1:3: instances: unknown setting; the nearest known one is `instance`",
        ),
        ("instance = 1\n", "FILE:1:1: instance: not a list of tables, each under [[instance]]"),
    ] {
        refused("fleet.toml", text, expected);
    }
}

#[test]
fn a_file_that_is_half_written_is_no_fleet() {
    let whole =
        r#"[{"name": "bot-0", "url": "http://10.0.0.10/"}, {"name": "bot-1", "url": "http://10.0.0.11/"}]"#;
    assert_eq!(parsed("fleet.json", whole.as_bytes()).unwrap().len(), 2);
    for end in 0..whole.len() {
        assert!(parsed("fleet.json", &whole.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn the_size_is_bounded() {
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    for (member, value) in [("url", format!("http://10.0.0.10/{long}")), (&*long, "1".to_owned())] {
        let text =
            format!("[{{\"name\": \"bot-0\", \"url\": \"http://10.0.0.10/\", \"{member}\": \"{value}\"}}]");
        assert!(parsed("fleet.json", text.as_bytes()).is_err());
    }
    let many: Vec<_> = (0..=INSTANCES_MAX)
        .map(|at| format!("{{\"name\":\"b{at}\",\"url\":\"http://10.0.0.10/{at}\"}}"))
        .collect();
    let text = format!("[{}]", many[1..].join(","));
    assert_eq!(parsed("fleet.json", text.as_bytes()).unwrap().len(), INSTANCES_MAX);
    let text = format!("[{}]", many.join(","));
    refused("fleet.json", &text, "FILE:1:1: instance: 20001 instances, more than the limit of 20000");
    // Each instance has a mistake: the first ones are shown.
    let text = text.replace("\"url\"", "\"uri\"");
    let text = text.replacen("{\"name\":\"b0\",\"uri\":\"http://10.0.0.10/0\"},", "", 1);
    let problems = parsed("fleet.json", text.as_bytes()).unwrap_err();
    assert_eq!(problems.lines().count(), PROBLEMS_MAX + 1);
    assert!(problems.ends_with("and 39980 more problems"), "{problems}");
    assert!(problems.len() < 10_000);
}

#[test]
fn another_encoding_is_named() {
    let wide: Vec<u8> = "[]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let problem = parsed("fleet.json", &wide).unwrap_err();
    assert!(problem.starts_with("/run/fleet.json: it is UTF-16, "), "{problem}");
    assert_eq!(parsed("fleet.json", b"[\"\xff\"]").unwrap_err(), "/run/fleet.json: not UTF-8");
}

#[test]
fn the_format_is_that_of_the_name() {
    for name in ["fleet", "fleet.yaml", "fleet.JSON", ".json", "fleet.json.tmp"] {
        assert!(FleetFile::new(name.into(), None, None, None).is_none(), "{name}");
    }
}

fn check_any(name: &str, content: &[u8]) {
    if let Err(problems) = parsed(name, content) {
        assert!(problems.starts_with(&format!("/run/{name}")), "{problems}");
        assert!(!problems.chars().any(|c| c.is_control() && c != '\n'), "{problems:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_any("fleet.json", &content);
        check_any("fleet.toml", &content);
    }

    #[test]
    fn any_text_of_the_alphabet_of_a_file_parses_or_fails(
        words in proptest::collection::vec(prop_oneof![
            Just("["), Just("]"), Just("{"), Just("}"), Just(","), Just(":"), Just("\""), Just("="),
            Just("\n"), Just("\"name\":"), Just("\"url\":\"http://a/\""), Just("[[instance]]\n"),
            Just("name = "), Just("\"b\""), Just("null"), Just("1e9"), Just("-0"), Just("\\ud800"),
            Just("ä"), Just("\u{feff}"), Just("instance"), Just("draining"), Just("true"),
        ], 0..40),
    ) {
        let text = words.concat();
        check_any("fleet.json", text.as_bytes());
        check_any("fleet.toml", text.as_bytes());
    }
}

/// A folder with files of authorities, and a fleet file in it.
fn with_authorities() -> (tempfile::TempDir, FleetFile) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one.pem", "other.pem"] {
        std::fs::write(folder.path().join(name), certificate().0).unwrap();
    }
    let file = FleetFile::new(folder.path().join("fleet.json"), None, None, None).unwrap();
    (folder, file)
}

#[test]
fn the_authorities_of_an_instance_are_read_from_the_folder_of_the_list() {
    let (folder, file) = with_authorities();
    let anchors = |name: &str| {
        let pem = std::fs::read(folder.path().join(name)).unwrap();
        Arc::new(TrustAnchors::from_pem(&pem).unwrap())
    };
    let list = r#"[
        {"name": "a", "url": "https://10.0.0.10/a", "ca": "one.pem"},
        {"name": "b", "url": "https://10.0.0.11/b", "callback_url": "http://10.0.0.11/b", "ca": "other.pem"},
        {"name": "c", "url": "http://10.0.0.12/c", "callback_url": "https://10.0.0.12/c", "ca": "one.pem"},
        {"name": "d", "url": "https://10.0.0.13/d"}
    ]"#;
    let ParsedFile { instances, named } = switchboard_delivery::FleetFile::parse(&file, list.as_bytes());
    let instances = instances.unwrap();
    let url = |text: &str, ca: Option<&str>| {
        UpstreamUrl::parse(text).unwrap().with_trust_anchors(ca.map(anchors).as_ref())
    };
    let urls: Vec<_> =
        instances.iter().map(|one| (one.settings.url.clone(), one.settings.callback_url.clone())).collect();
    assert_eq!(
        urls,
        [
            (url("https://10.0.0.10/a", Some("one.pem")), None),
            (url("https://10.0.0.11/b", Some("other.pem")), Some(url("http://10.0.0.11/b", None))),
            (url("http://10.0.0.12/c", None), Some(url("https://10.0.0.12/c", Some("one.pem")))),
            (url("https://10.0.0.13/d", None), None),
        ]
    );
    // The digests change with the content of the files, and when they cannot be read.
    let digest = |path: &Path| switchboard_delivery::FleetFile::digest(&file, path);
    let paths: Vec<_> = named.iter().map(|(path, _)| path.as_path()).collect();
    assert_eq!(paths, [folder.path().join("one.pem"), folder.path().join("other.pem")]);
    assert!(named.iter().all(|(path, read)| digest(path) == *read));
    std::fs::write(paths[0], certificate().0).unwrap();
    std::fs::remove_file(paths[1]).unwrap();
    assert!(named.iter().all(|(path, read)| digest(path) != *read));
}

#[test]
fn authorities_that_cannot_be_used_are_named_with_their_file() {
    let (folder, file) = with_authorities();
    let many: String = std::iter::repeat_n(String::from_utf8(certificate().0).unwrap(), 65).collect();
    let wide: Vec<u8> = "-----BEGIN".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, content) in [("empty.pem", &b""[..]), ("many.pem", many.as_bytes()), ("wide.pem", &wide)] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let bot = |name: &str, more: &str| format!("{{\"name\": \"{name}\", {more}}}");
    let https = |name: &str, ca: &str| bot(name, &format!("\"url\": \"https://10.0.0.10/\", \"ca\": {ca}"));
    for (text, expected) in [
        (
            https("a", "\"absent.pem\""),
            "1:45: instance[0].ca: FOLDER/absent.pem cannot be read: No such file or directory (os error 2)",
        ),
        // Once for all instances with this file.
        (
            [https("a", "\"empty.pem\""), https("b", "\"empty.pem\"")].join(",\n"),
            "1:45: instance[0].ca: FOLDER/empty.pem is not a PEM file with a certificate, which has a line \
             -----BEGIN CERTIFICATE-----",
        ),
        (https("a", "\"many.pem\""), "1:45: instance[0].ca: FOLDER/many.pem has more than 64 certificates"),
        (https("a", "\"wide.pem\""), "1:45: instance[0].ca: FOLDER/wide.pem is UTF-16, which"),
        (
            https("a", "\"/dev/zero\""),
            "1:45: instance[0].ca: /dev/zero cannot be read: larger than 1048576 bytes",
        ),
        (https("a", "\"\""), "1:45: instance[0].ca: not the path of a file"),
        (https("a", "1"), "1:45: instance[0].ca: not the path of a file"),
        (
            bot("a", "\"url\": \"http://10.0.0.10/\", \"ca\": \"one.pem\""),
            "1:44: instance[0].ca: applies to an https URL only; leave it out",
        ),
    ] {
        let content = format!("[{text}]");
        let parsed = switchboard_delivery::FleetFile::parse(&file, content.as_bytes());
        let problems = parsed.instances.unwrap_err();
        let folder = folder.path().display().to_string();
        let expected = format!("{folder}/fleet.json:{}", expected.replace("FOLDER", &folder));
        assert!(problems.starts_with(&expected), "{problems}\n{expected}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn the_number_of_files_of_authorities_is_bounded() {
    let (folder, file) = with_authorities();
    let pem = certificate().0;
    let bots: Vec<_> = (0..=256)
        .map(|at| {
            std::fs::write(folder.path().join(format!("{at}.pem")), &pem).unwrap();
            let url = format!("https://10.0.0.10/{at}");
            format!("{{\"name\": \"b{at}\", \"url\": \"{url}\", \"ca\": \"{at}.pem\"}}")
        })
        .collect();
    let parse = |bots: &[String]| {
        let text = format!("[{}]", bots.join(",\n"));
        switchboard_delivery::FleetFile::parse(&file, text.as_bytes())
    };
    let parsed = parse(&bots[1..]);
    assert_eq!((parsed.instances.unwrap().len(), parsed.named.len()), (256, 256));
    let parsed = parse(&bots);
    let problem = parsed.instances.unwrap_err();
    assert!(problem.ends_with("instance[256].ca: more than 256 files; a file may have several certificates"));
    assert_eq!(parsed.named.len(), 256);
}
