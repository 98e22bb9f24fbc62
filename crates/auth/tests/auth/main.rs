//! Tests of the crate through its boundary: tokens, keys, issuers and the network.

// Clippy recognises the helpers as test code only by this attribute.
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod examinations;
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
