//! The short-lived commands as a shell sees them: exit codes, stdout and stderr.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and its helpers do too")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

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
    let paths: Vec<_> = stderr.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        paths,
        ["listen.webhok_path", "app[0].id", "callback.base", "callback.patience", "fleet.instance[0].url"]
    );
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
    let admin = "http://127.0.0.1:1";
    for (arguments, code, expected) in [
        (&["check", "--config", "nowhere"][..], 64, missing),
        (&["serve", "--config", "nowhere"], 64, missing),
        (&["mint", "--config", ".", "--instance", "bot-0", "--app", APP], 64, folder),
        (&["explain", "--config", "nowhere", "-"], 64, missing),
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
        run_with(&vec![b' '; (1 << 20) + 1], &["explain", "--config", "minimal.toml", "-"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr, "standard input cannot be read: larger than 1048576 bytes\n");
    let (code, _, stderr) = run(&["explain", "--config", "minimal.toml", "/dev/zero"]);
    assert_eq!((code, &*stderr), (Some(1), "/dev/zero cannot be read: larger than 1048576 bytes\n"));
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
