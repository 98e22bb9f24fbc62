//! The width of lines, and the length of files.

use std::ops::RangeInclusive;

use syn::spanned::Spanned;

use super::{
    attributes,
    finding::Finding,
    syntax::Syntax,
    tree::{File, Tree},
};

/// Lines that are too wide, and files that are too long.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_written_by_hand()) {
        if file.path.ends_with(".rs") {
            findings.extend(length(file));
            findings.extend(wide_code(file));
        } else if file.path.ends_with(".md") {
            findings.extend(wide_prose(file));
        } else if !file.path.ends_with(".json") {
            // JSON is exempt: its strings cannot be broken.
            findings.extend(wide_code(file));
        }
    }
    findings
}

/// A file that is too long without its tests and gives no reason, or a short one with a reason.
fn length(file: &File) -> Option<Finding> {
    let lines = match file.text.lines().count() {
        _ if file.is_test() => 0,
        // Most files are short as a whole, and need not be parsed.
        whole if whole <= LINES_MAX => whole,
        whole => whole - lines_of_tests(&file.text),
    };
    let reason = file.text.lines().take_while(|line| line.starts_with("//!")).position(|line| {
        line.strip_prefix(REASON).is_some_and(|reason| !reason.trim_matches([' ', '.', '…']).is_empty())
    });
    match reason {
        None if lines > LINES_MAX => Some(Finding::new(
            file,
            LINES_MAX + 1,
            format!(
                "the file has {lines} lines without its tests, and the limit is {LINES_MAX}; split it by \
                 subject, or give the reason at its top: `{REASON}…`"
            ),
        )),
        Some(at) if lines <= LINES_MAX => Some(Finding::new(
            file,
            at + 1,
            format!("the file has {lines} lines without its tests; it needs no reason for its length"),
        )),
        _ => None,
    }
}

/// The number of lines of the items that only tests compile; 0 if the file does not parse, which `words`
/// reports.
fn lines_of_tests(text: &str) -> usize {
    let Ok(file) = syn::parse_file(text) else { return 0 };
    let tests = file.items.iter().filter(|item| attributes::is_test_only(attributes::of(item)));
    tests
        .map(|item| {
            let span = item.span();
            span.end().line + 1 - span.start().line
        })
        .sum()
}

fn wide_code(file: &File) -> Vec<Finding> {
    let wide: Vec<_> = file
        .numbered()
        .filter(|(_, line)| is_wide(line, CODE_MAX) && !ends_in_link(line, CODE_MAX))
        .filter(|(_, line)| !is_doc_table(line))
        .collect();
    let may_have_raw = !wide.is_empty() && file.path.ends_with(".rs");
    let raw = if may_have_raw { raw_strings(&file.text) } else { Vec::new() };
    wide.into_iter()
        .filter(|(number, _)| !raw.iter().any(|lines| lines.contains(number)))
        .map(|(number, line)| {
            let width = line.chars().count();
            Finding::new(
                file,
                number,
                format!("the line has {width} columns; the limit in code is {CODE_MAX}"),
            )
        })
        .collect()
}

/// The lines of each raw string with several lines. Breaking such a line would change the value.
fn raw_strings(text: &str) -> Vec<RangeInclusive<usize>> {
    let strings = Syntax::of(text).map(|syntax| syntax.strings).unwrap_or_default();
    strings
        .iter()
        .filter(|string| string.text.trim_start_matches(['b', 'c']).starts_with('r'))
        .map(|string| string.line..=string.line + string.text.matches('\n').count())
        .filter(|lines| lines.start() < lines.end())
        .collect()
}

fn wide_prose(file: &File) -> Vec<Finding> {
    let mut fenced = false;
    let mut findings = Vec::new();
    for (number, line) in file.current() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        let excepted = fenced || fence || line.trim_start().starts_with('|');
        if !excepted && is_wide(line, PROSE_MAX) && !ends_in_link(line, PROSE_MAX) {
            let width = line.chars().count();
            let text = format!("the line has {width} columns; the limit in documents is {PROSE_MAX}");
            findings.push(Finding::new(file, number, text));
        }
    }
    findings
}

fn is_wide(line: &str, max: usize) -> bool {
    line.chars().nth(max).is_some()
}

/// True if the line belongs to a table in a doc comment. Like a row in a document, it cannot be broken.
fn is_doc_table(line: &str) -> bool {
    let line = line.trim_start();
    let text = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
    text.is_some_and(|text| text.trim_start().starts_with('|'))
}

/// True if a link that cannot be broken crosses column `max` and ends the line.
fn ends_in_link(line: &str, max: usize) -> bool {
    let Some((overflow, _)) = line.char_indices().nth(max) else { return false };
    let Some((before, beyond)) = line.split_at_checked(overflow) else { return false };
    let word = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
    let is_last = !beyond.trim_end().contains(char::is_whitespace);
    is_last && line.get(word..).is_some_and(|word| word.contains("://") || word.contains("]("))
}

