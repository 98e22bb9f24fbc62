//! `[[app]]`, `[[trust]]`, `[keys]`.

use super::{
    definition::{
        DefaultValue::{Absent, Depends, Required, Text, Texts},
        Definition, Table,
        ValueKind::{Duration, Group, Guid, Inline, List, Secret},
    },
    texts::{FILE, ISSUER, KEY_NAME, SECURE_URL, TENANT, TEXT},
};

/// `[[app]]`
pub(super) static APP: Table = Table::new(&[
    Definition::new("id", Guid, Required, "the app id: the audience of its tokens"),
    Definition::new(
        "tenants",
        List(&TENANT, 1),
        Texts(&["*"]),
        "the tenants whose calls are accepted. List them if you know them",
    )
    .range("`[\"*\"]` or GUIDs"),
    Definition::new(
        "audiences",
        List(&TEXT, 0),
        Absent("`[]`"),
        "accepted besides the id. The platform is not known to use any",
    )
    .range("texts, not an issuer, not another app's"),
    Definition::new(
        "graph",
        Group(&GRAPH),
        Absent(""),
        "the calls API, with which the gateway acts on the calls of the app. Set exactly one credential",
    ),
]);

/// `[app.graph]`
static GRAPH: Table = Table::new(&[
    Definition::new("secret", Secret, Depends, "a client secret: its value, not its id"),
    Definition::new(
        "certificate",
        FILE,
        Depends,
        "a certificate registered with the app, together with `key`",
    )
    .range("a PEM file"),
    Definition::new("key", FILE, Depends, "the RSA key of `certificate`, without a password")
        .range("a PEM file"),
    Definition::new(
        "federated_token",
        FILE,
        Depends,
        "workload identity: a token that Entra trusts for this app. The gateway reads the file for every \
         token request",
    )
    .range("a file"),
    Definition::new(
        "federated_identity",
        Inline(&FEDERATED_IDENTITY),
        Depends,
        "a managed identity that Entra trusts for this app (a federated credential of the app). The app may \
         act in any tenant",
    )
    .range("a table, see below"),
    Definition::new(
        "managed_identity",
        Inline(&MANAGED_IDENTITY),
        Depends,
        "the app is itself a managed identity. Its tokens are for one tenant",
    )
    .range("a table, see below"),
    Definition::new(
        "authority",
        SECURE_URL,
        Absent("the login host of the cloud"),
        "where tokens come from, without the tenant. Not with `managed_identity`",
    )
    .range("https, or http on loopback"),
    Definition::new(
        "endpoint",
        SECURE_URL,
        Absent("the Graph of the cloud"),
        "where Graph is, without the version",
    )
    .range("https, or http on loopback"),
])
.one_of(&[
    &["secret"],
    &["certificate", "key"],
    &["federated_token"],
    &["federated_identity"],
    &["managed_identity"],
]);

/// `app.graph.managed_identity`
static MANAGED_IDENTITY: Table = Table::new(&[
    Definition::new(
        "tenant",
        Guid,
        Required,
        "for `managed_identity` only: the tenant of its tokens. An action on a call of another tenant fails \
         with [`token_other_tenant`](actions.md#what-can-go-wrong-with-graph), and nothing is asked",
    )
    .range("a GUID, one of the app's `tenants`"),
    CLIENT_ID,
    IDENTITY_ENDPOINT,
]);

/// `app.graph.federated_identity`
static FEDERATED_IDENTITY: Table = Table::new(&[CLIENT_ID, IDENTITY_ENDPOINT]);

const CLIENT_ID: Definition = Definition::new(
    "client_id",
    Guid,
    Absent("the machine's own identity"),
    "a user-assigned identity. For an Azure Bot of the type \"user-assigned managed identity\" it is the \
     app's `id`",
);
const IDENTITY_ENDPOINT: Definition = Definition::new(
    "endpoint",
    SECURE_URL,
    Absent("by the environment"),
    "an endpoint in place of the metadata service, such as the emulator's",
)
.range("https, or http on loopback");

/// `[[trust]]`
pub(super) static TRUST: Table = Table::new(&[
    Definition::new("name", KEY_NAME, Required, "for logs, metrics and the file in the store"),
    Definition::new(
        "metadata",
        SECURE_URL,
        Required,
        "the OpenID configuration; keys must be on the same host",
    ),
    Definition::new(
        "issuers",
        List(&ISSUER, 1),
        Required,
        "accepted issuers, byte for byte. `{tid}` stands for the tenant, as a whole segment of the path. No \
         two trusts may share an issuer",
    )
    .range("one or more"),
    Definition::new(
        "callers",
        List(&Guid, 0),
        Absent("`[]`"),
        "accepted calling apps (`appid`, `azp`). Required if an issuer contains a tenant: any application of \
         any tenant can obtain a token for your app",
    )
    .range("GUIDs"),
    Definition::new(
        "ca",
        FILE,
        Absent("none"),
        "certificates trusted for metadata and keys besides those of the system. After a change, keys are \
         fetched at once. If the new certificates do not verify the endpoint, the old keys are dropped; if \
         it cannot be reached, they stay until `keep_stale`",
    )
    .range("path, PEM"),
]);

/// `[keys]`
pub(super) static KEYS: Table = Table::new(&[
    Definition::new("refresh", Duration("1s", "1d"), Text("1h"), "time between two regular fetches, ± 5 %"),
    Definition::new(
        "cooldown",
        Duration("100ms", "1h"),
        Text("30s"),
        "time between two fetches that unknown key ids cause",
    ),
    Definition::new(
        "keep_stale",
        Duration("1s", "30d"),
        Text("24h"),
        "how long keys stay usable while their endpoint does not respond",
    )
    .range("`1s` to `30d`, longer than `refresh`"),
    Definition::new(
        "store",
        FILE,
        Absent("none"),
        "a folder for the last good key sets, created if absent: one file for each trust. See [the key \
         store](rotate.md#the-key-store)",
    )
    .range("path"),
]);
