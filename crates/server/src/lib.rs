//! The gateway in front of a Microsoft Teams calling bot: HTTP, configuration, composition, telemetry.
//!
//! This crate is the `switchboard` binary. Its library holds the parts that `main` and the tests use. The
//! decisions are in other crates: `switchboard-auth` authenticates the sender, `switchboard-notification`
//! parses the body, `switchboard-routing` chooses the region and the instance, `switchboard-delivery`
//! forwards the request, and `switchboard-graph` acts on calls.
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
//! The library is for this binary and its tests. Its enums are exhaustive on purpose: a new variant needs a
//! decision wherever one is matched.
//!
//! Reading order: `request::handle` (one request from start to end), `request::received` and `request::reply`
//! (its two ends), `gateway` (the parts), `process::server` (bind, serve, reload, drain), `process::worker`
//! and `process::connection` (threads and limits), `clients` (key issuers, Graph, peers), `traces`, then
//! `config`.

pub mod admin;
mod certificate_findings;
pub mod cli;
mod clients;
pub mod commands;
pub mod config;
pub mod fleet_totals;
mod gateway;
pub mod metrics;
pub mod observed;
mod platform;
mod prehashed;
pub mod process;
mod readiness;
pub mod request;
pub mod telemetry;
pub mod traces;
mod wall_clock;
