//! The format of lines, the selection of events, and the effects of a slow or broken stderr.

use std::{
    error::Error,
    io::{self, ErrorKind, Write},
    net::IpAddr,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use proptest::prelude::*;
use serde_json::{Value, json};
use tracing::{Level, field};
use uuid::Uuid;

use super::{Format, Guard, log_line, milliseconds, settings::LogSettings};

/// An output that tests can read, block and break.
#[derive(Clone, Debug, Default)]
struct Sink {
    state: Arc<(Mutex<SinkState>, Condvar)>,
}

#[derive(Debug, Default)]
struct SinkState {
    bytes: Vec<u8>,
    writes: usize,
    held: bool,
    /// The bytes that are accepted before writes fail.
    takes: Option<usize>,
    error: Option<ErrorKind>,
    /// The errors after which every write succeeds again.
    errors_left: Option<u32>,
}

impl Sink {
    fn change(&self, change: impl FnOnce(&mut SinkState)) {
        change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.state.0.lock().unwrap().bytes.clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.1.wait_while(self.state.0.lock().unwrap(), |state| state.held).unwrap();
        state.writes += 1;
        let taken = state.takes.unwrap_or(usize::MAX).min(bytes.len());
        if let Some(error) = state.error.filter(|_| taken == 0) {
            state.errors_left = state.errors_left.map(|left| left - 1);
            if state.errors_left == Some(0) {
                (state.takes, state.error) = (None, None);
            }
            return Err(error.into());
        }
        state.bytes.extend_from_slice(&bytes[..taken]);
        state.takes = state.takes.map(|takes| takes - taken);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(format: Format, level: Level, colour: bool) -> (Sink, Guard) {
    let sink = Sink::default();
    let guard = Guard::new(LogSettings { format, level, colour }, Box::new(sink.clone()));
    (sink, guard)
}

/// As `Guard::flush`, with more time, for busy machines.
fn flush(guard: &Guard) {
    guard.writer.flush(Duration::from_secs(60));
}

fn end(guard: Guard) {
    flush(&guard);
    drop(guard);
}

fn capture(format: Format, log: impl FnOnce()) -> String {
    let (sink, guard) = start(format, Level::TRACE, false);
    tracing::subscriber::with_default(guard.subscriber(), log);
    end(guard);
    sink.text()
}

/// Checks both formats of one event.
#[track_caller]
fn check(log: impl Fn(), json: &Value, text: &str) {
    let line = capture(Format::Json, &log);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    let mut object: Value = serde_json::from_str(&line).unwrap();
    let time = object.as_object_mut().unwrap().remove("time").unwrap();
    assert_time(time.as_str().unwrap());
    assert_eq!(&object, json);

    let line = capture(Format::Text, &log);
    let (time, rest) = line.split_once(' ').unwrap();
    assert_time(time);
    assert_eq!(rest, format!("{text}\n"));
}

#[track_caller]
fn assert_time(time: &str) {
    let shape: String = time.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
}

#[test]
fn fields_keep_their_names_and_types() {
    check(
        || {
            let absent = None::<&str>;
            let id = format_args!("57dab8b1-894c-409a-b240-bd8beae78896");
            tracing::info!(
                            target: "switchboard::handle",
            { http.request.method = "POST",
                            http.response.status_code = 202_u16,
                            duration_ms = 1.25,
                            outcome = "placed",
                            call.id = %id,
                            retried = false,
                            offset = -3,
                            absent,
                            empty = field::Empty,
                            region = Some("emea") },
                            "request served"
                        );
        },
        &json!({
            "level": "info", "target": "switchboard::handle", "message": "request served",
            "http.request.method": "POST", "http.response.status_code": 202, "duration_ms": 1.25,
            "outcome": "placed", "call.id": "57dab8b1-894c-409a-b240-bd8beae78896", "retried": false,
            "offset": -3, "region": "emea",
        }),
        "INFO  switchboard::handle: request served http.request.method=POST http.response.status_code=202 \
         duration_ms=1.25 outcome=placed call.id=57dab8b1-894c-409a-b240-bd8beae78896 retried=false \
         offset=-3 region=emea",
    );
}

/// The values of a line without an event.
#[derive(Clone, Debug)]
struct Values {
    text: String,
    absent: Option<String>,
    number: i64,
    large_number: u64,
    id: Uuid,
    address: IpAddr,
    duration: Duration,
}

/// Checks that a line without an event has the bytes of an event with the same fields.
#[track_caller]
fn check_line(values: &Values) {
    let Values { text, absent, number, large_number, id, address, duration } = values;
    for format in [Format::Json, Format::Text] {
        let line = capture(format, || {
            log_line("switchboard::request", "a message", UNIX_EPOCH, |line| {
                line.text("text", text.as_str());
                line.text("absent", absent.as_deref());
                line.number("number", Some(*number));
                line.number("large.number", Some(*large_number));
                line.number("absent_number", None::<u32>);
                line.id("id", Some(*id));
                line.id("absent_id", None);
                line.address("address", *address);
                line.milliseconds("duration_ms", *duration);
            });
        });
        let event = capture(format, || {
            tracing::info!(
                target: "switchboard::request",
                text,
                absent,
                number,
                large.number = large_number,
                id = %id,
                address = %address,
                duration_ms = milliseconds(*duration),
                "a message"
            );
        });
        let without_time = |line: &str| match format {
            Format::Json => line.split_once(',').unwrap().1.to_owned(),
            Format::Text => line.split_once(' ').unwrap().1.to_owned(),
        };
        assert_eq!(without_time(&line), without_time(&event));
        assert!(line.contains("1970-01-01T00:00:00.000Z"), "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_line_without_an_event_has_the_bytes_of_an_event(
        text in any::<String>(),
        absent in any::<Option<String>>(),
        number in any::<i64>(),
        large_number in any::<u64>(),
        id in any::<u128>(),
        address in any::<IpAddr>(),
        microseconds in prop_oneof![0_u64..100_000, any::<u64>()],
    ) {
        check_line(&Values {
            text,
            absent,
            number,
            large_number,
            id: Uuid::from_u128(id),
            address,
            duration: Duration::from_micros(microseconds),
        });
    }
}

#[test]
fn a_line_without_an_event_needs_the_level_info_and_an_installed_log() {
    let log = || log_line("switchboard::request", "m", UNIX_EPOCH, |_| ());
    for (level, lines) in [(Level::DEBUG, 1), (Level::INFO, 1), (Level::WARN, 0), (Level::ERROR, 0)] {
        let (sink, guard) = start(Format::Text, level, false);
        tracing::subscriber::with_default(guard.subscriber(), log);
        end(guard);
        assert_eq!(sink.text().lines().count(), lines, "{level}");
    }
    // Without a log, nothing is written.
    log();
}

#[test]
fn an_event_without_message_or_fields_is_a_line() {
    check(
        || tracing::warn!(target: "switchboard", reason = ""),
        &json!({"level": "warn", "target": "switchboard", "reason": ""}),
        "WARN  switchboard: reason=\"\"",
    );
}

#[test]
fn numbers_that_json_lacks_are_strings() {
    check(
        || {
            let (a, b) = (f64::NAN, f64::NEG_INFINITY);
            tracing::error!(target: "switchboard", a, b, c = u128::MAX, d = 1e21);
        },
        &json!({
            "level": "error", "target": "switchboard", "a": "NaN", "b": "-inf",
            "c": serde_json::from_str::<Value>("340282366920938463463374607431768211455").unwrap(),
            "d": serde_json::from_str::<Value>("1000000000000000000000").unwrap(),
        }),
        "ERROR switchboard: a=NaN b=-inf c=340282366920938463463374607431768211455 \
         d=1000000000000000000000",
    );
}

#[test]
fn errors_are_printed_with_their_sources() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Outer(#[source] io::Error);

    check(
        || {
            let error = Outer(io::Error::other("refused\nby \"peer\""));
            let error: &dyn Error = &error;
            tracing::warn!(target: "switchboard", error, "trying again");
        },
        &json!({
            "level": "warn", "target": "switchboard", "message": "trying again",
            "error": "cannot connect: refused\nby \"peer\"",
        }),
        r#"WARN  switchboard: trying again error="cannot connect: refused\nby \"peer\"""#,
    );
}

#[test]
fn a_message_cannot_forge_a_field() {
    check(
        || tracing::info!(target: "switchboard", "all is well outcome={}", "placed"),
        &json!({"level": "info", "target": "switchboard", "message": "all is well outcome=placed"}),
        r#"INFO  switchboard: "all is well outcome=placed""#,
    );
}

#[test]
fn control_characters_and_deceptive_characters_are_escaped() {
    check(
        || tracing::info!(target: "switchboard", value = "\x1b[2J\u{9b}\0\u{7f}\u{202e}é\u{2028}\r\t", "m"),
        &json!({
            "level": "info", "target": "switchboard", "message": "m",
            "value": "\x1b[2J\u{9b}\0\u{7f}\u{202e}é\u{2028}\r\t",
        }),
        r#"INFO  switchboard: m value="\u001b[2J\u009b\u0000\u007f\u202eé\u2028\r\t""#,
    );
}

#[test]
fn a_long_value_is_cut_at_a_character() {
    let long = "é".repeat(20_000);
    for format in [Format::Json, Format::Text] {
        for line in [
            capture(format, || tracing::info!(target: "switchboard", value = long.as_str())),
            capture(format, || tracing::info!(target: "switchboard", value = %long)),
        ] {
            assert!(line.len() < 17_000, "{}", line.len());
            assert!(line.contains("éé [cut]\""));
        }
    }
}

/// Parses the fields of a text line after its message, by the rule in `docs/logs.md`.
fn text_fields(mut rest: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let Some(field) = rest.strip_prefix(' ') {
        let (name, value) = field.split_once('=').unwrap();
        let length = if value.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
            fields.push((name.to_owned(), values.next().unwrap().unwrap()));
            values.byte_offset()
        } else {
            let length = value.find(' ').unwrap_or(value.len());
            fields.push((name.to_owned(), value.get(..length).unwrap().to_owned()));
            length
        };
        rest = value.get(length..).unwrap();
    }
    assert_eq!(rest, "");
    fields
}

#[track_caller]
fn check_hostile(value: &str) {
    let log = || tracing::info!(target: "switchboard", a = value, b = %value, c = ?value, z = 1, "m");
    let debug = format!("{value:?}");

    let line = capture(Format::Json, log);
    let body = line.strip_suffix('\n').unwrap();
    assert!(!body.chars().any(char::is_control), "{body:?}");
    let object: Value = serde_json::from_str(body).unwrap();
    let object = object.as_object().unwrap();
    assert_eq!(object.len(), 8);
    assert_eq!((&object["a"], &object["b"], &object["c"]), (&json!(value), &json!(value), &json!(debug)));

    let line = capture(Format::Text, log);
    let body = line.strip_suffix('\n').unwrap();
    assert!(!body.chars().any(char::is_control), "{body:?}");
    let (_, rest) = body.split_once(" switchboard: m").unwrap();
    let expected = [("a", value), ("b", value), ("c", &debug), ("z", "1")];
    assert_eq!(text_fields(rest), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn hostile_values_forge_no_line_and_no_field() {
    for value in [
        "x\n{\"level\":\"error\"}",
        "\",\"outcome\":\"placed",
        "x outcome=placed",
        "\" outcome=\"placed",
        "\\",
        "\\\" z=2 ",
        "\u{85}\u{2029}\x0b\x0c",
        "\x1b]0;title\x07",
        "=",
        " ",
        "1",
        "null",
    ] {
        check_hostile(value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_read_back_unchanged(value in any::<String>()) {
        check_hostile(&value);
    }
}

#[test]
fn only_the_level_is_coloured() {
    let (sink, guard) = start(Format::Text, Level::INFO, true);
    tracing::subscriber::with_default(guard.subscriber(), || tracing::info!(target: "switchboard", "m"));
    end(guard);
    assert_eq!(sink.text().split_once(' ').unwrap().1, "\x1b[32mINFO \x1b[0m switchboard: m\n");
}

/// This happens when the value of a field logs while it is formatted.
#[test]
fn a_line_within_a_line_is_a_line_of_its_own() {
    let (sink, guard) = start(Format::Text, Level::INFO, false);
    let subscriber = guard.subscriber();
    let write = |message, within: &dyn Fn()| {
        subscriber.write(Level::INFO, "switchboard", UNIX_EPOCH, |line| {
            within();
            line.message(message);
        });
    };
    write("outer", &|| write("inner", &|| ()));
    write("next", &|| ());
    end(guard);
    let text = sink.text();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines, ["INFO  switchboard: inner", "INFO  switchboard: outer", "INFO  switchboard: next"]);
}

#[test]
fn reconfigure_changes_the_level_and_the_format() {
    fn log() {
        tracing::warn!(target: "switchboard::x", "w");
        tracing::info!(target: "switchboard_auth::x", "i");
        tracing::debug!(target: "switchboard", "d");
    }
    let (sink, guard) = start(Format::Text, Level::INFO, false);
    tracing::subscriber::with_default(guard.subscriber(), || {
        log();
        guard.reconfigure(Format::Text, Level::WARN);
        log();
        guard.reconfigure(Format::Text, Level::DEBUG);
        log();
        guard.reconfigure(Format::Json, Level::ERROR);
        log();
        tracing::error!(target: "switchboard", "e");
    });
    end(guard);
    let text = sink.text();
    let messages: Vec<_> = text.lines().map(|line| line.rsplit([' ', '{']).next().unwrap()).collect();
    let (last, before) = messages.split_last().unwrap();
    assert_eq!(before, ["w", "i", "w", "w", "i", "d"]);
    assert!(last.ends_with(r#""level":"error","target":"switchboard","message":"e"}"#));
}

#[test]
fn other_crates_log_only_warnings_and_errors() {
    let text = capture(Format::Text, || {
        for _ in 0..2 {
            tracing::info!(target: "h2::codec", "headers");
            tracing::debug!(target: "switchboards", "not ours");
            tracing::warn!(target: "h2::codec", "warning");
        }
    });
    assert_eq!(text.matches("h2::codec: warning").count(), 2);
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn spans_are_disabled() {
    let text = capture(Format::Text, || {
        let span = tracing::error_span!(target: "switchboard", "span", field = 1);
        assert!(span.is_disabled());
        let _entered = span.enter();
        tracing::info!(target: "switchboard", "inside");
    });
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn lines_that_are_logged_together_are_written_together() {
    let (sink, guard) = start(Format::Json, Level::INFO, false);
    tracing::subscriber::with_default(guard.subscriber(), || {
        for number in 0..1000 {
            tracing::info!(target: "switchboard", number);
        }
    });
    flush(&guard);
    let numbers: Vec<_> = sink.lines().iter().map(|line| line["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    // An idle machine needs few writes. A busy one, on which this loop takes seconds, needs one every 50 ms.
    assert!(sink.state.0.lock().unwrap().writes < 500);
}

#[test]
fn a_stuck_stderr_costs_lines_but_no_time() {
    let (sink, guard) = start(Format::Json, Level::INFO, false);
    sink.change(|state| state.held = true);
    let filler = "x".repeat(10_000);
    let logged = 1000;
    tracing::subscriber::with_default(guard.subscriber(), || {
        for number in 0..logged {
            tracing::info!(target: "switchboard", number, filler);
        }
    });
    let dropped = guard.counts().dropped();
    // 10 MB were logged; the two batches hold 4 MiB of them.
    assert!(dropped > 500, "{dropped}");
    sink.change(|state| state.held = false);
    flush(&guard);
    tracing::subscriber::with_default(guard.subscriber(), || tracing::info!(target: "switchboard", "after"));
    flush(&guard);

    let lines = sink.lines();
    let reported: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    assert_eq!(reported, dropped);
    assert!(lines.iter().any(|line| line["dropped"].is_u64() && line["level"] == "warn"));
    let written = lines.iter().filter(|line| line["number"].is_u64()).count();
    assert_eq!(written, usize::try_from(logged - dropped).unwrap());
    assert_eq!(lines.iter().filter(|line| line["message"] == "after").count(), 1);
}

#[test]
fn lines_that_stderr_refuses_are_reported_later() {
    for error in [ErrorKind::BrokenPipe, ErrorKind::StorageFull] {
        let (sink, guard) = start(Format::Json, Level::INFO, false);
        tracing::subscriber::with_default(guard.subscriber(), || {
            tracing::info!(target: "switchboard", "one");
            flush(&guard);
            // Ten bytes of the second line are accepted.
            sink.change(|state| (state.takes, state.error) = (Some(10), Some(error)));
            tracing::info!(target: "switchboard", "two");
            flush(&guard);
            tracing::info!(target: "switchboard", "three");
            flush(&guard);
            assert_eq!(guard.counts().dropped(), 2);
            sink.change(|state| (state.takes, state.error) = (None, None));
            tracing::info!(target: "switchboard", "four");
        });
        end(guard);
        let text = sink.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].contains("one"));
        assert_eq!(lines[1], "{\"time\":\"2");
        assert!(lines[2].contains("four"));
        assert!(lines[3].ends_with("\"dropped\":2}"), "{text}");
    }
}

#[test]
fn a_write_that_would_block_is_repeated() {
    for error in [ErrorKind::WouldBlock, ErrorKind::Interrupted] {
        let (sink, guard) = start(Format::Json, Level::INFO, false);
        sink.change(|state| (state.takes, state.error, state.errors_left) = (Some(3), Some(error), Some(3)));
        tracing::subscriber::with_default(guard.subscriber(), || tracing::info!(target: "switchboard", "m"));
        end(guard);
        assert_eq!(sink.lines().len(), 1);
    }
}

#[test]
fn dropping_the_guard_writes_the_remaining_lines() {
    let (sink, guard) = start(Format::Json, Level::INFO, false);
    let subscriber = guard.subscriber();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "switchboard", "last words");
        drop(guard);
    });
    // The wait in `drop` has a limit, which a busy machine may exceed. The line is still written.
    while sink.text().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(sink.lines().len(), 1);
}

#[test]
fn lines_after_the_end_are_dropped_and_counted() {
    let (sink, guard) = start(Format::Json, Level::INFO, false);
    let (subscriber, counts) = (guard.subscriber(), guard.counts());
    end(guard);
    tracing::subscriber::with_default(subscriber, || tracing::info!(target: "switchboard", "late"));
    assert_eq!((sink.text().as_str(), counts.dropped()), ("", 1));
}

#[test]
fn milliseconds_have_three_decimals() {
    for (duration, expected) in [
        (Duration::ZERO, "0"),
        (Duration::from_nanos(1_234_999), "1.234"),
        (Duration::from_millis(15_000), "15000"),
        (Duration::MAX, "4294967.295"),
    ] {
        assert_eq!(milliseconds(duration).to_string(), expected);
        let line = capture(Format::Text, || {
            log_line("switchboard", "m", UNIX_EPOCH, |line| line.milliseconds("ms", duration));
        });
        assert!(line.ends_with(&format!(" ms={expected}\n")), "{line}");
    }
}
