//! The format of a line.

use std::{
    error::Error,
    fmt::{self, Write},
    mem,
    net::IpAddr,
    time::Duration,
};

use tracing::{
    Level,
    field::{Field, Visit},
};
use uuid::Uuid;

use crate::telemetry::{
    escape::{is_plain, push_bare_or_quoted, push_escaped, push_quoted},
    fields::{Chain, whole_microseconds},
    number::{push_last_digit, push_number},
    settings::{Format, LogSettings},
};

/// A line that is being written. `finish` ends it.
///
/// The fields are written one after the other. An absent one is left out.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    out: &'a mut String,
    format: Format,
    /// True until the first field is written.
    first: bool,
}

impl<'a> Line<'a> {
    /// Starts a line. `time` appends the time.
    pub(super) fn start(
        out: &'a mut String,
        settings: LogSettings,
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

    /// Writes the message.
    pub(super) fn message(&mut self, text: &str) {
        self.push_text(MESSAGE, text);
    }

    /// Writes a text.
    pub(crate) fn text<'t>(&mut self, name: &str, text: impl Into<Option<&'t str>>) {
        if let Some(text) = text.into() {
            self.push_text(name, text);
        }
    }

    /// Writes a whole number.
    pub(crate) fn number<N: TryInto<u64> + Copy + fmt::Display>(&mut self, name: &str, number: Option<N>) {
        let Some(number) = number else { return };
        self.name(name);
        match number.try_into() {
            Ok(number) => push_number(self.out, number),
            // Negative, or above 2^64. Writing to a `String` cannot fail.
            Err(_) => drop(write!(self.out, "{number}")),
        }
    }

    /// Writes a GUID.
    pub(crate) fn id(&mut self, name: &str, id: Option<Uuid>) {
        if let Some(id) = id {
            self.word(name, |out| out.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())));
        }
    }

    /// Writes an address.
    pub(crate) fn address(&mut self, name: &str, address: IpAddr) {
        self.word(name, |out| match address {
            IpAddr::V4(address) => {
                for (index, octet) in address.octets().into_iter().enumerate() {
                    if index > 0 {
                        out.push('.');
                    }
                    push_number(out, octet.into());
                }
            }
            // Writing to a `String` cannot fail.
            IpAddr::V6(address) => drop(write!(out, "{address}")),
        });
    }

    /// Writes a duration in milliseconds, with the digits of `fields::milliseconds`.
    pub(crate) fn milliseconds(&mut self, name: &str, duration: Duration) {
        self.name(name);
        let microseconds = u64::from(whole_microseconds(duration));
        push_number(self.out, microseconds / 1000);
        let mut rest = microseconds % 1000;
        if rest > 0 {
            self.out.push('.');
        }
        while rest > 0 {
            push_last_digit(self.out, rest / 100);
            rest = rest % 100 * 10;
        }
    }

    /// Writes a value that needs no escapes, and is neither empty nor several words.
    fn word(&mut self, name: &str, push: impl FnOnce(&mut String)) {
        self.name(name);
        let quotes = self.format == Format::Json;
        if quotes {
            self.out.push('"');
        }
        push(self.out);
        if quotes {
            self.out.push('"');
        }
    }

    fn name(&mut self, name: &str) {
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
                let first = mem::take(&mut self.first);
                // The message is first and has no name.
                if !(first && name == MESSAGE) {
                    push_bare_or_quoted(self.out, name);
                    self.out.push('=');
                }
            }
        }
    }

    fn push_text(&mut self, name: &str, text: &str) {
        // The usual case: nearly all lines consist of such values.
        if self.format == Format::Json && text.len() <= VALUE_BYTES_MAX && is_plain(text) {
            self.out.push_str(",\"");
            self.out.push_str(name);
            self.out.push_str("\":\"");
            self.out.push_str(text);
            self.out.push('"');
            return;
        }
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
            return self.push_text(name, text);
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
                self.push_text(name, &text);
            }
        }
    }
}

impl Visit for Line<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.name(field.name());
            // Writing to a `String` cannot fail.
            let _ = write!(self.out, "{value}");
        } else {
            // JSON has no number for these.
            self.display(field.name(), format_args!("{value}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field.name(), Some(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), Some(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.number(field.name(), Some(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field.name(), Some(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field.name());
        self.out.push_str(if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field.name(), value);
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
