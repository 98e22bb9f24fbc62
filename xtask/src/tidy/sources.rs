//! The sources: heads, length, blanks, unfinished work, and words that do not belong here.

use super::{File, Finding, Tree};

/// What is wrong in files that people write.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".rs") {
        findings.extend(head(file));
        findings.extend(length(file));
        findings.extend(unfinished(file));
    }
    for file in tree.files.iter().filter(|file| is_written_by_hand(&file.path)) {
        findings.extend(blanks(file));
        findings.extend(words(file));
    }
    findings
}

fn head(file: &File) -> Option<Finding> {
    let opens = file.text.lines().next().is_some_and(|line| line.starts_with("//! "));
    (!opens).then(|| Finding::problem(file, 1, "opens without `//!`; say in one sentence what the file owns"))
}

/// A warning only: a file may have a reason to be long, but someone should have thought of it.
fn length(file: &File) -> Option<Finding> {
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let lines = file.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    (!is_test && lines > LINES_MAX).then(|| {
        let text = format!(
            "{lines} lines before the tests; over {LINES_MAX} a file has more than one subject: split it"
        );
        Finding::warning(file, LINES_MAX + 1, text)
    })
}

fn unfinished(file: &File) -> Vec<Finding> {
    numbered(file)
        .filter(|(_, line)| UNFINISHED.iter().any(|word| line.contains(word)))
        .map(|(number, _)| Finding::problem(file, number, "unfinished; write it, or leave it out"))
        .collect()
}

fn blanks(file: &File) -> Vec<Finding> {
    let mut findings: Vec<_> = numbered(file)
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(number, _)| Finding::problem(file, number, "blanks at the end of the line"))
        .collect();
    if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
        let last = file.text.lines().count();
        findings.push(Finding::problem(file, last, "ends with one newline: no more, no less"));
    }
    findings
}

fn words(file: &File) -> Vec<Finding> {
    let found = numbered(file).filter_map(|(number, line)| {
        let line = line.to_ascii_lowercase();
        let word = FORBIDDEN.iter().find(|word| line.contains(*word))?;
        Some(Finding::problem(
            file,
            number,
            format!("names `{word}`; where packages come from is the business of each machine's cargo"),
        ))
    });
    found.collect()
}

fn numbered(file: &File) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(file.text.split('\n'))
}

/// Neither generated nor taken over word for word.
fn is_written_by_hand(path: &str) -> bool {
    !path.starts_with("fixtures/") && !path.starts_with("LICENSE-") && path != "Cargo.lock"
        || path == "fixtures/README.md"
}

const LINES_MAX: usize = 600;

/// Put together from halves, so that this file does not hold them.
const UNFINISHED: [&str; 2] = [concat!("todo", "!("), concat!("unimplemented", "!(")];

/// Hosts of package registries: a build that asks one of them by name does not work behind a mirror.
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
    fn every_source_says_what_it_owns() {
        check(
            &[
                ("crates/a/src/lib.rs", "//! A.\n"),
                ("crates/a/src/b.rs", "use std::fmt;\n"),
                ("crates/a/src/c.rs", ""),
            ],
            &[
                "crates/a/src/b.rs:1: opens without `//!`; say in one sentence what the file owns",
                "crates/a/src/c.rs:1: opens without `//!`; say in one sentence what the file owns",
            ],
        );
    }

    #[test]
    fn blanks_at_the_end_are_found() {
        check(
            &[("README.md", "a\nb \n\tc\t\n"), ("docs/a.md", "a\n\n"), ("docs/b.md", "a")],
            &[
                "README.md:2: blanks at the end of the line",
                "README.md:3: blanks at the end of the line",
                "docs/a.md:2: ends with one newline: no more, no less",
                "docs/b.md:1: ends with one newline: no more, no less",
            ],
        );
    }

    #[test]
    fn generated_files_keep_their_blanks() {
        check(&[("fixtures/README.md", "notifications/\n"), ("fixtures/notifications/a.json", "{ } ")], &[]);
    }

    #[test]
    fn unfinished_work_is_found() {
        let text = format!("//! A.\nfn a() {{ {}() }}\n", concat!("todo", "!"));
        check(&[("a.rs", &text)], &["a.rs:2: unfinished; write it, or leave it out"]);
    }

    #[test]
    fn a_long_file_is_warned_of_and_its_tests_do_not_count() {
        let code = format!("//! A.\n{}", "fn a() {}\n".repeat(599));
        let tests = "#[cfg(test)]\nmod tests {}\n";
        check(&[("a.rs", &format!("{code}{tests}")), ("b/tests.rs", &format!("{code}{code}"))], &[]);
        check(
            &[("a.rs", &format!("{code}fn b() {{}}\n{tests}"))],
            &[
                "a.rs:601: warning: 601 lines before the tests; over 600 a file has more than one subject: split it",
            ],
        );
    }

    #[test]
    fn hosts_of_registries_are_not_named() {
        let host = concat!("index.crates", ".io");
        check(
            &[("docs/a.md", &format!("See https://{host}/x.\n")), ("Cargo.lock", &format!("{host}\n"))],
            &[&format!(
                "docs/a.md:1: names `{host}`; where packages come from is the business of each machine's cargo"
            )],
        );
    }
}
