//! `cargo xtask dist --verify`: two builds of one commit, whose files must have the same bytes.

use std::{path::Path, process::Command};

use super::{commands, debian::Compression, parts::Parts, release::Release};
use crate::console::say;

/// Builds the last commit in two clones, each with its own target folder, and compares the digests.
pub(super) fn run(root: &Path) -> Result<(), String> {
    let work = root.join("target/verify");
    commands::empty_folder(&work)?;
    let clones = [("one", "one/target"), ("another-name", "output")];
    // Both of them first: the builds take long, and a commit in between would be part of the second one only.
    for (clone, _) in clones {
        commands::output(Command::new("git").args(["clone", "--quiet"]).args([root, &work.join(clone)]))?;
    }
    let mut digests: Vec<String> = Vec::new();
    for (clone, target) in clones {
        let source = work.join(clone);
        let release = Release::of(&source)?;
        let target = work.join(target);
        let scratch = target.join("scratch");
        let parts = Parts::build(&release, &target, &scratch)?;
        let folder = target.join("files");
        digests.push(parts.write(&release, &folder, &scratch, Compression::Small)?);
        say(&format!("dist: the files of {clone} are in {}", folder.display()));
    }
    let [one, other] = digests.as_slice() else { return Err("there are not two builds".to_owned()) };
    for line in one.lines() {
        say(&format!("dist: {line}"));
    }
    if one == other {
        say("dist: both clones have the same bytes");
        return Ok(());
    }
    let differing: Vec<&str> =
        other.lines().filter(|line| !one.lines().any(|of_one| of_one == *line)).collect();
    Err(format!("the clones differ:\n  {}", differing.join("\n  ")))
}
