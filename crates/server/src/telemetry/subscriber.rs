//! Which events become lines, and the making of a line in a buffer that its thread keeps.

use std::{cell::RefCell, sync::Arc};

use arc_swap::ArcSwap;
use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter, span, subscriber::Interest};

use super::{
    Settings,
    line::Line,
    timestamp::{self, Timestamp},
    writer::Writer,
};

/// Turns events into lines. Spans are not recorded: an event carries all of its fields, and a registry of spans would
/// cost every request more than its line.
#[derive(Debug)]
pub(super) struct Lines {
    settings: Arc<ArcSwap<Settings>>,
    writer: Writer,
}

impl Lines {
    pub(super) fn new(settings: Arc<ArcSwap<Settings>>, writer: Writer) -> Self {
        Self { settings, writer }
    }

    fn write(&self, event: &Event<'_>, scratch: &mut Scratch) {
        let settings = self.settings.load();
        let metadata = event.metadata();
        let Scratch { line: text, timestamp } = scratch;
        text.clear();
        let mut line = Line::begin(text, &settings, *metadata.level(), metadata.target(), |out| {
            timestamp.push(out, timestamp::now());
        });
        event.record(&mut line);
        line.finish();
        self.writer.append(text);
        // One long line must not stay in the memory of each thread.
        if text.capacity() > SCRATCH_BYTES_MAX {
            *text = String::new();
        }
    }
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // `reconfigure` has every callsite asked again, so the answer may be remembered and an event costs no look-up.
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
        // The fields of an event may log while they are formatted, and a thread may log while it ends: then the
        // thread's buffer is not to be had.
        let written = SCRATCH.try_with(|scratch| {
            scratch.try_borrow_mut().map(|mut scratch| self.write(event, &mut scratch)).is_ok()
        });
        if written != Ok(true) {
            self.write(event, &mut Scratch::default());
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

#[derive(Debug, Default)]
struct Scratch {
    line: String,
    timestamp: Timestamp,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Our crates are named `switchboard` or `switchboard_…`.
fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("switchboard")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

const SCRATCH_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
pub(super) fn with_buffer_in_use<T>(action: impl FnOnce() -> T) -> T {
    SCRATCH.with_borrow_mut(|_| action())
}
