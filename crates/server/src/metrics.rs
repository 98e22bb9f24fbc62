//! The metrics: counters and histograms of this process, and their text for `/metrics`.
//!
//! A request touches only atomics that exist before it arrives: no look-up by label, no lock, no allocation.
//! The state of keys and instances has no copy here; each scrape reads it.
//!
//! Reading order: `recorder` (what is recorded), `exposition` (the metric names) with `calls`, `instances`,
//! `fleet`, `placement`, `rules`, `spans` and `process`, `families` (the text), `format` (its choice),
//! `new_calls` and `series` (the counters). `overview_numbers` is for the page of operators.

mod calls;
mod exposition;
mod families;
mod fleet;
mod format;
mod instances;
mod new_calls;
mod overview_numbers;
mod placement;
mod process;
mod recorder;
mod rules;
mod series;
mod spans;

pub(crate) use self::overview_numbers::OverviewNumbers;
pub use self::{
    exposition::{ConfigNumbers, DeliveryNumbers, Scrape},
    format::Format,
    recorder::{ConnectionGuard, InFlight, Metrics, RequestKind, WorkerGuard},
};

#[cfg(test)]
pub(crate) mod tests;
