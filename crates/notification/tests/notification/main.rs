//! Tests of the crate through `Envelope::parse`.

// Clippy recognises the helpers as test code only by this attribute.
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod support;
