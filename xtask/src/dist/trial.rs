//! The trial of the Debian package in a root of Debian 12: install, a call, upgrades, remove, purge.

mod call;
mod rules;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use self::rules::{CONFIGURATION, SECRETS, STATE, expect};
use super::{commands, debian_root::DebianRoot};
use crate::console::say;

/// Runs the trial in this process if it is that of the root user, or else in another one by sudo.
pub(super) fn run_as_root(root: &Path, packages: &Path) -> Result<(), String> {
    if commands::output(Command::new("id").arg("-u"))?.trim() == "0" {
        return run(root, packages);
    }
    if commands::output(Command::new("sudo").args(["-n", "true"])).is_err() {
        let left_out = "the trial of the package needs root, or sudo without a password";
        if commands::is_ci() {
            return Err(left_out.to_owned());
        }
        say(&format!("dist: left out: {left_out}"));
        return Ok(());
    }
    let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let status = Command::new("sudo")
        .current_dir(root)
        .args(["-n", "--"])
        .arg(program)
        .args(["dist", "--try-packages"])
        .arg(packages)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the trial of the package failed ({status})")),
        Err(error) => Err(format!("cannot run sudo: {error}")),
    }
}

/// Tries the three versions of the package in a folder, in the order of their names.
pub(super) fn run(root: &Path, packages: &Path) -> Result<(), String> {
    let debian = DebianRoot::unpack(root, &root.join("target/dist/debian"))?;
    let before = debian.files()?;
    let [first, second, third] = packages_in(packages)?;
    say("dist: installing the package in a root of Debian 12");
    install(&debian, &first)?;
    let configuration = call::place(&debian)?;
    say("dist: a call through the installed programs was completed");
    upgrade(&debian, &second, &third, &configuration)?;
    say(
        "dist: upgrades kept the edited configuration, and restarted the unit if the configuration was valid",
    );
    remove(&debian)?;
    purge(&debian, &before)?;
    say("dist: purge left nothing behind");
    Ok(())
}

fn packages_in(folder: &Path) -> Result<[PathBuf; 3], String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut packages: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    packages.retain(|path| path.extension().is_some_and(|end| end == "deb"));
    packages.sort();
    packages.try_into().map_err(|_| format!("{} must have three packages", folder.display()))
}

/// Installs the package where no systemd runs, as in a container.
fn install(debian: &DebianRoot, package: &Path) -> Result<(), String> {
    let output = debian.install(package, &[])?;
    let check = "sh -c 'set -a; . /etc/switchboard/secrets.env; switchboard check'";
    for line in ["nothing is enabled or started", check, "systemctl enable --now switchboard"] {
        expect(output.contains(line), &format!("the installation must print `{line}`"), &output)?;
    }
    let user = debian.run(&["getent", "passwd", "switchboard"])?;
    expect(user.contains(":/nonexistent:/usr/sbin/nologin"), "the user must be unable to log in", &user)?;
    let mode = debian.run(&["stat", "--format=%a %U %G", SECRETS])?;
    expect(mode.trim() == "600 root root", "only root may read the secrets", &mode)?;
    let enabled = debian.run(&["find", "/etc/systemd", "-name", "switchboard*"])?;
    expect(enabled.trim().is_empty(), "no unit may be enabled", &enabled)?;
    // The command that the message names.
    let script = check.trim_start_matches("sh -c '").trim_end_matches('\'');
    let checked = debian.run(&["sh", "-c", script])?;
    expect(checked.starts_with("region emea; "), "the example configuration must be valid", &checked)
}

