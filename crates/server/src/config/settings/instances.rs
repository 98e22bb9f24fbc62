//! `[placement]`, `[fleet]`.

use super::{
    definition::{
        DefaultValue::{Absent, Depends, Fractional, Number, Required, Text, Usual},
        Definition, Table,
        ValueKind::{
            Address, Duration, DurationBelow, Fraction, Group, Groups, Guid, Integer, List, PositiveFraction,
            Words,
        },
    },
    texts::{DNS_NAME, FILE, FULL, LABEL, LIST_FILE, NAME, NETWORK, POD_PORT, TARGET_PATH, TEXT, URL},
};

/// `[placement]`
pub(super) static PLACEMENT: Table = Table::new(&[
    Definition::new(
        "key",
        Words(&["call", "chain", "thread", "tenant"]),
        Text("call"),
        "the value by which instances are ranked. `call` spreads calls evenly. The others keep the legs of a \
         chain, a meeting or a tenant together, and spread calls less evenly. If a call lacks the value, the \
         gateway uses the call id",
    ),
    Definition::new(
        "budget",
        DurationBelow("1ms", "15s"),
        Text("12s"),
        "the time from the arrival of a new call until an instance must have accepted it",
    ),
    Definition::new(
        "recording_budget",
        DurationBelow("1ms", "5s"),
        Text("3500ms"),
        "the time from the arrival of a new call under a recording policy until an instance must have \
         accepted it",
    ),
    Definition::new(
        "attempt",
        Duration("1ms", "15s"),
        Usual(&Text("3s"), "`\"3s\"`, or `budget` if shorter"),
        "the time after which an instance that has not responded to a new call is \
         [ejected](instances.md#ejection). The attempt stays open. It is also the longest time until the \
         next instance is [asked beside it](instances.md#how-a-new-call-is-placed)",
    )
    .range("`1ms` to `budget`"),
    Definition::new(
        "eject_share",
        Fraction,
        Fractional(0.5),
        "the part of the fleet that may be [ejected](instances.md#ejection) at once for slow or failed \
         responses, rounded down; at least one instance may be. Beyond it an instance takes one call at a \
         time instead. Instances that refuse connections or miss their probes do not count",
    ),
    Definition::new(
        "fill",
        Words(&["spread", "pack"]),
        Text("spread"),
        "`spread`: each call ranks the instances by its own `key`. `pack`: new calls [fill one instance \
         after the other](scaling.md#fill-one-instance-after-the-other), so that others stay empty. Only \
         with `key = \"call\"`",
    ),
    Definition::new(
        "fill_share",
        PositiveFraction,
        Fractional(0.8),
        "with `pack`: the part of its capacity up to which an instance is filled. If all are filled, calls \
         are spread",
    )
    .range("above 0.0, to 1.0"),
    Definition::new(
        "full",
        FULL,
        Text("refuse"),
        "what happens if no instance could accept the call. `refuse`: 503. `overflow:REGION`: a redirect to \
         that peer, or 503 if the call has been redirected once or the peer is unhealthy. `reject`: rejected \
         as busy through Graph, for which every app needs `[app.graph]`; a rejection is final, so it applies \
         only if every instance that can be reached reports full or draining. The response is always 503 \
         while the fleet is not known, and if an instance was sent the call and may still answer it",
    )
    .range("`\"refuse\"`, `\"overflow:REGION\"`, `\"reject\"`"),
]);

/// `[fleet]`
pub(super) static FLEET: Table = Table::new(&[
    Definition::new(
        "keep_leaving",
        Duration("0s", "7d"),
        Text("24h"),
        "how long an instance that is no longer listed keeps its callbacks at most. See [instances that \
         leave](instances.md#instances-that-leave)",
    ),
    Definition::new(
        "slow_start",
        Duration("0s", "1h"),
        Text("0s"),
        "the time over which the weight of an instance rises after it became ready: a new instance, or an \
         instance that missed its probes or whose pod was not ready. A failed attempt or an ejection does \
         not count. Each gateway sees that for itself, so until then gateways may rank a call differently",
    ),
    Definition::new(
        "head_room",
        Fraction,
        Fractional(0.2),
        "the part by which [the wanted size of the fleet](scaling.md#the-wanted-size) exceeds what the \
         present calls need. It decides no call",
    ),
    Definition::new(
        "store",
        FILE,
        Absent("none"),
        "with `[fleet.dns]`, `[fleet.kubernetes]` and `[fleet.file]`: a folder for the last known fleet, \
         created if absent. It serves callbacks after a restart until the source is read. See [the fleet \
         store](instances.md#the-fleet-store)",
    )
    .range("path"),
    Definition::new(
        "allow",
        List(&NETWORK, 0),
        Absent("none"),
        "addresses that instances found by DNS or Kubernetes may have besides the usual ones. Without it, a \
         response with a loopback, link-local, multicast, unspecified or metadata address is refused as a \
         whole; of SRV records only the record with that address is left out",
    )
    .range("networks, like `\"10.0.0.0/8\"`"),
    Definition::new(
        "name_servers",
        List(&Address, 0),
        Absent("those of the system"),
        "the DNS servers for the host names of listed instances, also of those in a file, and of \
         `peer.callback`. The hosts file comes first. See [names of listed \
         instances](instances.md#names-of-listed-instances)",
    )
    .range("addresses with ports, like `\"10.0.0.53:53\"`"),
    Definition::new(
        "ca",
        FILE,
        Absent("none"),
        "a file of certificate authorities in PEM, trusted for https instances besides those of the system. \
         A reload reads it again, and opens new connections",
    )
    .range("path"),
    Definition::new("instance", Groups(&INSTANCE, Some("name"), 1), Depends, "the instances, as a list"),
    Definition::new("dns", Group(&DNS), Depends, "the instances are found by DNS"),
    Definition::new("kubernetes", Group(&KUBERNETES), Depends, "the instances are the pods of a service"),
    Definition::new(
        "file",
        Group(&FLEET_FILE),
        Depends,
        "the instances are listed in a file, which another program replaces",
    ),
    Definition::new(
        "probe",
        Group(&PROBE),
        Absent(""),
        "the probe of instances. Without it an instance is ready until it fails a call or refuses a \
         connection",
    ),
])
.one_of(&[&["instance"], &["dns"], &["kubernetes"], &["file"]]);

