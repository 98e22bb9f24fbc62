//! The words that the house style rules out, and the first word of a doc comment.

use super::{
    finding::Finding,
    syntax::Syntax,
    tree::{File, Tree},
};

/// Violations in the words of the files that people write.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().filter(|file| file.is_written_by_hand()).flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let passages = if file.path.ends_with(".rs") {
        let syntax = match Syntax::of(&file.text) {
            Ok(syntax) => syntax,
            Err(error) => {
                return vec![Finding::new(file, error.span().start().line, format!("is not Rust: {error}"))];
            }
        };
        findings.extend(openings(file, &syntax));
        of_source(&syntax)
    } else if file.path.ends_with(".md") {
        of_document(file)
    } else {
        of_settings(file)
    };
    findings.extend(passages.iter().flat_map(|passage| passage.findings(file)));
    findings
}

/// Doc comments that open with a question word.
fn openings(file: &File, syntax: &Syntax) -> Vec<Finding> {
    let docs = syntax.comments.iter().filter(|comment| comment.is_doc());
    docs.filter_map(|comment| {
        let (line, text) = (comment.line..).zip(&comment.lines).find(|(_, text)| !text.trim().is_empty())?;
        let text = text.trim_start_matches(|sign: char| !sign.is_alphanumeric() && !"`\"“".contains(sign));
        let word = text.split(|sign: char| !sign.is_alphanumeric()).next()?;
        OPENINGS.iter().any(|opening| word.eq_ignore_ascii_case(opening)).then(|| {
            let text = format!("a doc comment opens with `{word}`; state first what the item is or does");
            Finding::new(file, line, text)
        })
    })
    .collect()
}

/// Text in which a phrase may break over two lines.
struct Passage {
    /// The number of its first line, from 1.
    line: usize,
    text: String,
}

impl Passage {
    fn new(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }

    fn findings(&self, file: &File) -> Vec<Finding> {
        let words: Vec<_> = words(&self.text).collect();
        let mut findings = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let follows = |second: &str| {
                words.get(at + 1).is_some_and(|next| next.follows && next.text.eq_ignore_ascii_case(second))
            };
            let found = FORBIDDEN.iter().find(|forbidden| match forbidden.split_once(' ') {
                Some((first, second)) => word.text.eq_ignore_ascii_case(first) && follows(second),
                None => word.text.eq_ignore_ascii_case(forbidden),
            });
            if let Some(found) = found {
                let text = format!("`{found}` is not a word of the house style; name the actor or the thing");
                findings.push(Finding::new(file, self.line + word.line, text));
            }
        }
        findings
    }
}

/// A word of a passage.
struct Word<'t> {
    text: &'t str,
    /// The line of the passage, from 0.
    line: usize,
    /// True if only blanks separate it from the previous word.
    follows: bool,
}

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut line = 0;
    let mut rest = text;
    std::iter::from_fn(move || {
        let (between, word) = rest.split_at(rest.find(char::is_alphanumeric)?);
        line += between.bytes().filter(|byte| *byte == b'\n').count();
        let (word, after) =
            word.split_at(word.find(|sign: char| !sign.is_alphanumeric()).unwrap_or(word.len()));
        rest = after;
        Some(Word { text: word, line, follows: between.trim().is_empty() })
    })
}

fn of_source(syntax: &Syntax) -> Vec<Passage> {
    let comments = syntax.comments.iter().map(|comment| Passage::new(comment.line, prose(&comment.lines)));
    let strings = syntax.strings.iter().map(|string| {
        let text = string.text.trim_start_matches(['b', 'c', 'r', '#']).trim_end_matches('#');
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        // An escape is not part of the next word; a backslash continues the string on the next line.
        let text =
            text.replace("\\\"", "\"").replace("\\n", "  ").replace("\\t", "  ").replace("\\\n", " \n");
        Passage::new(string.line, without_quotations(&text))
    });
    let names = syntax.names.iter().map(|name| Passage::new(name.line, spelled_out(&name.text)));
    comments.chain(strings).chain(names).collect()
}

/// A name as words: `nextOne` and `next_one` become "next One" and "next one".
fn spelled_out(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for sign in name.chars() {
        if sign.is_uppercase() {
            text.push(' ');
        }
        text.push(if sign == '_' { ' ' } else { sign });
    }
    text
}

