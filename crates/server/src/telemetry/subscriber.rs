//! The `tracing` subscriber: it selects the events that become lines, and formats each in a buffer of its
//! thread.

use std::{cell::RefCell, sync::Arc};

use arc_swap::ArcSwap;
use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter, span, subscriber::Interest};

use crate::{
    telemetry::{line::Line, settings::LogSettings, timestamp, writer::Writer},
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

    fn write(&self, event: &Event<'_>, text: &mut String) {
        let settings = self.settings.load();
        let metadata = event.metadata();
        text.clear();
        let time = |out: &mut String| timestamp::push(out, wall_clock());
        let mut line = Line::start(text, &settings, *metadata.level(), metadata.target(), time);
        event.record(&mut line);
        line.finish();
        self.writer.append(text);
        // A long line must not stay in the memory of each thread.
        if text.capacity() > BUFFER_BYTES_MAX {
            *text = String::new();
        }
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
        // The fields of an event may log while they are formatted, and a thread may log while it ends. Then
        // the buffer of the thread is not available.
        let written = BUFFER.try_with(|buffer| {
            buffer.try_borrow_mut().map(|mut buffer| self.write(event, &mut buffer)).is_ok()
        });
        if written != Ok(true) {
            self.write(event, &mut String::new());
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

thread_local! {
    /// The buffer for the line that the thread formats.
    static BUFFER: RefCell<String> = RefCell::default();
}

/// Returns true for the crates of this workspace: `switchboard` and `switchboard_…`.
fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("switchboard")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

const BUFFER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
pub(super) fn with_buffer_in_use<T>(action: impl FnOnce() -> T) -> T {
    BUFFER.with_borrow_mut(|_| action())
}
