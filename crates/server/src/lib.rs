//! The parts of the `switchboard` binary.

pub mod outcome;
