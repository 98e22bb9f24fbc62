//! Parts of the system that exist on Unix only, in code that every system compiles.
//!
//! A compiler for another system would find them. The gate has none, so this check looks for the paths, the
//! methods of extension traits, and the names that a file defines on Unix only.

mod conditions;
mod reader;
mod unix_only;

use std::collections::BTreeSet;

use self::{
    conditions::Systems,
    reader::{FileReader, ReadFile},
};
use super::{
    finding::Finding,
    tree::{File, Tree},
};

/// Violations in the crates of the product and in their tests.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut read: Vec<(&File, ReadFile)> = Vec::new();
    for file in tree.ending(".rs").filter(|file| file.path.starts_with("crates/") && may_matter(file)) {
        match FileReader::read(file) {
            Ok(parts) => read.push((file, parts)),
            Err(error) => {
                let line = error.span().start().line;
                findings.push(Finding::new(file, line, format!("is not Rust: {error}")));
            }
        }
    }
    let on_unix_only = files_on_unix_only(tree, &read);
    for (file, parts) in read.iter().filter(|(file, _)| !on_unix_only.contains(&file.path)) {
        findings.extend(parts.problems().into_iter().map(|(line, text)| Finding::new(file, line, text)));
    }
    findings
}

/// False for files that need not be parsed, which are most.
fn may_matter(file: &File) -> bool {
    MARKS.iter().any(|mark| file.text.contains(mark))
}

/// The files of modules that are declared under `cfg(unix)`, and of the modules in these.
fn files_on_unix_only(tree: &Tree, read: &[(&File, ReadFile)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    for (_, parts) in read {
        open.extend(
            parts.modules.iter().filter(|(_, on)| *on == Systems::Unix).map(|(path, _)| path.clone()),
        );
    }
    while let Some(module) = open.pop() {
        for path in [format!("{module}.rs"), format!("{module}/mod.rs")] {
            let Some(file) = tree.file(&path) else { continue };
            if found.insert(path) {
                let parts = FileReader::read(file).map(|parts| parts.modules).unwrap_or_default();
                open.extend(parts.into_iter().map(|(path, _)| path));
            }
        }
    }
    found
}

/// A file without any of these texts has nothing that exists on Unix only.
const MARKS: [&str; 10] =
    ["os::", "os}", "nix", "Unix", "rustix", "libc", "signal_hook", "process_group", "pre_exec", "arg0"];

#[cfg(test)]
mod tests;
