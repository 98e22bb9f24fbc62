//! The binaries of the gateway and the emulator, built by cargo or taken from a folder.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The paths of the binaries.
pub(crate) struct Binaries {
    pub(crate) gateway: PathBuf,
    pub(crate) emulator: PathBuf,
    /// `None` if nothing that runs needs a DNS server.
    pub(crate) dns_server: Option<PathBuf>,
}

/// The profile of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Binaries {
    /// The binaries in a folder.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, String> {
        let binary = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(format!("there is no file {}", path.display())) }
        };
        Ok(Self {
            gateway: binary("switchboard")?,
            emulator: binary("switchboard-emulator")?,
            dns_server: None,
        })
    }
}

/// Builds both binaries, with cargo's progress on the terminal.
pub(crate) fn build(root: &Path, profile: Profile) -> Result<Binaries, String> {
    let profile = match profile {
        Profile::Dev => "dev",
        Profile::Release => "release",
    };
    let packages = ["-p", "switchboard", "-p", "switchboard-emulator", "--bins", "--profile", profile];
    let built = cargo_build(root, &packages)?;
    Ok(Binaries {
        gateway: built.executable("switchboard")?,
        emulator: built.executable("switchboard-emulator")?,
        dns_server: None,
    })
}

/// Builds the gateway with an optimised profile: `release`, or `gate`, which builds faster. It has the
/// features of the releases, so a feature that costs requests without its settings shows in their cost.
pub(crate) fn build_gateway(root: &Path, profile: &str) -> Result<PathBuf, String> {
    let options = ["-p", "switchboard", "--bin", "switchboard", "--features", RELEASE_FEATURES];
    cargo_build(root, &[&options, ["--profile", profile, "--locked"].as_slice()].concat())?
        .executable("switchboard")
}

/// Builds the load generator and the servers without checks of a benchmark.
pub(crate) fn build_bench_tool(root: &Path) -> Result<PathBuf, String> {
    cargo_build(root, &["-p", "xtask-bench", "--profile", "gate", "--locked"])?.executable("xtask-bench")
}

/// Builds the DNS server of a rehearsal. Its speed does not matter, so it is always a debug build.
pub(crate) fn build_dns_server(root: &Path) -> Result<PathBuf, String> {
    cargo_build(root, &["-p", "switchboard-delivery", "--example", "dns_server"])?.executable("dns_server")
}

/// The features of the binaries and the image of a release.
const RELEASE_FEATURES: &str = "kubernetes,otlp";

/// The messages of a build.
struct Built(String);

fn cargo_build(root: &Path, options: &[&str]) -> Result<Built, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .arg("build")
        .args(options)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the build failed".to_owned());
    }
    Ok(Built(String::from_utf8_lossy(&output.stdout).into_owned()))
}

impl Built {
    /// Cargo reports the paths, so the target folder and the profile need not be guessed.
    fn executable(&self, name: &str) -> Result<PathBuf, String> {
        self.0
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message.pointer("/target/name").is_some_and(|target| target == name))
            .find_map(|message| message.get("executable").and_then(Value::as_str).map(PathBuf::from))
            .ok_or_else(|| format!("cargo built no {name}"))
    }
}
