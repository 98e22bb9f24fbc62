//! The front door of a Microsoft Teams calling bot: HTTP, configuration, composition, telemetry.
//!
//! This crate is the `switchboard` binary; its library is what the binary's `main` and the tests need. What decides
//! anything is in the crates below it: who a caller is in `switchboard-auth`, what a body is in
//! `switchboard-notification`, where a call belongs in `switchboard-routing`, and the way to an instance in
//! `switchboard-delivery`.
//!
//! ```
//! use switchboard::config::Config;
//!
//! let text = r#"
//!     region = "emea"
//!     [[app]]
//!     id = "0efc74f7-41c3-47a4-8775-7259bfef4241"
//!     [callback]
//!     base = "https://emea.bots.contoso.com"
//!     seal = [{ id = "k1", secret = { env = "SEAL" } }]
//!     [[fleet.instance]]
//!     name = "bot-0"
//!     url = "http://10.0.0.10:3978/api/calls"
//!     weigth = 2
//! "#;
//! let secret = "c2VhbHNlYWxzZWFsc2VhbHNlYWxzZWFsc2VhbHNlYWw=";
//! let problems = Config::parse(text, "".as_ref(), |_| Some(secret.to_owned())).unwrap_err();
//! assert!(problems.to_string().contains("fleet.instance[0].weigth"));
//! ```
//!
//! Reading order: `handle` (one request, start to finish), `request` and `reply` (its two ends), `app` (the parts), `server`
//! (bind, accept, reload, drain), `worker` and `connection` (threads and limits), then `config`.

mod act;
pub mod admin;
mod app;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connection;
mod descriptors;
mod fetch;
mod graph;
mod handle;
pub mod metrics;
pub mod outcome;
mod peers;
mod record;
mod reply;
mod request;
mod retries;
pub mod serve;
pub mod server;
mod tasks;
pub mod telemetry;
mod tls;
mod worker;
