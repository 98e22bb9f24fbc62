//! The short-lived commands as a shell sees them: exit codes, stdout and stderr.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and its helpers do too")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

#[path = "../build/revision.rs"]
mod revision;

const SEAL: &str = "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=";

const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";

/// The command, in the folder of the configuration fixtures.
fn switchboard(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command
        .args(arguments)
        .env_clear()
        .env("SWITCHBOARD_SEAL_K1", SEAL)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the command. Returns its exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    decode(switchboard(arguments).output().unwrap())
}

/// Returns the exit code, stdout and stderr of a finished command.
fn decode(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs the command with `input` on stdin.
fn run_with(input: &[u8], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut child = switchboard(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The command may fail before it has read the whole input.
    let _ = stdin.write_all(input);
    drop(stdin);
    decode(child.wait_with_output().unwrap())
}

#[test]
fn a_valid_configuration_is_summarized_in_one_line() {
    let (code, stdout, stderr) = run(&["check", "--config", "minimal.toml"]);
    assert_eq!(
        stdout,
        format!("region emea; apps: {APP}; trusts: skype, entra; instances: bot-0; peers: none\n")
    );
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn five_mistakes_are_five_lines_on_stderr() {
    let (code, stdout, stderr) = run(&["check", "--config", "five-mistakes.toml"]);
    assert_eq!((code, stdout.as_str()), (Some(64), ""));
    let places: Vec<_> =
        stderr.lines().map(|line| line.splitn(3, ": ").collect::<Vec<_>>()[..2].join(": ")).collect();
    assert_eq!(
        places,
        FIVE_MISTAKES.map(|(line, column, path)| format!("five-mistakes.toml:{line}:{column}: {path}"))
    );
}

/// The line, the column and the path of each.
const FIVE_MISTAKES: [(u64, u64, &str); 5] = [
    (4, 1, "listen.webhok_path"),
    (7, 1, "app[0].id"),
    (10, 1, "callback.base"),
    (12, 1, "callback.patience"),
    (16, 1, "fleet.instance[0].url"),
];

#[test]
fn problems_are_json_for_programs_and_annotations_for_github() {
    let (code, stdout, stderr) = run(&["check", "--config", "five-mistakes.toml", "--format", "json"]);
    assert_eq!((code, stderr.as_str()), (Some(64), ""));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["valid"], false);
    let rows: Vec<_> = report["problems"].as_array().unwrap().iter().collect();
    let number = |row: &serde_json::Value, name: &str| row[name].as_u64().unwrap();
    let found =
        rows.iter().map(|row| (number(row, "line"), number(row, "column"), row["path"].as_str().unwrap()));
    assert_eq!(found.collect::<Vec<_>>(), FIVE_MISTAKES);
    assert!(
        rows.iter().all(|row| row["file"] == "five-mistakes.toml" && row["message"].is_string()),
        "{stdout}"
    );

    for command in ["check", "explain"] {
        let more: &[&str] = if command == "explain" { &["--callback", "/"] } else { &[] };
        let arguments = [&[command, "--config", "five-mistakes.toml", "--format", "github"], more].concat();
        let (code, stdout, stderr) = run(&arguments);
        assert_eq!((code, stderr.as_str()), (Some(64), ""));
        for (line, (row, column, path)) in stdout.lines().zip(FIVE_MISTAKES) {
            let start = format!("::error file=five-mistakes.toml,line={row},col={column}::{path}: ");
            assert!(line.starts_with(&start), "{line}");
        }
        assert_eq!(stdout.lines().count(), FIVE_MISTAKES.len());
    }

    let (code, stdout, _) = run(&["check", "--config", "nowhere", "--format", "json"]);
    assert_eq!(code, Some(64));
    assert!(stdout.contains("\"line\": null") && stdout.contains("cannot be read"), "{stdout}");
    let (code, stdout, _) = run(&["check", "--config", "minimal.toml", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["valid"]), (Some(0), &true.into()));
    assert!(report["summary"].as_str().unwrap().starts_with("region emea; "), "{stdout}");
}

#[test]
fn a_configuration_is_checked_and_explained_without_secrets() {
    // It names a certificate, a key, an authority and three secrets, and none of them is here.
    let (code, ..) = run(&["check", "--config", "example.toml"]);
    assert_eq!(code, Some(64));
    let (code, stdout, stderr) = run(&["check", "--config", "example.toml", "--without-secrets"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("region emea; "), "{stdout}");
    let uri = "/api/callbacks/emea/bot-0/k1.0.AAAAAAAAAAAAAAAAAAAAAA";
    let (code, stdout, stderr) =
        run(&["explain", "--config", "example.toml", "--without-secrets", "--callback", uri]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("seal: not checked, without secrets"), "{stdout}");
    let (code, stdout, _) =
        run_with(b"{}", &["explain", "--config", "example.toml", "--without-secrets", "-"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("body: refused with 400"), "{stdout}");
}

#[test]
fn a_configuration_is_compared_with_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(MINIMAL)).unwrap();
    let new = folder.path().join("new.toml");
    fs::write(&new, format!("{text}weight = 2\n[listen]\naddress = \"[::]:8443\"\n")).unwrap();
    let new = new.to_str().unwrap();
    let summary = format!("region emea; apps: {APP}; trusts: skype, entra; instances: bot-0; peers: none\n");

    let (code, stdout, stderr) = run(&["check", "--config", new, "--against", "minimal.toml"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let changes = "against minimal.toml: 2 settings change\n  \
                   listen.address                \"0.0.0.0:8443\" -> \"[::]:8443\"  (needs a restart)\n  \
                   fleet.instance[bot-0].weight  1 -> 2\n\
                   a reload would be refused as a whole: it cannot change listen.address; restart the \
                   gateway\n";
    assert_eq!(stdout, format!("{summary}{changes}"));

    let (code, stdout, _) = run(&["check", "--config", new, "--against", "minimal.toml", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(
        report["changes"][0],
        serde_json::json!({
            "path": "listen.address", "old": "0.0.0.0:8443", "new": "[::]:8443", "needs_restart": true,
        })
    );
    assert_eq!(report["changes"].as_array().unwrap().len(), 2);

    let (code, stdout, _) = run(&["check", "--config", "minimal.toml", "--against", "minimal.toml"]);
    assert_eq!((code, stdout), (Some(0), format!("{summary}against minimal.toml: no setting changes\n")));
    // The secrets and certificates of the old configuration may be gone.
    let (code, stdout, _) = run(&["check", "--config", "minimal.toml", "--against", "example.toml"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("\n  listen.tls ") && stdout.contains("it cannot change listen.tls;"),
        "{stdout}"
    );

    for (old, expected) in [
        ("five-mistakes.toml", "five-mistakes.toml:4:1: listen.webhok_path: "),
        (
            "nowhere.toml",
            "nowhere.toml: cannot be read: No such file or directory (os error 2); --against names",
        ),
    ] {
        let (code, stdout, stderr) = run(&["check", "--config", "minimal.toml", "--against", old]);
        assert_eq!((code, stdout.as_str()), (Some(64), ""));
        assert!(stderr.starts_with(expected), "{stderr}");
    }
}

const MINIMAL: &str = "../../fixtures/config/minimal.toml";

#[test]
fn a_callback_uri_is_explained() {
    let mint = |more: &[&str]| {
        let arguments = ["mint", "--config", "minimal.toml", "--instance", "bot-0", "--app", APP];
        let (code, stdout, _) = run(&[&arguments[..], more].concat());
        assert_eq!(code, Some(0));
        stdout.trim_end().to_owned()
    };
    let uri = mint(&[]);
    let of_incarnation = mint(&["--incarnation", "1790000000123"]);
    let path = uri.strip_prefix("https://emea.bots.contoso.com").unwrap();
    let holds = format!("seal: holds, for a token of the app {APP}");
    let wrong = "seal: refused, wrong_seal";
    let unknown = "seal: refused, unknown_seal_key: callback.seal has no such key; its ids are k1";
    for (uri, expected) in [
        (
            uri.as_str(),
            &["callback: region emea, instance bot-0", "incarnation: 0, which", "key: k1", &holds][..],
        ),
        (path, &["region emea, instance bot-0", &holds]),
        (&of_incarnation, &["incarnation: 1790000000123\n", &holds]),
        (
            &uri.replace("bot-0", "bot-1"),
            &["instance bot-1", wrong, "note: the configuration has no instance bot-1"],
        ),
        (&uri.replace("/emea/", "/amer/"), &[wrong, "amer is neither its region nor a [[peer]]"]),
        (&uri.replace("/k1.", "/k9."), &["key: k9", unknown]),
        (&uri.replace("emea.bots", "amer.bots"), &[&holds, "note: its origin is not callback.base"]),
        ("/api/calls", &["callback: refused, callback_path"]),
        ("/api/callbacks/\u{1b}[31m/b/k.0.x", &["callback: refused, callback_path"]),
    ] {
        let (code, stdout, stderr) = run(&["explain", "--config", "minimal.toml", "--callback", uri]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{uri}");
        for part in expected {
            assert!(stdout.contains(part), "{uri}: no {part:?} in {stdout}");
        }
        assert!(!stdout.contains('\u{1b}') && !stdout.contains("body"), "{stdout}");
    }
    let arguments = ["explain", "--config", "minimal.toml", "--callback", &uri, "--json"];
    let (_, stdout, _) = run(&arguments);
    let explained: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let callback = &explained["callback"];
    assert_eq!(callback["region"], "emea");
    assert_eq!(callback["instance"], "bot-0");
    assert_eq!(callback["incarnation"], "0");
    assert_eq!(callback["key"], "k1");
    assert_eq!(callback["seal"], serde_json::json!({ "is": "holds", "app": APP }));
    assert!(explained.get("body").is_none());
    // With a body, both are explained.
    let (code, stdout, _) =
        run_with(b"{}", &["explain", "--config", "minimal.toml", "--callback", &uri, "-"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains(&holds) && stdout.contains("body: refused"), "{stdout}");
}

#[test]
fn the_configuration_is_named_by_an_option_a_variable_or_the_default() {
    let table: [(&[&str], Option<&str>, i32, &str); 8] = [
        (&["check"], Some("minimal.toml"), 0, "region emea; "),
        (&["check", "--config", "minimal.toml"], Some("nowhere.toml"), 0, "region emea; "),
        (&["mint", "--instance", "bot-0", "--app", APP], Some("minimal.toml"), 0, "https://emea"),
        (&["check", "--config", "nowhere.toml"], None, 64, "nowhere.toml: cannot be read: "),
        (&["check"], Some("nowhere.toml"), 64, "; SWITCHBOARD_CONFIG names this file"),
        (
            &["check", "--format", "json"],
            None,
            64,
            "; this file is the default; name another one with --config FILE or SWITCHBOARD_CONFIG",
        ),
        (&["check"], Some(""), 64, "/etc/switchboard/switchboard.toml: cannot be read: "),
        (&["doctor", "--config", ""], Some("minimal.toml"), 64, "invalid value '' for '--config <FILE>'"),
    ];
    for (arguments, variable, expected, part) in table {
        if !arguments.contains(&"--config")
            && variable.is_none_or(str::is_empty)
            && Path::new("/etc/switchboard/switchboard.toml").exists()
        {
            // The machine of an operator, who has a gateway there.
            continue;
        }
        let mut command = switchboard(arguments);
        command.envs(variable.map(|value| ("SWITCHBOARD_CONFIG", value)));
        let (code, stdout, stderr) = decode(command.output().unwrap());
        assert_eq!(code, Some(expected), "{arguments:?}: {stderr}");
        assert!(stdout.contains(part) || stderr.contains(part), "{arguments:?}: {stdout}{stderr}");
        let names_source = stderr.contains("SWITCHBOARD_CONFIG");
        assert!(!names_source || !arguments.contains(&"--config"), "{arguments:?}: {stderr}");
    }
    for command in ["serve", "check", "explain", "doctor", "mint"] {
        let (_, help, _) = run(&[command, "--help"]);
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = "[env: SWITCHBOARD_CONFIG=] [default: /etc/switchboard/switchboard.toml]";
        assert!(help.contains(expected), "{help}");
    }
}

/// No process listens on these ports, so a command names the gateway that it asked.
#[test]
fn the_gateways_are_named_by_options_a_variable_or_the_default() {
    let (one, other) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
    let default = "http://127.0.0.1:9090";
    let table: [(&[&str], Option<&str>, &[&str]); 6] = [
        (&["--admin", one], Some(other), &[one]),
        (&["--admin", one, "--admin", other], Some(default), &[one, other]),
        (&[], Some(one), &[one]),
        (&[], Some("http://127.0.0.1:1 http://127.0.0.1:2"), &[one, other]),
        (&[], Some(""), &[default]),
        (&[], None, &[default]),
    ];
    for (options, variable, asked) in table {
        if asked == [default] && std::net::TcpStream::connect("127.0.0.1:9090").is_ok() {
            // The machine of an operator, who has a gateway there.
            continue;
        }
        for name in [&["fleet", "list"][..], &["fleet", "drain", "bot-0"]] {
            let mut command = switchboard(&[name, options].concat());
            command.envs(variable.map(|value| ("SWITCHBOARD_ADMIN", value)));
            let (code, stdout, stderr) = decode(command.output().unwrap());
            assert_ne!(code, Some(0), "{name:?} {options:?} {variable:?}: {stdout}");
            for gateway in [one, other, default] {
                let is_named = stderr.contains(gateway);
                assert_eq!(is_named, asked.contains(&gateway), "{name:?} {options:?} {variable:?}: {stderr}");
            }
        }
    }
    for command in [&["fleet", "list", "--help"][..], &["tail", "--help"]] {
        let (_, help, _) = run(command);
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains("SWITCHBOARD_ADMIN") && help.contains(default), "{help}");
    }
}

#[test]
fn the_revision_of_a_build_is_the_commit_that_is_checked_out() {
    let commits = ["a", "b", "c"].map(|digit| digit.repeat(40));
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let crate_folder = root.join("crates/server");
    let write = |name: &str, text: &str| {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    let check = |commit: Option<&str>, sources: &[&str]| {
        let found = revision::of_crate(&crate_folder);
        let expected = commit.map(|commit| revision::Revision {
            commit: commit.to_owned(),
            sources: sources.iter().map(|name| root.join(name)).collect(),
        });
        assert_eq!(found, expected);
    };
    check(None, &[]);
    write(".git/HEAD", "ref: refs/heads/main\n");
    check(None, &[]);
    write(".git/packed-refs", &format!("# pack-refs with: peeled\n{} refs/heads/main\n", commits[0]));
    check(Some(&commits[0]), &[".git/HEAD"]);
    write(".git/refs/heads/main", &format!("{}\n", commits[1]));
    write(".git/logs/HEAD", "");
    check(Some(&commits[1]), &[".git/HEAD", ".git/logs/HEAD", ".git/refs/heads/main"]);
    write(".git/HEAD", &commits[2]);
    check(Some(&commits[2]), &[".git/HEAD", ".git/logs/HEAD"]);
    write(".git/HEAD", "deadbeef\"");
    check(None, &[]);

    // A worktree, whose branches are those of the repository.
    write("worktrees/one/HEAD", "ref: refs/heads/main\n");
    write("worktrees/one/commondir", "../../main\n");
    write("main/refs/heads/main", &commits[0]);
    fs::remove_dir_all(root.join(".git")).unwrap();
    write(".git", &format!("gitdir: {}\n", root.join("worktrees/one").display()));
    check(Some(&commits[0]), &["worktrees/one/HEAD", "worktrees/one/../../main/refs/heads/main"]);
    // A copy in another project.
    assert_eq!(revision::of_crate(&root.join("vendor/switchboard")), None);
}

#[test]
fn an_invalid_command_line_is_a_usage_error() {
    for arguments in [&["serv"][..], &[], &["check"], &["check", "--config", "nowhere.toml"]] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
        assert!(!stderr.contains('\u{1b}'), "colors are for terminals only: {stderr:?}");
    }
}

#[test]
fn an_unreadable_file_is_named_with_the_reason() {
    let missing = "nowhere cannot be read: No such file or directory (os error 2)\n";
    let folder = ". cannot be read: Is a directory (os error 21)\n";
    let no_config = "nowhere: cannot be read: No such file or directory (os error 2)\n";
    let admin = "http://127.0.0.1:1";
    for (arguments, code, expected) in [
        (&["check", "--config", "nowhere"][..], 64, no_config),
        (&["serve", "--config", "nowhere"], 64, no_config),
        (
            &["mint", "--config", ".", "--instance", "bot-0", "--app", APP],
            64,
            ".: cannot be read: Is a directory (os error 21)\n",
        ),
        (&["explain", "--config", "nowhere", "-"], 64, no_config),
        (&["explain", "--config", "minimal.toml", "nowhere"], 1, missing),
        (&["explain", "--config", "minimal.toml", "."], 1, folder),
        (
            &["fleet", "list", "--admin", admin, "--token-file", "nowhere"],
            64,
            &*format!("--token-file: {missing}"),
        ),
    ] {
        assert_eq!(run(arguments), (Some(code), String::new(), expected.to_owned()), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_printed_to_stdout() {
    let (code, stdout, stderr) = run(&["--version"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, concat!("switchboard ", env!("CARGO_PKG_VERSION"), "\n"));
    let (code, stdout, stderr) = run(&["--help"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for command in ["serve", "check", "explain", "keygen", "mint"] {
        assert!(stdout.contains(command), "{command}");
    }
}

#[test]
fn a_generated_secret_is_accepted_as_a_seal_key() {
    let secrets = [run(&["keygen"]), run(&["keygen"])];
    assert_ne!(secrets[0].1, secrets[1].1);
    for (code, secret, stderr) in secrets {
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let output = switchboard(&["check", "--config", "minimal.toml"])
            .env("SWITCHBOARD_SEAL_K1", secret.trim_end())
            .output()
            .unwrap();
        assert_eq!(decode(output).0, Some(0), "{secret}");
    }
}

#[test]
fn a_minted_uri_is_printed_on_one_line() {
    let (code, stdout, stderr) =
        run(&["mint", "--config", "minimal.toml", "--instance", "bot-0", "--app", APP]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let seal = stdout.strip_prefix("https://emea.bots.contoso.com/api/callbacks/emea/bot-0/k1.0.").unwrap();
    assert_eq!(seal.len(), 22 + 1, "128 bits in base64url, and the newline");
    let (code, stdout, stderr) =
        run(&["mint", "--config", "minimal.toml", "--instance", "bot-7", "--app", APP]);
    assert_eq!((code, stdout.as_str()), (Some(64), ""));
    assert_eq!(stderr, "--instance: the configuration has no bot-7; its instances are bot-0\n");
}

#[test]
fn a_body_is_explained_from_a_file_and_from_stdin() {
    let body = br#"{"value":[{"changeType":"updated","resource":"/app/calls/call-1"}]}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.json");
    fs::write(&file, body).unwrap();
    let from_file = run(&["explain", "--config", "minimal.toml", file.to_str().unwrap()]);
    let from_stdin = run_with(body, &["explain", "--config", "minimal.toml", "-"]);
    assert_eq!(from_file, from_stdin);
    assert_eq!(from_file.0, Some(0));
    assert!(from_file.1.contains("call id: call-1"), "{}", from_file.1);
}

#[test]
fn a_body_over_the_limit_is_not_read() {
    let (code, stdout, stderr) =
        run_with(&vec![b' '; (4 << 20) + 1], &["explain", "--config", "minimal.toml", "-"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr, "standard input cannot be read: larger than 4194304 bytes\n");
    let (code, _, stderr) = run(&["explain", "--config", "minimal.toml", "/dev/zero"]);
    assert_eq!((code, &*stderr), (Some(1), "/dev/zero cannot be read: larger than 4194304 bytes\n"));
}

#[test]
fn an_app_that_is_not_configured_cannot_be_explained() {
    let app = "1efc74f7-41c3-47a4-8775-7259bfef4241";
    let (code, _, stderr) = run_with(b"{}", &["explain", "--config", "minimal.toml", "--app", app, "-"]);
    assert_eq!((code, stderr), (Some(64), format!("--app: {app} is not the id of an [[app]]\n")));
}

#[test]
fn a_closed_stdout_is_not_an_error() {
    let mut child = switchboard(&["keygen"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
