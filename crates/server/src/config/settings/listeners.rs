//! `[listen]`, `[admin]`, `[limits]`, `[log]`, `[forward]`.

use super::{
    definition::{
        DefaultValue::{Absent, Number, On, Required, Text, Usual},
        Definition,
        OnReload::{NeedsRestart, PresenceNeedsRestart},
        Table,
        ValueKind::{Address, Duration, Group, Inline, Integer, List, Secret, Size, Switch, Words},
    },
    texts::{FILE, GATEWAY_PATH, NETWORK},
};

/// `[listen]`
pub(super) static LISTEN: Table = Table::new(&[
    Definition::new(
        "address",
        Address,
        Text("0.0.0.0:8443"),
        "the address to bind; port 0 takes a free port and logs it",
    )
    .on_reload(NeedsRestart),
    Definition::new(
        "tls",
        Inline(&TLS),
        Absent("none"),
        "without it the gateway speaks plain HTTP, for use behind a proxy that ends TLS. The certificate \
         file starts with the gateway's own certificate and contains its chain, each one followed by that of \
         its issuer. [Faults](rotate.md#certificates) that the platform refuses are warnings. The key must \
         have no password and must fit the certificate. Both are read again on SIGHUP, and when a file \
         changes (checked every 5 s). Files that do not respond leave the old certificate in place",
    )
    .range("`{ certificate = \"…\", key = \"…\" }`, PEM")
    .on_reload(PresenceNeedsRestart),
    Definition::new(
        "webhook_path",
        GATEWAY_PATH,
        Text("/api/calls"),
        "where the platform posts. `{webhook_path}/{app id}` works, too",
    ),
    Definition::new(
        "callback_path",
        GATEWAY_PATH,
        Text("/api/callbacks"),
        "the start of the paths of callbacks",
    ),
    Definition::new(
        "health_path",
        GATEWAY_PATH,
        Absent("off"),
        "where peer gateways, and front ends whose name only new calls use, ask whether this region can \
         accept a new call: 200 if a trust has keys, the fleet's source was read, an instance can accept a \
         call, and the gateway does not drain, else 503. Not for balancers of callbacks: a full fleet must \
         not cut off the callbacks of its calls",
    ),
    Definition::new(
        "ready_path",
        GATEWAY_PATH,
        Absent("off"),
        "where balancers ask whether this gateway is ready: 200 or 503 as on \
         [`/readyz`](admin.md#readiness), without a body",
    ),
    Definition::new(
        "proxies",
        Inline(&PROXIES),
        Absent("none"),
        "the proxies in front of the gateway, and how they say where a sender is: [proxies](#proxies)",
    )
    .range("`{ networks = [...], protocol = \"proxy\" }` or `\"x-forwarded-for\"`"),
    Definition::new("drain", Group(&DRAIN), Absent(""), "the times of a drain"),
]);

/// `listen.tls`
static TLS: Table = Table::new(&[
    Definition::new(
        "certificate",
        FILE,
        Required,
        "a PEM file: the certificate of the gateway, and its chain",
    ),
    Definition::new("key", FILE, Required, "a PEM file: the private key, without a password"),
]);

/// `listen.proxies`
static PROXIES: Table = Table::new(&[
    Definition::new(
        "networks",
        List(&NETWORK, 1),
        Required,
        "the networks or addresses from which the proxies connect",
    ),
    Definition::new(
        "protocol",
        Words(&["proxy", "x-forwarded-for"]),
        Required,
        "the way in which the proxies name the address of a sender",
    ),
]);

/// `listen.drain`
static DRAIN: Table = Table::new(&[
    Definition::new(
        "delay",
        Duration("0s", "1h"),
        Text("5s"),
        "after SIGTERM: how long the gateway still serves new connections, so that the balancer can notice",
    ),
    Definition::new(
        "deadline",
        Duration("0s", "1h"),
        Usual(&Text("10s"), "the delay and 5 s: `\"10s\"`"),
        "after SIGTERM: when the gateway cuts what is still in flight. Counted from the signal",
    )
    .range("the delay to `1h`"),
]);

