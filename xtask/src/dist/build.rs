//! The programs of a release: built so that the bytes do not depend on the folder, the user or the time.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{
    commands,
    linked::{CrateId, Crates},
    release::{FEATURES, Release},
};

/// The programs of a release.
pub(super) const PROGRAMS: [&str; 2] = ["switchboard", "switchboard-emulator"];

/// The paths of both programs.
pub(super) struct Programs {
    pub(super) gateway: PathBuf,
    pub(super) emulator: PathBuf,
}

impl Programs {
    /// The path of the program `switchboard` or `switchboard-emulator`.
    pub(super) fn path(&self, name: &str) -> &Path {
        if name == "switchboard" { &self.gateway } else { &self.emulator }
    }
}

/// Builds both programs with the profile `release`. Fails if the compiler built another set of crates for
/// them than `crates`, which the SBOM lists.
pub(super) fn release(release: &Release, target_folder: &Path, crates: &Crates) -> Result<Programs, String> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(&release.root)
        .args(["build", "--release", "--locked", "-p", "switchboard", "-p", "switchboard-emulator", "--bins"])
        .args(["--features", FEATURES, "--message-format=json-render-diagnostics"])
        // With a target, the output of crates that only the build uses is in another folder.
        .args(["--target", &release.target, "--target-dir"])
        .arg(target_folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&release.root, target_folder)?)
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .env("SWITCHBOARD_REVISION", &release.revision)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the build failed".to_owned());
    }
    let folder = target_folder.join(&release.target).join("release");
    let built = built(&String::from_utf8_lossy(&output.stdout), &folder);
    compare(&built, crates)?;
    Ok(Programs { gateway: folder.join("switchboard"), emulator: folder.join("switchboard-emulator") })
}

/// Replaces the folders of this build in messages of panics by the same ones everywhere.
fn flags(root: &Path, target_folder: &Path) -> Result<String, String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo"))).ok_or("there is no CARGO_HOME")?;
    // The last flag that matches a path applies, and the target folder may be inside the root.
    let folders = [(root, "/switchboard"), (&home, "/cargo"), (target_folder, "/target")];
    let flags = folders.map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()));
    Ok(flags.join("\u{1f}"))
}

/// The crates that cargo reports as built into `folder`, which no crate of a macro or a build script is.
fn built(messages: &str, folder: &Path) -> BTreeSet<CrateId> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_target = messages.filter(|message| {
        let files = message.get("filenames").and_then(Value::as_array);
        files.is_some_and(|files| {
            files.iter().filter_map(Value::as_str).any(|file| Path::new(file).starts_with(folder))
        })
    });
    of_target
        .filter_map(|message| {
            // Like `registry+https://example.com#serde@1.0.229`, or `path+file:///source/crates/a#0.1.0`.
            let (source, name) = message.get("package_id")?.as_str()?.split_once('#')?;
            let (name, version) =
                name.split_once('@').or_else(|| Some((source.rsplit('/').next()?, name)))?;
            Some(CrateId { name: name.to_owned(), version: version.to_owned() })
        })
        .collect()
}

fn compare(built: &BTreeSet<CrateId>, crates: &Crates) -> Result<(), String> {
    let listed: BTreeSet<CrateId> = crates.keys().cloned().collect();
    let difference: Vec<String> =
        built.symmetric_difference(&listed).map(|id| format!("{} {}", id.name, id.version)).collect();
    if difference.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the SBOM and the build do not have the same crates; one of them lacks {}",
        difference.join(", ")
    ))
}

/// Copies a program without its symbol table, which is a quarter of its size.
pub(super) fn stripped(program: &Path, scratch: &Path) -> Result<Vec<u8>, String> {
    let copy = scratch.join("stripped");
    commands::output(Command::new("strip").arg("--strip-unneeded").arg("-o").arg(&copy).arg(program))?;
    commands::read_bytes(&copy)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::dist::linked::Crate;

    #[test]
    fn a_crate_that_the_sbom_lacks_is_named() {
        let folder = Path::new("/t/x86/release");
        let message = |id: &str, file: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"package_id\":\"{id}\",\"filenames\":[\"{file}\"]}}\n"
            )
        };
        let messages = [
            message("registry+https://example.com/index#a@1.0.0", "/t/x86/release/deps/liba.rlib"),
            message("path+file:///source/crates/b#2.0.0", "/t/x86/release/deps/libb.rlib"),
            message("registry+https://example.com/index#macro@1.0.0", "/t/release/deps/libmacro.so"),
            "{\"reason\":\"build-finished\",\"success\":true}\n".to_owned(),
        ]
        .concat();
        let built = built(&messages, folder);
        let names: Vec<_> = built.iter().map(|id| format!("{} {}", id.name, id.version)).collect();
        assert_eq!(names, ["a 1.0.0", "b 2.0.0"]);

        let mut crates = Crates::new();
        for id in &built {
            let described = Crate {
                licence: "MIT".to_owned(),
                checksum: None,
                repository: None,
                folder: PathBuf::new(),
                uses: BTreeSet::new(),
            };
            crates.insert(id.clone(), described);
        }
        assert_eq!(compare(&built, &crates), Ok(()));
        crates.pop_first();
        assert!(compare(&built, &crates).unwrap_err().ends_with("lacks a 1.0.0"));
    }

    #[test]
    fn the_folder_of_the_target_is_replaced_after_the_root() {
        let flags = flags(Path::new("/source"), Path::new("/source/target")).unwrap();
        let flags: Vec<_> = flags.split('\u{1f}').collect();
        assert_eq!(flags.first(), Some(&"--remap-path-prefix=/source=/switchboard"));
        assert_eq!(flags.last(), Some(&"--remap-path-prefix=/source/target=/target"));
    }
}
