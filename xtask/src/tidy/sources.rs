//! The sources: their first line, blanks, unfinished work, and hosts of package registries.

use super::{
    finding::Finding,
    tree::{File, Tree},
};

/// Violations in the files that people write.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".rs") {
        findings.extend(head(file));
        findings.extend(unfinished(file));
    }
    for file in tree.files.iter().filter(|file| file.is_written_by_hand()) {
        findings.extend(blanks(file));
        findings.extend(registries(file));
    }
    findings
}

fn head(file: &File) -> Option<Finding> {
    let opens = file.text.lines().next().is_some_and(|line| line.starts_with("//! "));
    (!opens).then(|| {
        {
            Finding::new(
                file,
                1,
                "the first line is no `//!` comment; say in one sentence what the file owns",
            )
        }
    })
}

fn unfinished(file: &File) -> Vec<Finding> {
    file.numbered()
        .filter(|(_, line)| UNFINISHED.iter().any(|word| line.contains(word)))
        .map(|(number, _)| Finding::new(file, number, "unfinished code; finish or remove it"))
        .collect()
}

fn blanks(file: &File) -> Vec<Finding> {
    let mut findings: Vec<_> = file
        .numbered()
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(number, _)| Finding::new(file, number, "blanks at the end of the line"))
        .collect();
    if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
        let last = file.text.lines().count();
        findings.push(Finding::new(file, last, "the file must end with exactly one newline"));
    }
    findings
}

fn registries(file: &File) -> Vec<Finding> {
    let found = file.numbered().filter_map(|(number, line)| {
        let line = line.to_ascii_lowercase();
        let word = FORBIDDEN.iter().find(|word| line.contains(*word))?;
        Some(Finding::new(
            file,
            number,
            format!(
                "`{word}` is the host of a package registry; only the settings of a machine may name one"
            ),
        ))
    });
    found.collect()
}

/// The macros of unfinished code, in halves, so that this file does not contain them.
const UNFINISHED: [&str; 2] = [concat!("todo", "!("), concat!("unimplemented", "!(")];

/// Hosts of package registries. A build that names one of them does not work behind a mirror.
const FORBIDDEN: [&str; 4] = [
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("registry.npmjs", ".org"),
    concat!("files.pythonhosted", ".org"),
];

#[cfg(test)]
mod tests {
    use crate::tidy::tests::check;

    #[test]
    fn every_source_opens_with_a_comment() {
        check(
            &[
                ("crates/a/src/lib.rs", "//! A.\n"),
                ("crates/a/src/b.rs", "use std::fmt;\n"),
                ("crates/a/src/c.rs", ""),
            ],
            &[
                "crates/a/src/b.rs:1: the first line is no `//!` comment; say in one sentence what the file \
                 owns",
                "crates/a/src/c.rs:1: the first line is no `//!` comment; say in one sentence what the file \
                 owns",
            ],
        );
    }

    #[test]
    fn trailing_blanks_and_newlines_are_found() {
        check(
            &[("README.md", "a\nb \n\tc\t\n"), ("docs/a.md", "a\n\n"), ("docs/b.md", "a")],
            &[
                "README.md:2: blanks at the end of the line",
                "README.md:3: blanks at the end of the line",
                "docs/a.md:2: the file must end with exactly one newline",
                "docs/b.md:1: the file must end with exactly one newline",
            ],
        );
    }

    #[test]
    fn generated_files_keep_their_blanks() {
        check(&[("fixtures/README.md", "notifications/\n"), ("fixtures/notifications/a.json", "{ } ")], &[]);
    }

    #[test]
    fn unfinished_code_is_found() {
        let text = format!("//! A.\nfn a() {{ {}() }}\n", concat!("todo", "!"));
        check(&[("a.rs", &text)], &["a.rs:2: unfinished code; finish or remove it"]);
    }

    #[test]
    fn hosts_of_registries_are_found() {
        let host = concat!("index.crates", ".io");
        check(
            &[("docs/a.md", &format!("See https://{host}/x.\n")), ("Cargo.lock", &format!("{host}\n"))],
            &[&format!(
                "docs/a.md:1: `{host}` is the host of a package registry; only the settings of a machine may \
                 name one"
            )],
        );
    }
}
