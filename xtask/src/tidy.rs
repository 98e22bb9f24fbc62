//! `cargo xtask tidy`: the rules of this repository that no compiler checks. Each finding names the file and
//! the line, and says what would be right.

mod attributes;
mod circles;
mod documents;
mod finding;
mod lengths;
mod manifests;
mod portability;
mod sources;
mod syntax;
mod tree;
mod words;

use std::{path::Path, process::ExitCode};

use self::{finding::Finding, tree::Tree};
use crate::console::{complain, report};

/// Checks the tree at `root` and prints every violation; fails if there is one.
pub(crate) fn run(root: &Path) -> ExitCode {
    let findings = match Tree::read(root) {
        Ok(tree) => findings(&tree).iter().map(ToString::to_string).collect::<Vec<_>>(),
        Err(error) => {
            complain(&format!("tidy: cannot read the files below {}: {error}", root.display()));
            return ExitCode::FAILURE;
        }
    };
    report("tidy", &findings)
}

/// Every rule over the whole tree, in the order of the files.
fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = manifests::findings(tree);
    findings.extend(sources::findings(tree));
    findings.extend(words::findings(tree));
    findings.extend(lengths::findings(tree));
    findings.extend(circles::findings(tree));
    findings.extend(documents::findings(tree));
    findings.extend(portability::findings(tree));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    // A word may occur twice in a line, and two rules may report that a file cannot be parsed.
    findings.dedup_by(|a, b| (&a.path, a.line, &a.text) == (&b.path, b.line, &b.text));
    findings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes `files`, and compares the findings of all rules with `expected`.
    #[track_caller]
    pub(super) fn check(files: &[(&str, &str)], expected: &[&str]) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found: Vec<_> =
            findings(&Tree::read(root.path()).unwrap()).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_empty_tree_passes() {
        check(&[], &[]);
    }

    #[test]
    fn build_output_is_ignored() {
        check(&[("target/debug/build/x.rs", "no head \n"), (".git/HEAD", "ref \n")], &[]);
        check(&[("packages/python/build/lib/x.py", "x \n")], &[]);
        check(&[("packages/python/src/switchboard_emulator.egg-info/PKG-INFO", "x \n")], &[]);
    }

    #[test]
    fn findings_are_sorted_by_file_and_line() {
        check(
            &[("b.rs", "//! B.\nfn b() {} \n"), ("a.rs", "fn a() {} \n")],
            &[
                "a.rs:1: the first line is no `//!` comment; say in one sentence what the file owns",
                "a.rs:1: blanks at the end of the line",
                "b.rs:2: blanks at the end of the line",
            ],
        );
    }
}
