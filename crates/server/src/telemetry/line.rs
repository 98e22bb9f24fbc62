//! The format of a line. No value can forge a second line or a second field.

use std::{
    error::Error,
    fmt::{self, Write},
};

use tracing::{
    Level,
    field::{Field, Visit},
};

use crate::telemetry::{
    fields::Chain,
    settings::{Format, LogSettings},
};

/// A line that is being written. `finish` ends it.
///
/// The fields must be visited one after the other, as `Event::record` does.
#[derive(Debug)]
pub(super) struct Line<'a> {
    out: &'a mut String,
    format: Format,
    /// True until the first field is written.
    first: bool,
}

impl<'a> Line<'a> {
    /// Starts a line. `time` appends the time.
    pub(super) fn start(
        out: &'a mut String,
        settings: &LogSettings,
        level: Level,
        target: &str,
        time: impl FnOnce(&mut String),
    ) -> Self {
        let (json, text, colour) = level_names(level);
        match settings.format {
            Format::Json => {
                out.push_str("{\"time\":\"");
                time(out);
                out.push_str("\",\"level\":\"");
                out.push_str(json);
                out.push_str("\",\"target\":");
                push_quoted(out, target);
            }
            Format::Text => {
                time(out);
                out.push(' ');
                if settings.colour {
                    out.push_str(colour);
                    out.push_str(text);
                    out.push_str("\x1b[0m ");
                } else {
                    out.push_str(text);
                    out.push(' ');
                }
                push_bare_or_quoted(out, target);
                out.push(':');
            }
        }
        Self { out, format: settings.format, first: true }
    }

    /// Ends the line.
    pub(super) fn finish(self) {
        self.out.push_str(match self.format {
            Format::Json => "}\n",
            Format::Text => "\n",
        });
    }

    /// Writes a message without an event.
    pub(super) fn message(&mut self, text: &str) {
        self.text(MESSAGE, text);
    }

    /// Writes a number.
    pub(super) fn number(&mut self, name: &str, number: impl fmt::Display) {
        self.name(name);
        // Writing to a `String` cannot fail.
        let _ = write!(self.out, "{number}");
    }

    fn name(&mut self, name: &str) {
        let first = std::mem::take(&mut self.first);
        match self.format {
            Format::Json => {
                // A name needs no escapes: `tracing`'s macros take only identifiers and literals, and ours
                // are plain.
                self.out.push_str(",\"");
                self.out.push_str(name);
                self.out.push_str("\":");
            }
            Format::Text => {
                self.out.push(' ');
                // The message is first and has no name.
                if !(first && name == MESSAGE) {
                    push_bare_or_quoted(self.out, name);
                    self.out.push('=');
                }
            }
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        let is_message = self.first && name == MESSAGE;
        self.name(name);
        match text.get(..text.floor_char_boundary(VALUE_BYTES_MAX)) {
            Some(cut) if cut.len() < text.len() => push_quoted(self.out, &format!("{cut}{CUT}")),
            _ => match self.format {
                Format::Json => push_quoted(self.out, text),
                Format::Text if is_message && is_plain(text) && !text.contains('=') => {
                    self.out.push_str(text)
                }
                Format::Text => push_bare_or_quoted(self.out, text),
            },
        }
    }

    fn display(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if let Some(text) = value.as_str() {
            return self.text(name, text);
        }
        match self.format {
            Format::Json => {
                self.name(name);
                self.out.push('"');
                let mut limited =
                    LimitedText { out: self.out, left: VALUE_BYTES_MAX, cut: false, push: push_escaped };
                // A value whose formatting fails keeps the part that it wrote.
                let _ = limited.write_fmt(value);
                if limited.cut {
                    self.out.push_str(CUT);
                }
                self.out.push('"');
            }
            Format::Text => {
                // Only the whole value shows if it needs quotes.
                let mut text = String::new();
                let left = VALUE_BYTES_MAX + char::MAX.len_utf8();
                let _ =
                    LimitedText { out: &mut text, left, cut: false, push: String::push_str }.write_fmt(value);
                self.text(name, &text);
            }
        }
    }
}

impl Visit for Line<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.number(field.name(), value);
        } else {
            // JSON has no number for these.
            self.display(field.name(), format_args!("{value}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.number(field.name(), value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field.name());
        self.out.push_str(if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.display(field.name(), format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.display(field.name(), format_args!("{value:?}"));
    }
}

/// Appends text up to a limit.
struct LimitedText<'a> {
    out: &'a mut String,
    left: usize,
    cut: bool,
    push: fn(&mut String, &str),
}

impl Write for LimitedText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let taken = text.get(..text.floor_char_boundary(self.left)).unwrap_or_default();
        (self.push)(self.out, taken);
        if taken.len() < text.len() {
            self.cut = true;
            return Err(fmt::Error);
        }
        self.left -= taken.len();
        Ok(())
    }
}

fn push_bare_or_quoted(out: &mut String, text: &str) {
    let bare = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    if !text.is_empty() && text.bytes().all(bare) {
        out.push_str(text);
    } else {
        push_quoted(out, text);
    }
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends `text` as the inside of a JSON string (RFC 8259 section 7).
///
/// Escapes more than JSON requires: C1 controls, which terminals obey, and characters that reorder or hide
/// the text around them.
fn push_escaped(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if char.is_control() || is_deceptive(char) => {
                // All of these are in the basic multilingual plane: four digits are enough.
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
}

/// Returns true if `text` needs no escapes in a quoted string. It has no early exit, so that it compiles to
/// vector code.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\'))
}

fn is_deceptive(char: char) -> bool {
    matches!(char,
        '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The name of a level in JSON, its name in text, and its colour.
fn level_names(level: Level) -> (&'static str, &'static str, &'static str) {
    match level {
        Level::ERROR => ("error", "ERROR", "\x1b[31m"),
        Level::WARN => ("warn", "WARN ", "\x1b[33m"),
        Level::INFO => ("info", "INFO ", "\x1b[32m"),
        Level::DEBUG => ("debug", "DEBUG", "\x1b[34m"),
        Level::TRACE => ("trace", "TRACE", "\x1b[35m"),
    }
}

/// The name of the message field in `tracing`.
const MESSAGE: &str = "message";

/// The longest value: longer than any value of the gateway, and a bound for errors of libraries.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// The mark at the end of a value that was too long.
const CUT: &str = " [cut]";
