//! End-to-end tests of the built gateway: real processes and sockets. The platform, the bots and the issuers
//! are simulated on loopback.
//!
//! The tests use none of the gateway's own crates, so that they do not repeat the mistakes of those crates.
//! Reading order: `support` (the issuers, the instances, the platform's requests, the gateway as a process),
//! then one file per subject.

#[cfg(test)]
mod actions;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod azure_scripts;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod callbacks;
#[cfg(test)]
mod client_addresses;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod explained;
#[cfg(test)]
mod exposition;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod feed;
#[cfg(test)]
mod fleet_commands;
#[cfg(test)]
mod fleet_file;
#[cfg(test)]
mod fleet_store;
#[cfg(test)]
mod graph_failures;
#[cfg(test)]
mod hang_ups;
#[cfg(test)]
mod hanging_files;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod http1;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod in_call_actions;
#[cfg(test)]
mod incarnations;
#[cfg(test)]
mod instance_authorities;
#[cfg(test)]
mod ivr_bots;
#[cfg(test)]
mod keys;
#[cfg(feature = "kubernetes")]
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod large_bodies;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod managed_identities;
#[cfg(test)]
mod pack;
#[cfg(test)]
mod page;
#[cfg(test)]
mod proxied;
#[cfg(test)]
mod recorded_alerts;
#[cfg(test)]
mod redirects;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod scaling;
#[cfg(test)]
mod sdk_bots;
#[cfg(test)]
mod shadow;
#[cfg(test)]
mod slots;
#[cfg(test)]
mod support;
#[cfg(all(unix, target_os = "linux"))]
#[cfg(test)]
mod systemd;
#[cfg(test)]
mod systemd_units;
#[cfg(test)]
mod tail;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
#[cfg(feature = "otlp")]
#[cfg(test)]
mod traces;
#[cfg(test)]
mod webhook;
