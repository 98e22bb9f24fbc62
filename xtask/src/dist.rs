//! `cargo xtask dist`: the archive, the Debian package, the SBOM and the digests of a release. The same
//! commit yields the same bytes in every folder.

mod archive;
mod build;
mod commands;
mod contents;
mod debian;
mod debian_root;
mod licences;
mod linked;
mod parts;
mod release;
mod sbom;
mod symbols;
mod trial;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use self::{build::Programs, debian::Compression, parts::Parts, release::Release, symbols::Needs};
use crate::{
    console::{complain, say},
    support::binaries::{self, Binaries, Profile},
};

/// The options of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run the form that the gate runs: package debug builds, and try the Debian package.
    #[arg(long, conflicts_with = "verify")]
    quick: bool,
    /// Install, use, upgrade, remove and purge the Debian package in a root of Debian 12. Needs root, or sudo
    /// without a password.
    #[arg(long = "try", conflicts_with = "verify")]
    is_tried: bool,
    /// Build the last commit in two clones, in folders of different names, and compare the bytes. Takes two
    /// optimised builds.
    #[arg(long)]
    verify: bool,
    /// Package the programs in this folder, and build nothing. For --quick.
    #[arg(long, value_name = "FOLDER", requires = "quick")]
    binaries: Option<PathBuf>,
    /// Try the packages in this folder, and build nothing.
    #[arg(long, hide = true, value_name = "FOLDER")]
    try_packages: Option<PathBuf>,
}

impl Options {
    /// The form that the gate runs.
    pub(crate) fn of_gate() -> Self {
        Self { quick: true, is_tried: true, verify: false, binaries: None, try_packages: None }
    }
}

/// Makes the files of a release in `target/dist`.
pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    let done = match &options.try_packages {
        Some(folder) => trial::run(root, folder),
        None if options.verify => verify::run(root),
        None => make(root, options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&format!("dist: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn make(root: &Path, options: &Options) -> Result<(), String> {
    let release = Release::of(root)?;
    let work = root.join("target/dist");
    let scratch = work.join("scratch");
    let (parts, folder, compression) = if options.quick {
        let built = match &options.binaries {
            Some(folder) => Binaries::in_folder(folder)?,
            None => binaries::build(root, Profile::Dev)?,
        };
        let programs = Programs { gateway: built.gateway, emulator: built.emulator };
        if let Err(problem) = Needs::of(&[&programs.gateway, &programs.emulator])?.depends()
            && symbols::is_host_newer()
        {
            say(&format!("dist: left out, since this system is newer than Debian 12: {problem}"));
            return Ok(());
        }
        let crates = linked::crates(root, &release.target)?;
        let parts = Parts::collect(&release, &programs, &crates, &scratch)?;
        (parts, work.join("quick"), Compression::Fast)
    } else {
        let parts = Parts::build(&release, &work.join("build"), &scratch)?;
        (parts, work.join("files"), Compression::Small)
    };
    say(&format!("dist: writing the archive and the package into {}", folder.display()));
    for line in parts.write(&release, &folder, &scratch, compression)?.lines() {
        say(&format!("dist: {line}"));
    }
    if options.quick || options.is_tried {
        for line in debian::lint(&release, &folder)?.lines() {
            say(&format!("dist: lintian: {line}"));
        }
        let packages = work.join("packages");
        parts.write_for_trial(&release, &packages, &scratch)?;
        trial::run_as_root(root, &packages)?;
    }
    Ok(())
}
