//! Tests of the crate through its boundary: actions and bodies are data, Graph and the token endpoint are a
//! script.

// Clippy recognises the helpers as test code only by this attribute.
#[cfg(test)]
mod actions;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod identities;
#[cfg(test)]
mod in_call;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokens;
