//! The facts of a release that all its files share.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::commands;

/// A version of the source, for the system of this machine.
pub(super) struct Release {
    /// The root of the source.
    pub(super) root: PathBuf,
    /// Like `0.1.0`.
    pub(super) version: String,
    /// The commit, with `-dirty` if files differ from it.
    pub(super) revision: String,
    /// The time of every file, in Unix seconds: that of the commit, unless the environment has another one.
    pub(super) epoch: u64,
    /// The target of the compiler, like `x86_64-unknown-linux-gnu`.
    pub(super) target: String,
    /// The version of the compiler, and so of the standard library, like `1.95.0`.
    pub(super) compiler: String,
    /// Debian's name of the architecture, like `amd64`.
    pub(super) architecture: String,
}

impl Release {
    pub(super) fn of(root: &Path) -> Result<Self, String> {
        let git = |arguments: &[&str]| {
            commands::output(Command::new("git").arg("-C").arg(root).args(arguments))
                .map(|text| text.trim().to_owned())
        };
        let changed = !git(&["status", "--porcelain"])?.is_empty();
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        let compiler = commands::output(Command::new("rustc").arg("-vV"))?;
        let of_compiler = |name: &str| {
            let value = compiler.lines().find_map(|line| line.strip_prefix(name));
            value.map(str::to_owned).ok_or_else(|| format!("rustc -vV prints no `{name}`"))
        };
        let manifest: toml::Table = commands::read(&root.join("Cargo.toml"))?
            .parse()
            .map_err(|error| format!("Cargo.toml is not TOML: {error}"))?;
        let version = manifest
            .get("workspace")
            .and_then(|workspace| workspace.get("package"))
            .and_then(|package| package.get("version"))
            .and_then(toml::Value::as_str);
        Ok(Self {
            root: root.to_owned(),
            version: version.ok_or("Cargo.toml has no version of the workspace")?.to_owned(),
            revision: format!("{}{}", git(&["rev-parse", "HEAD"])?, if changed { "-dirty" } else { "" }),
            epoch: epoch.parse().map_err(|_| format!("SOURCE_DATE_EPOCH is not a number: {epoch}"))?,
            target: of_compiler("host: ")?,
            compiler: of_compiler("release: ")?,
            architecture: commands::output(Command::new("dpkg").arg("--print-architecture"))?
                .trim()
                .to_owned(),
        })
    }

    /// The first part of the names of files, like `switchboard-0.1.0-x86_64-unknown-linux-gnu`.
    pub(super) fn name(&self) -> String {
        format!("switchboard-{}-{}", self.version, self.target)
    }

    /// The version in the order of dpkg, in which `0.2.0~rc.1` comes before `0.2.0`.
    pub(super) fn debian_version(&self, revision: u32) -> String {
        format!("{}-{revision}", self.version.replace('-', "~"))
    }

    /// The time of the release in a format of `date`, such as `+%Y`.
    pub(super) fn date(&self, format: &str) -> Result<String, String> {
        let time = format!("@{}", self.epoch);
        let date = commands::output(Command::new("date").args(["--utc", "--date", &time, format]))?;
        Ok(date.trim().to_owned())
    }
}

/// The features of release builds.
pub(super) const FEATURES: &str = "switchboard/kubernetes,switchboard/otlp";