/// Paragraphs, and the lines of code blocks one by one.
fn of_document(file: &File) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut paragraph: Vec<String> = Vec::new();
    let mut fenced = false;
    let mut end = 1;
    for (number, line) in file.current() {
        end = number + 1;
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if fenced || fence || line.trim().is_empty() {
            flush(&mut passages, &mut paragraph, number);
            if fenced && !fence {
                passages.push(Passage::new(number, without_quotations(line)));
            }
        } else {
            paragraph.push(line.to_owned());
        }
    }
    flush(&mut passages, &mut paragraph, end);
    passages
}

/// Ends the paragraph above the line `number`.
fn flush(passages: &mut Vec<Passage>, paragraph: &mut Vec<String>, number: usize) {
    if !paragraph.is_empty() {
        passages.push(Passage::new(number - paragraph.len(), prose(paragraph)));
        paragraph.clear();
    }
}

/// Manifests, settings and scripts: comments as prose, and everything else line by line.
fn of_settings(file: &File) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut comment: Vec<String> = Vec::new();
    let mut end = 1;
    for (number, line) in file.numbered() {
        end = number + 1;
        let trimmed = line.trim_start();
        if trimmed.starts_with('#') || trimmed.starts_with("//") {
            comment.push(trimmed.trim_start_matches(['#', '/']).to_owned());
        } else {
            flush(&mut passages, &mut comment, number);
            passages.push(Passage::new(number, line));
        }
    }
    flush(&mut passages, &mut comment, end);
    passages
}

/// Lines of prose as one text, without block quotes and quotations.
fn prose(lines: &[String]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| if line.trim_start().starts_with('>') { "" } else { line.as_str() })
        .collect();
    without_quotations(&lines.join("\n"))
}