/// `[admin]`
pub(super) static ADMIN: Table = Table::new(&[
    Definition::new("address", Address, Text("127.0.0.1:9090"), "the address to bind")
        .on_reload(NeedsRestart),
    Definition::new(
        "instance_metrics",
        Switch,
        On(true),
        "`false`: [`/metrics`](metrics.md#instances) has sums over all instances in place of series of each. \
         Some 30 series of each instance are too many for a scraper when there are thousands",
    ),
    Definition::new(
        "token",
        Secret,
        Absent("none"),
        "required to drain, to resume, to get callback URIs, and for the [feed, calls and \
         configuration](admin.md#access): `Authorization: Bearer …`. Without a token these are refused \
         unless the listener is bound to loopback",
    )
    .range("a secret of at least 16 bytes of printable ASCII without blanks"),
]);

/// `[forward]`
pub(super) static FORWARD: Table = Table::new(&[
    Definition::new(
        "authorization",
        Switch,
        On(true),
        "send the platform's token to the instance. Set it to `false` if bots do not check the token: a \
         token that is not sent cannot leak",
    ),
    Definition::new(
        "x_forwarded",
        Switch,
        On(false),
        "send `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto`: the address of the sender, the \
         host that the request names, and `https` or `http` as it arrived. Bots that redirect to https or \
         build URLs need it. `X-Forwarded-*` and `Forwarded` of a sender outside of `listen.proxies` are \
         dropped; those of a proxy in it stay, and its address is appended to `X-Forwarded-For`. With \
         `false`, all of them travel on as the sender wrote them. Probes have `X-Forwarded-Proto: https`",
    ),
]);

/// `[limits]`
pub(super) static LIMITS: Table = Table::new(&[
    Definition::new(
        "body",
        Size("1KiB", "16MiB"),
        Text("4MiB"),
        "the body of a request; a larger one gets 413, and the platform does not send it again. The roster \
         of 1,000 people has 1.8 MB",
    ),
    Definition::new(
        "body_memory",
        Size("1KiB", "2048MiB"),
        Text("256MiB"),
        "all bodies in memory together; a request whose body would exceed it gets 503 before its body is \
         read. The parts of a batch with several owners count besides the batch itself: twice `limits.body` \
         and 4 MiB carry any batch",
    )
    .range("`limits.body` to `2048MiB`"),
    Definition::new(
        "head",
        Size("8KiB", "256KiB"),
        Text("16KiB"),
        "the head of a request; a larger one gets 431",
    ),
    Definition::new(
        "connections",
        Integer(1, 1_000_000),
        Number(10_000),
        "connections of the public listener. A new one takes [the slot of \
         another](limits.md#connection-slots), or is closed at once",
    ),
    Definition::new(
        "connections_per_source",
        Integer(1, 1_000_000),
        Absent("none"),
        "connections of one address (of IPv6, one network of 64 bits) on which no sender was authenticated \
         yet; more are closed at once. Behind a proxy, write [`listen.proxies`](#proxies): with the PROXY \
         protocol, the sender that the proxy names counts, after the connection has its slot; connections of \
         proxies that write `X-Forwarded-For` are not bounded",
    ),
    Definition::new("in_flight", Integer(1, 1_000_000), Number(10_000), "requests in flight; more get 503"),
    Definition::new(
        "in_flight_per_instance",
        Integer(1, 1_000_000),
        Usual(&Number(2500), "a quarter of `in_flight`"),
        "requests in flight to one instance; more callbacks of that instance get 503. So one instance that \
         hangs leaves three quarters to the others, whether they are one or a hundred. New calls count, but \
         are not refused. A fleet of one instance has no others to protect: there it may be `in_flight`",
    )
    .range("1 to `in_flight`"),
    Definition::new(
        "idle",
        Duration("100ms", "1h"),
        Text("75s"),
        "time between a response and the next request on a connection. It must be longer than the idle time \
         of the balancer, or the balancer will use connections that are being closed",
    ),
]);

/// `[log]`
pub(super) static LOG: Table = Table::new(&[
    Definition::new(
        "format",
        Words(&["json", "text"]),
        Text("json"),
        "one line for each event, on stderr: [logs.md](logs.md)",
    ),
    Definition::new(
        "level",
        Words(&["error", "warn", "info", "debug", "trace"]),
        Text("info"),
        "the least important events of the gateway's own crates. Of libraries only warnings and errors are \
         shown, because their details may contain header fields",
    ),
]);
