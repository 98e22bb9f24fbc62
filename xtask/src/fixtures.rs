//! `cargo xtask fixtures`: the data that tests prove things with.

/// One file below `fixtures/`. Each submodule has a `pub(crate) fn fixtures() -> Vec<Fixture>`.
pub(crate) struct Fixture {
    /// Relative to `fixtures/`, like `tokens/skype.jwt`.
    pub(crate) path: String,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
}
