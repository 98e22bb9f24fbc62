//! The metrics: counters and histograms of this process, and their text for `/metrics`.
//!
//! A request touches only atomics that exist before it arrives: no look-up by label, no lock, no allocation.
//! The state of keys and instances has no copy here; each scrape reads it.
//!
//! Reading order: `recorder` (what is recorded), `exposition` (the metric names) with
//! `instances`, `placement`, `families`, `series`.

mod exposition;
mod families;
mod instances;
mod placement;
mod recorder;
mod series;

pub use self::{
    exposition::{CONTENT_TYPE, DeliveryNumbers, exposition},
    recorder::{ConnectionGuard, InFlight, Metrics, RequestKind, WorkerGuard},
};

#[cfg(test)]
pub(crate) mod tests;
