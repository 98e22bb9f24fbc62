//! The comments, strings and names of a Rust file, each with its place.

use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};

/// The parts of a Rust file that contain words.
#[derive(Debug, Default)]
pub(super) struct Syntax {
    /// In the order of the file. Adjacent line comments of one kind are one comment.
    pub(super) comments: Vec<Comment>,
    /// String literals as in the source, with their quotes.
    pub(super) strings: Vec<Part>,
    pub(super) names: Vec<Part>,
}

/// A part of the source.
#[derive(Debug)]
pub(super) struct Part {
    /// The line on which it starts, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

/// One comment without its markers, line by line.
#[derive(Debug)]
pub(super) struct Comment {
    pub(super) line: usize,
    pub(super) lines: Vec<String>,
    marker: Marker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    /// `//`
    Line,
    /// `///`
    Outer,
    /// `//!`
    Inner,
    /// `/* */`
    Block,
    /// `/** */` and `/*! */`
    DocBlock,
}

impl Comment {
    pub(super) fn is_doc(&self) -> bool {
        matches!(self.marker, Marker::Outer | Marker::Inner | Marker::DocBlock)
    }
}

impl Syntax {
    pub(super) fn of(source: &str) -> Result<Self, LexError> {
        let mut leaves = Vec::new();
        flatten(source.parse()?, &mut leaves);
        let mut syntax = Self::default();
        let mut lines = Lines { source, offset: 0, line: 1 };
        let mut end = 0;
        for leaf in leaves {
            let line = lines.of(end);
            syntax.gap(source.get(end..leaf.start).unwrap_or_default(), line);
            let line = lines.of(leaf.start);
            let text = source.get(leaf.start..leaf.end).unwrap_or_default();
            match leaf.kind {
                Kind::DocComment => syntax.comment(line, text),
                Kind::Literal if text.ends_with(['"', '#']) => {
                    syntax.strings.push(Part { line, text: text.to_owned() });
                }
                Kind::Name => syntax.names.push(Part { line, text: text.to_owned() }),
                Kind::Literal | Kind::Other => {}
            }
            end = leaf.end;
        }
        let line = lines.of(end);
        syntax.gap(source.get(end..).unwrap_or_default(), line);
        Ok(syntax)
    }

    /// Adds the comments between two tokens. Everything else there is blank.
    fn gap(&mut self, mut rest: &str, mut line: usize) {
        while let Some(start) = rest.find('/') {
            let (before, comment) = rest.split_at(start);
            line += newlines(before);
            let length = if comment.starts_with("/*") { block_length(comment) } else { comment.find('\n') };
            let (comment, after) = comment.split_at(length.unwrap_or(comment.len()));
            self.comment(line, comment);
            line += newlines(comment);
            rest = after;
        }
    }

    fn comment(&mut self, line: usize, text: &str) {
        let (marker, text) = if let Some(text) = text.strip_prefix("///") {
            (Marker::Outer, text)
        } else if let Some(text) = text.strip_prefix("//!") {
            (Marker::Inner, text)
        } else if let Some(text) = text.strip_prefix("//") {
            (Marker::Line, text)
        } else if let Some(text) = text.strip_prefix("/**").or_else(|| text.strip_prefix("/*!")) {
            (Marker::DocBlock, text.trim_end_matches("*/"))
        } else {
            (Marker::Block, text.trim_start_matches("/*").trim_end_matches("*/"))
        };
        let lines = text.split('\n').map(|line| line.trim_start_matches([' ', '*']).trim_end().to_owned());
        match self.comments.last_mut() {
            Some(last)
                if last.marker == marker
                    && matches!(marker, Marker::Line | Marker::Outer | Marker::Inner)
                    && last.line + last.lines.len() == line =>
            {
                last.lines.extend(lines);
            }
            _ => self.comments.push(Comment { line, lines: lines.collect(), marker }),
        }
    }
}

/// A token without parts of its own, by its bytes in the file.
struct Leaf {
    start: usize,
    end: usize,
    kind: Kind,
}

enum Kind {
    DocComment,
    Literal,
    Name,
    Other,
}

fn flatten(tokens: TokenStream, leaves: &mut Vec<Leaf>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let span = token.span().byte_range();
        let mut leaf = |start, end, kind| leaves.push(Leaf { start, end, kind });
        match token {
            // The lexer turns a doc comment into the tokens of `#[doc = ".."]`. Each has the span of the
            // comment.
            TokenTree::Punct(punct) if punct.as_char() == '#' && span.len() > 1 => {
                leaf(span.start, span.end, Kind::DocComment);
                while tokens.next_if(|token| token.span().byte_range() == span).is_some() {}
            }
            TokenTree::Group(group) => {
                let (open, close) = (group.span_open().byte_range(), group.span_close().byte_range());
                if group.delimiter() != Delimiter::None {
                    leaf(open.start, open.end, Kind::Other);
                }
                flatten(group.stream(), leaves);
                if group.delimiter() != Delimiter::None {
                    leaves.push(Leaf { start: close.start, end: close.end, kind: Kind::Other });
                }
            }
            TokenTree::Ident(_) => leaf(span.start, span.end, Kind::Name),
            TokenTree::Literal(_) => leaf(span.start, span.end, Kind::Literal),
            TokenTree::Punct(_) => leaf(span.start, span.end, Kind::Other),
        }
    }
}

/// Counts lines up to an offset. The offsets must not decrease.
struct Lines<'s> {
    source: &'s str,
    offset: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, offset: usize) -> usize {
        self.line += newlines(self.source.get(self.offset..offset).unwrap_or_default());
        self.offset = offset;
        self.line
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// The bytes of the block comment at the start of `text`; block comments nest.
fn block_length(text: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest.starts_with("*/") {
            (at, depth) = (at + 2, depth.saturating_sub(1));
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, comments: &[(usize, &str)], strings: &[(usize, &str)]) {
        let syntax = Syntax::of(source).unwrap();
        let found: Vec<_> =
            syntax.comments.iter().map(|comment| (comment.line, comment.lines.join("|"))).collect();
        let expected: Vec<_> = comments.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
        assert_eq!(found, expected);
        let found: Vec<_> = syntax.strings.iter().map(|part| (part.line, part.text.as_str())).collect();
        assert_eq!(found, strings);
    }

    #[test]
    fn adjacent_lines_of_one_kind_are_one_comment() {
        check(
            "//! A\n//! b.\n\n// C\n/// D\n/// e.\nfn f() {}\n// G\n",
            &[(1, "A|b."), (4, "C"), (5, "D|e."), (8, "G")],
            &[],
        );
    }

    #[test]
    fn blocks_nest_and_end() {
        check(
            "/* a /* b */ c\n * d */ const E: u8 = 1; /** f */ fn g() {}\n",
            &[(1, "a /* b */ c|d"), (2, "f")],
            &[],
        );
    }

    #[test]
    fn comments_in_strings_are_strings() {
        check(
            "const A: &str = \"// b\"; // c\nconst D: &str = r#\"\n/* \"e\" */\"#;\nconst F: char = '\"';\n",
            &[(1, "c")],
            &[(1, "\"// b\""), (2, "r#\"\n/* \"e\" */\"#")],
        );
    }
}
