//! The `switchboard-emulator` binary.
fn main() {}
