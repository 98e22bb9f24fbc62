//! `cargo xtask tidy`: the rules of this repository that no compiler checks. Each problem says file, line and what would
//! be right.

mod documents;
mod manifests;
mod sources;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{complain, say};

/// Checks the tree at `root`, prints what is wrong, and fails if something is.
pub(crate) fn run(root: &Path) -> ExitCode {
    let findings = match Tree::read(root) {
        Ok(tree) => findings(&tree),
        Err(error) => {
            complain(&format!("tidy: the tree cannot be read: {error}"));
            return ExitCode::FAILURE;
        }
    };
    for finding in &findings {
        complain(&finding.to_string());
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    if problems == 0 {
        say("tidy: in order");
        return ExitCode::SUCCESS;
    }
    complain(&format!("tidy: {problems} to mend"));
    ExitCode::FAILURE
}

/// Every rule over the whole tree.
fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = manifests::findings(tree);
    findings.extend(sources::findings(tree));
    findings.extend(documents::findings(tree));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}

/// The text files of the repository.
struct Tree {
    root: PathBuf,
    files: Vec<File>,
}

/// One text file.
struct File {
    /// Relative to the root, with `/` between the parts.
    path: String,
    text: String,
}

impl Tree {
    /// Reads all that is kept by hand: build output, the repository's own data and files that are not text are left out.
    fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(inner) = folders.pop() {
            for entry in fs::read_dir(root.join(&inner))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = if inner.is_empty() { name } else { format!("{inner}/{name}") };
                if entry.file_type()?.is_dir() {
                    if !LEFT_OUT.contains(&path.as_str()) {
                        folders.push(path);
                    }
                } else if let Ok(text) = String::from_utf8(fs::read(entry.path())?) {
                    files.push(File { path, text });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root: root.to_owned(), files })
    }

    /// The files whose path ends with `end`.
    fn ending<'t>(&'t self, end: &'t str) -> impl Iterator<Item = &'t File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }
}

/// Something that is not as it should be.
#[derive(Debug)]
struct Finding {
    path: String,
    /// From 1.
    line: usize,
    level: Level,
    text: String,
}

/// Whether a finding fails the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Problem,
    Warning,
}

impl Finding {
    fn problem(file: &File, line: usize, text: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, level: Level::Problem, text: text.into() }
    }

    fn warning(file: &File, line: usize, text: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::problem(file, line, text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = match self.level {
            Level::Problem => "",
            Level::Warning => "warning: ",
        };
        write!(f, "{}:{}: {warning}{}", self.path, self.line, self.text)
    }
}

/// The line, from 1, of the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

const LEFT_OUT: [&str; 2] = [".git", "target"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `files`, and asserts what every rule together says of them.
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
    fn an_empty_tree_is_in_order() {
        check(&[], &[]);
    }

    #[test]
    fn build_output_is_left_out() {
        check(&[("target/debug/build/x.rs", "no head \n"), (".git/HEAD", "ref \n")], &[]);
    }

    #[test]
    fn findings_come_in_the_order_of_the_tree() {
        check(
            &[("b.rs", "//! B.\nfn b() {} \n"), ("a.rs", "fn a() {} \n")],
            &[
                "a.rs:1: opens without `//!`; say in one sentence what the file owns",
                "a.rs:1: blanks at the end of the line",
                "b.rs:2: blanks at the end of the line",
            ],
        );
    }
}
