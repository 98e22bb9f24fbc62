//! The log: one line per event on stderr, written by a thread of its own.
//!
//! Reading order: `install` (the entry), `subscriber` (which events), `line` and `escape` (the format of a
//! line), `writer` (the output). `event_limiter` bounds the events that unauthenticated senders cause.

mod counts;
mod escape;
mod event_limiter;
mod fields;
mod install;
mod line;
mod number;
mod settings;
mod subscriber;
mod timestamp;
mod writer;

pub use self::{
    counts::LogCounts,
    fields::{Chain, milliseconds},
    install::{Guard, install},
    settings::Format,
};
pub(crate) use self::{
    escape::is_deceptive,
    event_limiter::EventLimiter,
    line::Line,
    subscriber::{json_line, log_line},
};

#[cfg(test)]
mod tests;
