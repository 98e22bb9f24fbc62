//! The numbers of the spans of traces.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::families::Families;

/// The spans of this process by what became of them, and its exports.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    pub(crate) exported: AtomicU64,
    /// Without room in the queue.
    pub(crate) queue_full: AtomicU64,
    /// In exports that failed.
    pub(crate) not_exported: AtomicU64,
    /// By the collector, in an export that it accepted.
    pub(crate) rejected: AtomicU64,
    pub(crate) exports_ok: AtomicU64,
    pub(crate) exports_failed: AtomicU64,
}

impl SpanCounts {
    pub(super) fn encode(&self, families: &mut Families<'_>) -> fmt::Result {
        let Self { exported, queue_full, not_exported, rejected, exports_ok, exports_failed } = self;
        families.counter("spans_exported", "Spans that the collector accepted", exported.load(Relaxed))?;
        families.counters(
            "spans_dropped",
            "Spans that the collector does not have, by reason",
            [("queue_full", queue_full), ("not_exported", not_exported), ("rejected", rejected)]
                .map(|(reason, count)| ([("reason", reason)], count.load(Relaxed))),
        )?;
        families.counters(
            "span_exports",
            "Exports of spans by result, after their repetitions",
            [("ok", exports_ok), ("failed", exports_failed)]
                .map(|(result, count)| ([("result", result)], count.load(Relaxed))),
        )
    }
}
