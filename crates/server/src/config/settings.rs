//! Every setting of a configuration, in one table. The reference page and the JSON schema are made from it,
//! and a test holds them and the parser together.
//!
//! Reading order: `definition` (one setting), `texts` (the forms of texts), then the tables in the order of
//! the file: `listeners`, `senders`, `regions`, `instances`.

mod definition;
mod instances;
mod listeners;
#[cfg(test)]
mod reference;
mod regions;
#[cfg(test)]
mod schema;
mod senders;
#[cfg(test)]
mod tests;
mod texts;

#[cfg(test)]
pub(super) use self::tests::check_schema_accepts;

pub use self::definition::{DefaultValue, Definition, OnReload, Table, ValueKind};
use self::{
    definition::{
        DefaultValue::{Absent, Required, Text},
        OnReload::NeedsRestart,
        ValueKind::{Group, Groups, Words},
    },
    instances::{FLEET, PLACEMENT},
    listeners::{ADMIN, FORWARD, LIMITS, LISTEN, LOG},
    regions::{AFFINITY, CALLBACK, PEER},
    senders::{APP, KEYS, TRUST},
    texts::{NAME, SECURE_URL},
};

/// All settings: the top level of the file. The list in the file of `[fleet.file]` is not among them.
pub static SETTINGS: Table = Table::new(&[
    Definition::new("region", NAME, Required, "the region that this gateway serves; callback URIs name it")
        .on_reload(NeedsRestart),
    Definition::new(
        "cloud",
        Words(&["public", "gcc-high", "dod", "china"]),
        Text("public"),
        "the cloud of the platform: `\"public\"` (also GCC), `\"gcc-high\"`, `\"dod\"` or `\"china\"`. It \
         chooses the [built-in trusts](#trust) and the hosts of [Graph](#app)",
    ),
    Definition::new(
        "skype_metadata",
        SECURE_URL,
        Absent("that of the cloud"),
        "an https URL: the OpenID configuration of the platform's own issuer, for the built-in trust \
         `skype`. Required for `\"gcc-high\"` and `\"dod\"`, for which Microsoft does not publish it",
    ),
    Definition::new(
        "listen",
        Group(&LISTEN),
        Absent(""),
        "the public listener: the webhook and the callbacks",
    ),
    Definition::new("admin", Group(&ADMIN), Absent(""), "the admin listener, which must never be public"),
    Definition::new("app", Groups(&APP, Some("id"), 1), Required, "the apps that may be called"),
    Definition::new(
        "trust",
        Groups(&TRUST, Some("name"), 1),
        Absent(""),
        "the issuers whose tokens are accepted. Without any, the gateway uses the two of the cloud. With \
         one, it uses only yours",
    ),
    Definition::new(
        "keys",
        Group(&KEYS),
        Absent(""),
        "the rules for fetching and keeping the keys of issuers",
    ),
    Definition::new("callback", Group(&CALLBACK), Required, "the callback URIs of this region"),
    Definition::new("peer", Groups(&PEER, Some("name"), 0), Absent(""), "the other regions"),
    Definition::new("affinity", Group(&AFFINITY), Absent(""), "the rules that give calls to regions"),
    Definition::new(
        "placement",
        Group(&PLACEMENT),
        Absent(""),
        "the rules by which a new call is placed on an instance",
    ),
    Definition::new(
        "fleet",
        Group(&FLEET),
        Required,
        "the instances: listed here or in a file, found by DNS, or the pods of a service",
    ),
    Definition::new("forward", Group(&FORWARD), Absent(""), "the fields of requests that instances receive"),
    Definition::new("limits", Group(&LIMITS), Absent(""), "the limits of size, number and idle time"),
    Definition::new("log", Group(&LOG), Absent(""), "the log, on stderr"),
]);