const LINES_MAX: usize = 400;
const CODE_MAX: usize = 110;
const PROSE_MAX: usize = 120;
const REASON: &str = "//! Long because ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::check;

    #[test]
    fn tests_do_not_count_as_length() {
        let code = format!("//! A.\n{}", "fn a() {}\n".repeat(399));
        let tests = "#[cfg(test)]\nmod tests {\n    const A: u8 = 1;\n}\n";
        check(&[("a.rs", &format!("{code}{tests}")), ("b/tests.rs", &format!("{code}{code}"))], &[]);
        check(
            &[
                ("a/tests/b.rs", &format!("{code}{code}")),
                ("a.rs", &format!("//! A.\n{tests}{}", "fn a() {}\n".repeat(399))),
            ],
            &[],
        );
        check(
            &[("a.rs", &format!("{code}fn b() {{}}\n{tests}"))],
            &["a.rs:401: the file has 401 lines without its tests, and the limit is 400; split it by \
                 subject, or give the reason at its top: `//! Long because …`"],
        );
    }

    #[test]
    fn a_long_file_may_give_a_reason() {
        let code = "fn a() {}\n".repeat(400);
        check(&[("a.rs", &format!("//! A.\n//!\n//! Long because it is one table.\n{code}"))], &[]);
        check(
            &[("a.rs", "//! A.\n//! Long because it was.\n")],
            &["a.rs:2: the file has 2 lines without its tests; it needs no reason for its length"],
        );
        let empty = format!("//! A.\n//! Long because …\n{code}");
        assert_eq!(findings_of("a.rs", &empty), [401]);
        let late = format!("//! A.\nfn b() {{}}\n//! Long because of this.\n{code}");
        assert_eq!(findings_of("a.rs", &late), [401]);
    }

    fn findings_of(path: &str, text: &str) -> Vec<usize> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let tree = Tree { root: std::path::PathBuf::new(), files: vec![file] };
        findings(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn wide_lines_are_found() {
        let comment = |columns: usize| format!("//! {}", "é".repeat(columns - 4));
        check(&[("a.rs", &format!("{}\n", comment(110)))], &[]);
        check(
            &[
                ("a.rs", &format!("{}\n", comment(111))),
                ("a.yaml", &format!("# {}\n", "a ".repeat(60).trim())),
            ],
            &[
                "a.rs:1: the line has 111 columns; the limit in code is 110",
                "a.yaml:1: the line has 121 columns; the limit in code is 110",
            ],
        );
        check(
            &[("a.md", &format!("{}\n{}\n", "é".repeat(120), "é".repeat(121)))],
            &["a.md:2: the line has 121 columns; the limit in documents is 120"],
        );
    }

    #[test]
    fn strings_are_broken_too() {
        let wide = "a ".repeat(60);
        assert_eq!(findings_of("a.rs", &format!("//! A.\nconst B: &str = \"{wide}\";\n")), [2]);
        assert_eq!(findings_of("a.rs", &format!("//! A.\nconst B: &str = r\"{wide}\";\n")), [2]);
        assert!(findings_of("a.rs", &format!("//! A.\nconst B: &str = r\"\n{wide}\n\";\n")).is_empty());
    }

    #[test]
    fn tables_in_doc_comments_may_be_wide() {
        let wide = "a".repeat(130);
        assert!(findings_of("a.rs", &format!("//! | {wide} |\n\n    /// | {wide} |\n")).is_empty());
        assert_eq!(findings_of("a.rs", &format!("//! {wide} |\n// | {wide} |\n/// a | {wide}\n")), [1, 2, 3]);
    }

    #[test]
    fn tables_code_blocks_and_links_may_be_wide() {
        let wide = "a".repeat(130);
        let words = "a ".repeat(50);
        assert!(findings_of("a.md", &format!("| {wide} |\n\n```text\n{wide}\n```\n")).is_empty());
        assert!(findings_of("a.md", &format!("{words}[a](docs/{wide}.md).\nhttps://{wide}/\n")).is_empty());
        assert_eq!(findings_of("a.md", &format!("{words}[a](docs/{wide}.md) and more\n")), [1]);
        let changes = format!("## Unreleased\n{wide}\n## 0.1.0\n{wide}\n");
        assert_eq!(findings_of("CHANGELOG.md", &changes), [2]);
        assert!(findings_of("a.rs", &format!("//! A: https://{wide}/\n")).is_empty());
        assert!(findings_of("a.json", &format!("{{\"a\":\"{wide}\"}}\n")).is_empty());
    }
}
