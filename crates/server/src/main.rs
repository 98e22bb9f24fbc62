//! The `switchboard` binary: start, serve, stop.
fn main() {}
