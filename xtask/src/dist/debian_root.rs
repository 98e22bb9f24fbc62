//! A root of Debian 12 in which a package is installed and its programs run.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::commands;
use crate::console::say;

/// The folder of a root. Dropping it removes the folder.
pub(super) struct DebianRoot(PathBuf);

impl DebianRoot {
    /// Unpacks the root of `target/tools` into `folder`. If there is none, debootstrap makes it, which needs
    /// the mirror of Debian and takes a minute.
    pub(super) fn unpack(root: &Path, folder: &Path) -> Result<Self, String> {
        let architecture = commands::output(Command::new("dpkg").arg("--print-architecture"))?;
        let tools = root.join("target/tools");
        let archive = tools.join(format!("debian-{SUITE}-{}.tar", architecture.trim()));
        if !archive.exists() {
            make(&tools, &archive)?;
        }
        commands::empty_folder(folder)?;
        let unpacked = Self(folder.to_owned());
        let options = ["--extract", "--same-owner", "--preserve-permissions", "--numeric-owner", "--file"];
        commands::output(Command::new("tar").args(options).arg(&archive).arg("--directory").arg(folder))?;
        Ok(unpacked)
    }

    /// The path of a file from outside the root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// A program in the root, as a user of it, without the environment of this process.
    pub(super) fn command(&self, user: &str, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command
            .arg(format!("--userspec={user}"))
            .arg(&self.0)
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }

    /// Runs a program in the root as its root user, and returns all its output.
    pub(super) fn run(&self, words: &[&str]) -> Result<String, String> {
        // The shell joins both kinds of output in their order.
        commands::output(
            self.command("root:root", "/bin/sh").args(["-c", "exec \"$@\" 2>&1", "sh"]).args(words),
        )
        .map_err(|error| format!("`{}` in the root of Debian: {error}", words.join(" ")))
    }

    /// Installs a package file.
    pub(super) fn install(&self, package: &Path, options: &[&str]) -> Result<String, String> {
        let inside = self.path("package.deb");
        fs::copy(package, &inside).map_err(|error| format!("cannot copy {}: {error}", package.display()))?;
        let words: Vec<&str> =
            ["dpkg"].iter().chain(options).chain(&["--install", "/package.deb"]).copied().collect();
        let installed = self.run(&words);
        let _ = fs::remove_file(inside);
        installed
    }

    /// Writes a file that every user may read, or run if it is a script.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<(), String> {
        let path = self.path(path);
        commands::write(&path, text)?;
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(|error| format!("cannot set the mode of {}: {error}", path.display()))
    }

    /// The paths of all files and folders, but the records of dpkg, logs, locks, and the earlier versions of
    /// the files of users.
    pub(super) fn files(&self) -> Result<Vec<String>, String> {
        let left_out = ["./var/lib/dpkg/*", "./var/log/*", "./var/cache/*", "./etc/*-", "./run/*"];
        let mut find = Command::new("find");
        find.current_dir(&self.0).args([".", "-xdev"]);
        for pattern in left_out {
            find.args(["!", "-path", pattern]);
        }
        let mut files: Vec<String> = commands::output(&mut find)?.lines().map(str::to_owned).collect();
        files.sort();
        Ok(files)
    }
}

impl Drop for DebianRoot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the archive of a root.
fn make(tools: &Path, archive: &Path) -> Result<(), String> {
    say(&format!("dist: making a root of Debian {SUITE}, which takes a minute"));
    let folder = tools.join(format!("debian-{}", std::process::id()));
    commands::empty_folder(&folder)?;
    let unfinished = DebianRoot(folder.clone());
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--force-check-gpg", "--variant=minbase", &format!("--include={PACKAGES}"), SUITE]);
    debootstrap.arg(&folder).args(mirror()?);
    commands::output(&mut debootstrap)?;
    // A third of its size.
    for cache in ["var/cache/apt", "var/lib/apt/lists", "usr/share/locale", "usr/share/doc"] {
        commands::empty_folder(&folder.join(cache))?;
    }
    let part = folder.with_extension("tar");
    let options = ["--create", "--numeric-owner", "--one-file-system", "--file"];
    commands::output(Command::new("tar").args(options).arg(&part).arg("--directory").arg(&folder).arg("."))?;
    drop(unfinished);
    fs::rename(&part, archive).map_err(|error| format!("cannot write {}: {error}", archive.display()))
}

/// The mirror from which apt on this machine installs the suite. Without one, debootstrap has its own.
fn mirror() -> Result<Option<String>, String> {
    let format = "$(CREATED_BY) $(CODENAME) $(REPO_URI)";
    let targets = commands::output(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    Ok(mirror_among(&targets))
}

fn mirror_among(targets: &str) -> Option<String> {
    let start = format!("Packages {SUITE} ");
    let mut addresses = targets.lines().filter_map(|line| line.strip_prefix(&start));
    addresses
        .find(|address| ["http:", "https:", "file:"].iter().any(|scheme| address.starts_with(scheme)))
        .map(str::to_owned)
}

/// Debian 12.
const SUITE: &str = "bookworm";
/// The packages on which ours depends, so that dpkg needs no network.
const PACKAGES: &str = "adduser,ca-certificates,libssl3";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_suite() {
        let targets = "Packages bookworm-security http://security.example/\n\
                       DEP-11 bookworm http://dep.example/\n\
                       Packages bookworm mirror+file:/etc/apt/mirrors\n\
                       Packages bookworm http://mirror.example/debian/\n";
        assert_eq!(mirror_among(targets), Some("http://mirror.example/debian/".to_owned()));
        assert_eq!(mirror_among("Packages noble http://mirror.example/ubuntu/\n"), None);
    }
}