/// Replaces text between quotation marks or backticks by blanks. A mark without a partner has no effect.
fn without_quotations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(['"', '“', '`']) {
        let (before, quotation) = rest.split_at(start);
        kept.push_str(before);
        let open = quotation.chars().next().unwrap_or('"');
        let ticks = quotation.len() - quotation.trim_start_matches('`').len();
        let (opening, closing) = match open {
            '“' => ("“".to_owned(), "”".to_owned()),
            '`' => ("`".repeat(ticks), "`".repeat(ticks)),
            _ => ("\"".to_owned(), "\"".to_owned()),
        };
        let inner = quotation.get(opening.len()..).unwrap_or_default();
        match inner.split_once(&closing) {
            Some((quoted, after)) => {
                // A sign between the words before and after: they are not a phrase.
                kept.push('"');
                kept.extend(quoted.chars().map(|sign| if sign == '\n' { '\n' } else { ' ' }));
                rest = after;
            }
            None => {
                kept.push_str(&opening);
                rest = inner;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// The forbidden words and one phrase, in halves, so that this file does not contain them.
const FORBIDDEN: [&str; 6] = [
    concat!("no", "body"),
    concat!("some", "body"),
    concat!("any", "body"),
    concat!("who", "ever"),
    concat!("there", "of"),
    concat!("those", " that"),
];

const OPENINGS: [&str; 6] = ["What", "Who", "How", "Why", "Where", "When"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::check;

    /// The lines of `path` in which `text` breaks a rule of this file.
    #[track_caller]
    fn check_lines(path: &str, text: &str, expected: &[usize]) {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let found: Vec<_> = of_file(&file).iter().map(|finding| finding.line).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_forbidden_word_is_found() {
        for word in FORBIDDEN {
            let text = format!("# A\n\nIt is {word}.\n\nOr {}.\n", word.to_uppercase());
            let finding = format!("`{word}` is not a word of the house style; name the actor or the thing");
            let lines = [format!("docs/a.md:3: {finding}"), format!("docs/a.md:5: {finding}")];
            check(&[("docs/a.md", &text)], &lines.each_ref().map(String::as_str));
        }
    }

    #[test]
    fn comments_strings_and_names_are_read() {
        let [word, ..] = FORBIDDEN;
        check_lines("a.rs", &format!("//! A {word}.\n"), &[1]);
        check_lines("a.rs", &format!("//! A.\nfn a() {{}} // {word}\n"), &[2]);
        check_lines("a.rs", &format!("//! A.\n/* b\n {word} */\n"), &[3]);
        check_lines("a.rs", &format!("//! A.\nconst A: &str = \"\\n{word}\";\n"), &[2]);
        check_lines("a.rs", &format!("//! A.\nfn {word}_asks() {{}}\n"), &[2]);
        check_lines("a.rs", &format!("//! A.\nstruct {}{}Asks;\n", "No", "body"), &[2]);
        check_lines("a.rs", &format!("//! A.\nconst A: u8 = not{word};\n"), &[]);
    }

    #[test]
    fn a_phrase_may_break_over_two_lines() {
        let [.., phrase] = FORBIDDEN;
        let broken = |marker: &str| phrase.replace(' ', marker);
        check_lines("a.rs", &format!("//! A, {} b.\n", broken("\n//! ")), &[1]);
        check_lines("a.rs", &format!("//! A.\n/// B, {} c.\nfn d() {{}}\n", broken("\n/// ")), &[2]);
        check_lines("a.rs", &format!("//! A.\nconst B: &str = \"{}\";\n", broken(" \\\n    ")), &[2]);
        check_lines("a.md", &format!("A, {} b.\n", broken("\n")), &[1]);
        check_lines("a.md", &format!("A, {} b.\n", broken("\n\n")), &[]);
        check_lines("a.md", &format!("A, {} b.\n", broken(", ")), &[]);
        check_lines("a.toml", &format!("# A, {} b.\n", broken("\n# ")), &[1]);
    }

    #[test]
    fn quotations_are_exempt() {
        let [word, ..] = FORBIDDEN;
        check_lines(
            "a.md",
            &format!("Not \"{word}\",\nnot `{word}`, not “{word}”, not \"a\n{word} b\".\n"),
            &[],
        );
        check_lines("a.md", &format!("> As they say: {word}.\n"), &[]);
        check_lines("a.md", &format!("Not \"a\", not {word}.\n"), &[1]);
        check_lines("a.md", &format!("1 \" is 25 mm, says {word}.\n"), &[1]);
        check_lines("a.rs", &format!("//! A.\n// Not \"{word}\".\n"), &[]);
        check_lines("a.rs", &format!("//! A.\nconst B: &str = r#\"{{\"name\":\"{word}\"}}\"#;\n"), &[]);
        check_lines("a.rs", &format!("//! A.\nconst B: &str = \"{word}\";\n"), &[2]);
    }

    #[test]
    fn fixtures_and_released_versions_are_exempt() {
        let [word, ..] = FORBIDDEN;
        let changes = format!("# Changelog\n\n## Unreleased\n\n{word}\n\n## 0.1.0\n\n{word}\n");
        check_lines("CHANGELOG.md", &changes, &[5]);
        check(&[("fixtures/README.md", "notifications/\n"), ("fixtures/notifications/a.json", word)], &[]);
    }

    #[test]
    fn scripts_and_settings_are_read() {
        let [word, ..] = FORBIDDEN;
        check_lines("a.toml", &format!("# A\n# {word}\n\nname = \"{word}\"\n"), &[2, 4]);
        check_lines("install", &format!("#!/bin/sh\necho {word}\n"), &[2]);
        check_lines("a.mjs", &format!("// {word}\n"), &[1]);
    }

    #[test]
    fn a_doc_comment_opens_with_its_item() {
        for word in OPENINGS {
            let text = format!("//! A.\n\n/// {word} it is.\nfn b() {{}}\n");
            let finding =
                format!("a.rs:3: a doc comment opens with `{word}`; state first what the item is or does");
            check(&[("a.rs", &text)], &[&finding]);
        }
    }

    #[test]
    fn every_form_of_doc_comment_is_read() {
        check_lines("a.rs", "//! How to a.\n", &[1]);
        check_lines("a.rs", "//! A.\n/** When b. */\nfn b() {}\n", &[2]);
        check_lines("a.rs", "//! A.\n/**\n * Who b.\n */\nfn b() {}\n", &[3]);
        check_lines("a.rs", "//! A.\n///\n/// **Where** b.\nfn b() {}\n", &[3]);
        check_lines("a.rs", "//! A.\n/// b\n/// why not.\nfn b() {}\n", &[]);
        check_lines("a.rs", "//! A.\n/// `What` is a type, \"who\" a word.\nfn b() {}\n", &[]);
        check_lines("a.rs", "//! A.\n/// Whether b.\nfn b() {}\n", &[]);
        check_lines("a.rs", "//! A.\n// What follows is cheap.\nfn b() {}\n", &[]);
    }
}
