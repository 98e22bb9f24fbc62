//! The layout of a testbed: which apps, bots and gateways it has, and how calls reach the gateways.

/// One layout.
pub(super) struct Layout {
    /// More options of the platform's command line.
    pub(super) platform: &'static [&'static str],
    pub(super) apps: &'static [App],
    pub(super) bots: &'static [BotSettings],
    pub(super) ingress: Ingress,
}

/// The gateways, and the way to them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ingress {
    /// Two gateways. Callbacks of a call that one gateway places always reach the other one. A balancer
    /// causes the same only now and then.
    Crossed,
    /// Three gateways behind a TCP balancer, the only address that the platform knows. They wait longer for
    /// an instance, and a gateway that drains waits until the balancer has noticed.
    Balanced,
    /// One gateway with few file descriptors and few requests in flight. A DNS server names its instances.
    Scarce,
}

/// An app that the platform may call.
pub(super) struct App {
    pub(super) id: &'static str,
    pub(super) graph: GraphAccess,
}

/// The gateways' access to Graph for one app.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GraphAccess {
    /// It works.
    Valid,
    /// The platform does not know the secret.
    WrongSecret,
    /// Graph's address has no listener.
    NoGraph,
    /// The token endpoint's address has no listener.
    NoAuthority,
}

/// A bot instance.
pub(super) struct BotSettings {
    pub(super) name: &'static str,
    /// The app whose calls the gateways give it, or `EVERY_APP`.
    pub(super) app: &'static str,
    /// The value of `--answer`.
    pub(super) answer: &'static str,
}

/// The app of bots that take the calls of every app.
pub(super) const EVERY_APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4200";
