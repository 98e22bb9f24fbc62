//! The crate through its boundary: actions and bodies as data, Graph and the token endpoint as a script.

mod actions;
mod bodies;
mod credentials;
mod refusals;
mod retries;
mod schema;
mod script;
mod tokens;
