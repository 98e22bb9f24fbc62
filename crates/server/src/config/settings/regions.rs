//! `[callback]`, `[[peer]]`, `[affinity]`.

use super::{
    definition::{
        DefaultValue::{Absent, Fractional, Number, On, Required, Text},
        Definition, Table,
        ValueKind::{Duration, Fraction, Groups, Guid, InlineList, List, Numbers, Secret, Switch, Words},
    },
    texts::{KEY_NAME, NAME, SECURE_URL, TEXT},
};

/// `[callback]`
pub(super) static CALLBACK: Table = Table::new(&[
    Definition::new(
        "base",
        SECURE_URL,
        Required,
        "the start of callback URIs: the address under which the platform reaches this region, with a \
         publicly trusted certificate",
    )
    .range("https URL without a path"),
    Definition::new(
        "seal",
        InlineList(&SEAL, "id"),
        Required,
        "the first key signs, all of them are accepted. `id`: 1 to 63 of `A-Z a-z 0-9 _ -`; `secret`: base64 \
         in either alphabet, 32 bytes or more, from `switchboard keygen`. See [how to rotate \
         them](rotate.md#seal-keys)",
    )
    .range("a list of `{ id, secret }`"),
    Definition::new(
        "patience",
        Duration("1ms", "60s"),
        Text("8s"),
        "how long the gateway attempts to deliver a callback, from its arrival",
    ),
    Definition::new(
        "orphaned",
        Words(&["refuse", "reassign"]),
        Text("refuse"),
        "a callback whose instance is gone, or has another [incarnation](instances.md#incarnations): 410, or \
         to the instance that the call id ranks first, marked as orphaned",
    ),
]);

/// One key of `callback.seal`
static SEAL: Table = Table::new(&[
    Definition::new("id", KEY_NAME, Required, "a name for the key"),
    Definition::new("secret", Secret, Required, "base64 of 32 bytes or more, from `switchboard keygen`"),
]);

/// `[[peer]]`
pub(super) static PEER: Table = Table::new(&[
    Definition::new("name", NAME, Required, "the region").range("a name other than `region`"),
    Definition::new("webhook", SECURE_URL, Required, "where its calls are redirected to")
        .range("https URL without a query"),
    Definition::new(
        "callback",
        SECURE_URL,
        Absent("none"),
        "the gateway of that region, to which callbacks of the region are proxied when they arrive here. Its \
         certificate is verified. Both regions need each other's seal keys. Without it such a callback gets \
         410",
    )
    .range("https URL without a path"),
    Definition::new(
        "health",
        SECURE_URL,
        Absent("none"),
        "the `health_path` of the region, asked every 5 s. Without it the region is treated as healthy",
    ),
]);

/// `[affinity]`
pub(super) static AFFINITY: Table = Table::new(&[
    Definition::new("status", Numbers(&[302, 307, 308]), Number(302), "the status of a redirect"),
    Definition::new(
        "rule",
        Groups(&RULE, None, 0),
        Absent(""),
        "the rules that give calls to regions. The first one that matches decides",
    ),
]);

/// `[[affinity.rule]]`
static RULE: Table = Table::new(&[
    Definition::new("source_region", List(&TEXT, 1), Absent("any"), "`source.region`"),
    Definition::new("country", List(&TEXT, 1), Absent("any"), "`source.countryCode`"),
    Definition::new(
        "caller_region",
        List(&TEXT, 1),
        Absent("any"),
        "the header `X-Microsoft-Skype-Caller-Region`",
    ),
    Definition::new("media_region", List(&TEXT, 1), Absent("any"), "`mediaHostedRegion`"),
    Definition::new("tenant", List(&Guid, 1), Absent("any"), "the tenant of the token, GUIDs"),
    Definition::new(
        "organizer_tenant",
        List(&Guid, 1),
        Absent("any"),
        "the tenant of the meeting's organizer, GUIDs",
    ),
    Definition::new(
        "user",
        List(&TEXT, 1),
        Absent("any"),
        "the observed user of a policy recording: object ids",
    ),
    Definition::new(
        "share",
        Fraction,
        Fractional(1.0),
        "the part of the matching calls to which the rule applies, 0.0 to 1.0, by a hash of the chain id: a \
         chain stays together",
    ),
    Definition::new(
        "serve_in",
        NAME,
        Required,
        "the region that serves the call: this region, or that of a `[[peer]]`",
    ),
    Definition::new(
        "dry_run",
        Switch,
        On(false),
        "`true`: the rule is decided, [logged](logs.md#requests) and [counted](metrics.md#regions), and not \
         followed. The evaluation goes on with the next rule, as if this one had not matched. See [move \
         calls to another region](run.md#move-calls-to-another-region)",
    ),
]);
