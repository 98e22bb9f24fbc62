//! Sets `SWITCHBOARD_REVISION` for the crate: the variable of the build, else the commit that is checked out.
#![expect(clippy::print_stdout, reason = "cargo reads its instructions from there")]

mod revision;

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    if env::var(VARIABLE).is_ok_and(|revision| !revision.is_empty()) {
        return;
    }
    // Only release builds name the commit: it would make cargo compile the crate anew after each commit.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let found = env::var("CARGO_MANIFEST_DIR").ok().filter(|_| is_release);
    let found = found.and_then(|folder| revision::of_crate(Path::new(&folder)));
    for file in found.iter().flat_map(|found| &found.sources) {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let commit = found.map_or_else(|| "unknown".to_owned(), |found| found.commit);
    println!("cargo::rustc-env={VARIABLE}={commit}");
}

const VARIABLE: &str = "SWITCHBOARD_REVISION";
