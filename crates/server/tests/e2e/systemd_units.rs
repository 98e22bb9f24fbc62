//! The unit files of `deploy/systemd`: `systemd-analyze` has no complaint, and the documents agree with them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::gateway::BINARY;

const UNITS: [&str; 3] = ["switchboard.service", "switchboard.socket", "switchboard-admin.socket"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The version of `systemd-analyze`, which starts nothing. Without it, what needs it is skipped.
fn version() -> Option<u32> {
    let output = Command::new("systemd-analyze").arg("--version").output().ok();
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(output.is_some() || !is_ci, "systemd-analyze is not installed; run ./install-packages");
    let text = String::from_utf8(output?.stdout).unwrap();
    text.split_whitespace().nth(1).and_then(|version| version.split('.').next()?.parse().ok())
}

/// The output of a command that must succeed.
#[track_caller]
fn text(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// The units as installed, with the binary of this build: `verify` looks for the programs that they name.
#[test]
fn systemd_analyze_verifies_the_units() {
    if version().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = read(&format!("deploy/systemd/{unit}"));
        std::fs::write(folder.path().join(unit), text.replace("/usr/bin/switchboard", BINARY)).unwrap();
    }
    let found = std::fs::read_dir(root().join("deploy/systemd")).unwrap().count();
    assert_eq!(found, UNITS.len(), "a file of deploy/systemd is not verified");
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(UNITS.map(|unit| folder.path().join(unit)))
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output()
        .unwrap();
    assert_eq!(text(&output), "", "systemd-analyze verify has warnings");
}

/// The score is recorded in docs/hardening.md. A setting that is removed raises it. Later versions of systemd
/// rate more settings, so only the version with which it was recorded is compared exactly.
#[test]
fn the_exposure_of_the_service_is_the_recorded_one() {
    // `--offline` came with 250; Ubuntu 22.04 has 249.
    let Some(version) = version().filter(|version| *version >= 250) else { return };
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
        .arg(root().join("deploy/systemd/switchboard.service"))
        .output()
        .unwrap();
    let text = text(&output);
    let score = text.split("switchboard.service: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    if version == 252 {
        let recorded = format!("exposure level {score} (systemd 252)");
        assert!(read("docs/hardening.md").contains(&recorded), "docs/hardening.md has no {recorded:?}");
    }
}

#[test]
fn the_documents_describe_the_units() {
    let service = read("deploy/systemd/switchboard.service");
    let has = |line: &str| service.lines().any(|found| found == line);
    assert!(has("Type=notify"), "Debian 12 and Ubuntu 22.04 have no notify-reload");
    assert!(has("ExecReload=/bin/kill -HUP $MAINPID"));
    for (unit, name) in [("switchboard.socket", "public"), ("switchboard-admin.socket", "admin")] {
        let socket = read(&format!("deploy/systemd/{unit}"));
        assert!(socket.lines().any(|line| line == format!("FileDescriptorName={name}")), "{unit}");
    }
    let install = read("docs/install.md");
    for unit in UNITS {
        assert!(install.contains(unit), "docs/install.md does not name {unit}");
    }
    // The units are the only copy of their text.
    assert!(!install.contains("[Service]\nType="), "docs/install.md repeats the unit");
}
