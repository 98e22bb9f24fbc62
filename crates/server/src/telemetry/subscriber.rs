//! The `tracing` subscriber: it selects the events that become lines, and formats each in a buffer of its
//! thread.

use std::{cell::Cell, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use tracing::{
    Event, Level, Metadata, Subscriber, dispatcher, level_filters::LevelFilter, span, subscriber::Interest,
};

use crate::{
    telemetry::{
        line::Line,
        settings::{Format, LogSettings},
        timestamp::Timestamp,
        writer::Writer,
    },
    wall_clock::wall_clock,
};

/// Turns events into lines.
///
/// Spans are not recorded: an event has all of its fields, and a registry of spans would cost more than the
/// line itself.
#[derive(Debug)]
pub(super) struct LineSubscriber {
    settings: Arc<ArcSwap<LogSettings>>,
    writer: Writer,
}

impl LineSubscriber {
    pub(super) fn new(settings: Arc<ArcSwap<LogSettings>>, writer: Writer) -> Self {
        Self { settings, writer }
    }

    /// Writes a line, unless the log leaves out its level.
    pub(super) fn write(
        &self,
        level: Level,
        target: &str,
        time: SystemTime,
        fields: impl FnOnce(&mut Line<'_>),
    ) {
        let settings = **self.settings.load();
        if level > settings.level {
            return;
        }
        // A value may log while it is formatted, and a thread may log while it ends. Then the line has a
        // buffer of its own.
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        let LineBuffer { text, timestamp } = &mut buffer;
        let mut line = Line::start(text, settings, level, target, |out| timestamp.push(out, time));
        fields(&mut line);
        line.finish();
        self.writer.append(text);
        text.clear();
        // A long line must not stay in the memory of each thread.
        if text.capacity() > BUFFER_BYTES_MAX {
            *text = String::new();
        }
        let _ = BUFFER.try_with(|own| own.set(buffer));
    }
}

impl Subscriber for LineSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // `reconfigure` makes `tracing` ask again for every callsite. So the interest is cached, and an event
        // costs no look-up.
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.settings.load().level;
        let level = if is_ours(metadata.target()) { level } else { level.min(Level::WARN) };
        metadata.is_event() && *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.settings.load().level))
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        self.write(*metadata.level(), metadata.target(), wall_clock(), |line| event.record(line));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Writes a line of the level `info` without an event: the line of a request.
///
/// `tracing` calls two trait objects for each field of an event, also for absent ones. With the fields of a
/// request, that costs as much as the line itself.
pub(crate) fn log_line(target: &str, message: &str, time: SystemTime, fields: impl FnOnce(&mut Line<'_>)) {
    let mut fields = Some(fields);
    dispatcher::get_default(|dispatch| {
        if let Some(subscriber) = dispatch.downcast_ref::<LineSubscriber>()
            && let Some(fields) = fields.take()
        {
            subscriber.write(Level::INFO, target, time, |line| {
                line.message(message);
                fields(line);
            });
        }
    });
}

/// Returns the line that [`log_line`] writes, in JSON whatever the format of the log, without its line feed.
pub(crate) fn json_line(
    target: &str,
    message: &str,
    time: SystemTime,
    fields: impl FnOnce(&mut Line<'_>),
) -> String {
    let mut text = String::new();
    let settings = LogSettings { format: Format::Json, level: Level::INFO, colour: false };
    let mut line =
        Line::start(&mut text, settings, Level::INFO, target, |out| Timestamp::new().push(out, time));
    line.message(message);
    fields(&mut line);
    line.finish();
    text.pop();
    text
}

/// The buffer for the line that a thread formats.
#[derive(Default)]
struct LineBuffer {
    /// Empty between two lines.
    text: String,
    timestamp: Timestamp,
}

impl LineBuffer {
    const fn new() -> Self {
        Self { text: String::new(), timestamp: Timestamp::new() }
    }
}

thread_local! {
    static BUFFER: Cell<LineBuffer> = const { Cell::new(LineBuffer::new()) };
}

/// Returns true for the crates of this workspace: `switchboard` and `switchboard_…`.
fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("switchboard")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

const BUFFER_BYTES_MAX: usize = 64 * 1024;
