//! The crate through its boundary: tokens, keys, issuers and the network as they come.

// Clippy knows helpers for test code by this attribute only.
#[cfg(test)]
mod key_rules;
#[cfg(test)]
mod key_sets;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod store;
#[cfg(test)]
mod support;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod tokens;
