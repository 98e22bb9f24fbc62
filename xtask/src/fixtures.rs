//! `cargo xtask fixtures`: the data that tests prove things with.