/// Upgrades with an edited configuration, under a systemd that only notes its commands.
fn upgrade(debian: &DebianRoot, second: &Path, third: &Path, configuration: &str) -> Result<(), String> {
    debian.run(&["mkdir", "-p", "/run/systemd/system"])?;
    debian.write("/usr/bin/systemctl", SYSTEMCTL)?;
    let secrets = debian.run(&["cat", SECRETS])?;
    let kept = |what: &str| {
        let now = commands::read(&debian.path(CONFIGURATION))?;
        expect(now == configuration, &format!("{what} must keep the edited configuration"), &now)?;
        let now = debian.run(&["cat", SECRETS])?;
        expect(now == secrets, &format!("{what} must keep the secrets"), "")
    };
    // dpkg has no input: a question about the configuration would fail.
    let output = debian.install(second, &[])?;
    kept("an upgrade")?;
    let done = systemctl_commands(debian)?;
    expect(!done.contains("restart"), "a unit that does not run must not be started", &done)?;
    expect(!output.contains("enable --now"), "an upgrade needs no first steps", &output)?;

    debian.write(ACTIVE, "")?;
    debian.install(third, &["--force-confold"])?;
    kept("an upgrade with another example")?;
    let example = commands::read(&debian.path(&format!("{CONFIGURATION}.dpkg-dist")))?;
    expect(
        example.ends_with("# A later version.\n"),
        "the new example must be beside the configuration",
        "",
    )?;
    let done = systemctl_commands(debian)?;
    expect(done.contains("restart switchboard.service"), "a unit that runs must be restarted", &done)?;
    expect(!done.contains("stop"), "an upgrade must not stop the unit earlier", &done)?;

    debian.write(CONFIGURATION, &configuration.replace("[[app]]", "[[apps]]"))?;
    let output = debian.install(third, &["--force-confold"])?;
    let problem = format!("{CONFIGURATION}:");
    expect(output.contains(&problem), "the upgrade must print the problem of the configuration", &output)?;
    expect(output.contains("was not restarted"), "the upgrade must say what it left out", &output)?;
    let done = systemctl_commands(debian)?;
    expect(done.contains("is-active"), "the upgrade must look at the unit", &done)?;
    expect(!done.contains("start "), "an invalid configuration must not restart the unit", &done)
}

fn remove(debian: &DebianRoot) -> Result<(), String> {
    debian.run(&["dpkg", "--remove", PACKAGE])?;
    let done = systemctl_commands(debian)?;
    expect(
        done.contains("stop switchboard.socket switchboard-admin.socket switchboard.service"),
        "a unit that runs must be stopped",
        &done,
    )?;
    expect(!debian.path("/usr/bin/switchboard").exists(), "the program must be removed", "")?;
    for kept in [CONFIGURATION, SECRETS, STATE] {
        expect(debian.path(kept).exists(), &format!("{kept} must stay until the purge"), "")?;
    }
    debian.run(&["getent", "passwd", "switchboard"]).map(|_| ())
}

fn purge(debian: &DebianRoot, before: &[String]) -> Result<(), String> {
    // The link of `systemctl enable`.
    let wants = "/etc/systemd/system/multi-user.target.wants";
    debian.run(&["mkdir", "-p", wants])?;
    let unit = "/lib/systemd/system/switchboard.service";
    debian.run(&["ln", "-s", unit, &format!("{wants}/switchboard.service")])?;
    debian.run(&["dpkg", "--purge", PACKAGE])?;
    debian.run(&["rm", "-r", "/run/systemd", "/usr/bin/systemctl", ACTIVE, COMMANDS])?;
    debian.run(&["rmdir", "--ignore-fail-on-non-empty", wants])?;
    let after = debian.files()?;
    let left: Vec<&str> = after.iter().filter(|path| !before.contains(path)).map(String::as_str).collect();
    expect(left.is_empty(), "purge must remove all files", &left.join("\n"))?;
    let missing: Vec<&str> = before.iter().filter(|path| !after.contains(path)).map(String::as_str).collect();
    expect(missing.is_empty(), "purge must remove no other file", &missing.join("\n"))?;
    let users = debian.run(&["cat", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"])?;
    expect(!users.contains("switchboard"), "purge must remove the user and its group", &users)
}

/// Returns the commands that systemctl received since the last time.
fn systemctl_commands(debian: &DebianRoot) -> Result<String, String> {
    let commands = commands::read(&debian.path(COMMANDS))?;
    debian.write(COMMANDS, "")?;
    Ok(commands)
}

const PACKAGE: &str = "switchboard-gateway";
/// The commands that systemctl received.
const COMMANDS: &str = "/systemctl-commands";
/// Exists while the unit runs.
const ACTIVE: &str = "/unit-is-active";

/// A systemctl that notes its arguments and starts nothing.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>/systemctl-commands
case " $* " in
    *" is-active "*) [ -e /unit-is-active ] ;;
    *" is-enabled "*) echo enabled ;;
esac
"#;