/// `[[fleet.instance]]`
static INSTANCE: Table = Table::new(&[
    Definition::new(
        "name",
        NAME,
        Required,
        "stable while its calls last, because callback URIs contain it. Give the name to another process \
         only after the calls of the first have ended",
    )
    .range("a name, each once"),
    Definition::new(
        "url",
        URL,
        Required,
        "where new calls go; `{app}` in path or query stands for the app id. It must not lead to the gateway \
         itself: not to host and port of `listen.address` (for `0.0.0.0` and `[::]`, of any address of this \
         machine) or of `callback.base`",
    ),
    Definition::new("callback_url", URL, Absent("`url`"), "where callbacks go"),
    Definition::new("apps", List(&Guid, 1), Absent("all"), "the apps whose new calls it accepts")
        .range("ids of `[[app]]`"),
    Definition::new("weight", Integer(1, 1000), Number(1), "its part of the calls, relative to the others"),
    Definition::new(
        "host",
        TEXT,
        Absent("host and port of the URL"),
        "the `Host` of calls, callbacks and probes, sent as written. For servers that are reached by an \
         address and know themselves by a name only, such as IIS and `http.sys` with a host name binding",
    )
    .range("a host, with or without a port"),
    Definition::new(
        "tls_name",
        DNS_NAME,
        Absent("the host of the URL"),
        "with an https URL: the name that the certificate must have, which is also the server name (SNI) of \
         the handshake. For an instance that is reached by its address and has a certificate for a name",
    ),
    Definition::new(
        "ca",
        FILE,
        Absent("`fleet.ca` and those of the system"),
        "with an https URL: a file of at most 64 certificate authorities in PEM. They alone verify this \
         instance. A reload reads it again",
    ),
]);

/// `[fleet.dns]`
static DNS: Table = Table::new(&[
    Definition::new(
        "name",
        DNS_NAME,
        Required,
        "a name that begins with `_` has SRV records, any other has addresses",
    ),
    Definition::new(
        "port",
        Integer(1, 65_535),
        Depends,
        "the port of all instances. Not with SRV records, which have their own",
    ),
    Definition::new(
        "scheme",
        Words(&["http", "https"]),
        Text("http"),
        "with https the certificate must be for `name`, or for the target of the SRV record",
    ),
    Definition::new(
        "path",
        TARGET_PATH,
        Text("/api/calls"),
        "for new calls and callbacks; `{app}` stands for the app id",
    ),
    Definition::new(
        "refresh",
        Duration("1s", "1h"),
        Text("30s"),
        "the longest time between two look-ups. Records that are valid for less are looked up when they \
         expire, but at most once a second",
    ),
    Definition::new("servers", List(&Address, 0), Absent("those of the system"), "the DNS servers")
        .range("addresses with ports, like `\"10.0.0.53:53\"`"),
]);

/// `[fleet.kubernetes]`
static KUBERNETES: Table = Table::new(&[
    Definition::new(
        "namespace",
        LABEL,
        Absent("that of the gateway's pod"),
        "where the service is. With a kubeconfig the default is that of its context",
    ),
    Definition::new("service", LABEL, Required, "the pods in its EndpointSlices are the instances"),
    Definition::new(
        "port",
        POD_PORT,
        Required,
        "the port of the pods, or the name of the port in the service",
    )
    .range("1 to 65535, or a name"),
    Definition::new(
        "scheme",
        Words(&["http", "https"]),
        Text("http"),
        "with https the certificate must be for `SERVICE.NAMESPACE.svc`, which is also the `Host`",
    ),
    Definition::new(
        "path",
        TARGET_PATH,
        Text("/api/calls"),
        "for new calls and callbacks; `{app}` stands for the app id",
    ),
]);

/// `[fleet.file]`
static FLEET_FILE: Table = Table::new(&[Definition::new(
    "path",
    LIST_FILE,
    Required,
    "the file that lists the instances. Another program replaces it; it need not exist at the start. \
         `switchboard check` warns of its problems",
)
.range("a path that ends in `.json` or `.toml`")]);

/// `[fleet.probe]`
static PROBE: Table = Table::new(&[
    Definition::new("path", TARGET_PATH, Required, "GET goes to this path, on host and port of `url`")
        .range("a path, query allowed"),
    Definition::new(
        "interval",
        Duration("10ms", "1h"),
        Text("5s"),
        "time between two probes of an instance; a response must arrive within half of it",
    ),
]);
