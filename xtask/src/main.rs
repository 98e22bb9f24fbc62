//! `cargo xtask fixtures | tidy | check | demo`.
fn main() {}
