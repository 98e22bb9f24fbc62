//! Tests of the crate through its boundary: actions and bodies are data, Graph and the token endpoint are a
//! script.

mod actions;
mod bodies;
mod credentials;
mod refusals;
mod retries;
mod schema;
mod script;
mod tokens;
