//! The comparisons: which servers handle which requests.

use super::{
    load::{Connections, Generator},
    subjects::Server,
    traffic::Mode,
};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// The name in JSON and for `--only`.
    pub(super) name: &'static str,
    /// The name in the table.
    pub(super) title: &'static str,
    pub(super) mode: Mode,
    pub(super) tokens: Tokens,
    pub(super) generator: Generator,
    pub(super) tls: bool,
    pub(super) servers: &'static [Server],
}

/// The tokens of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    /// One token, which the gateway knows.
    Known,
    /// This many tokens in rotation, which the gateway knows after the warm-up.
    Rotating(usize),
    /// A token of its own in each request.
    New,
}

/// The servers that forward.
pub(super) const PROXIES: &[Server] = &[Server::Gateway, Server::Nginx, Server::Haproxy, Server::HyperProxy];
const WITH_CHECK: &[Server] =
    &[Server::Gateway, Server::Nginx, Server::Haproxy, Server::HaproxyCheck, Server::HyperProxy];
const WITH_TLS: &[Server] = &[Server::Gateway, Server::Nginx, Server::Haproxy];
const WORKERS: &[Server] = &[Server::OneWorker, Server::TwoWorkers];
const HALF_LOAD: &[Server] =
    &[Server::Gateway, Server::Nginx, Server::Haproxy, Server::HyperProxy, Server::Upstream];
const FLEETS: &[Server] = &[
    Server::Gateway,
    Server::Nginx,
    Server::Haproxy,
    Server::HyperProxy,
    Server::SmallFleet,
    Server::LargeFleet,
];

const fn row(name: &'static str, title: &'static str, mode: Mode, servers: &'static [Server]) -> Measure {
    let generator = Generator::Wrk;
    Measure { name, title, mode, tokens: Tokens::Known, generator, tls: false, servers }
}

/// The rows of the table, in its order.
pub(super) const MEASURES: [Measure; 12] = [
    row("callback", "callback, known token", Mode::Callback, PROXIES),
    // Shows that both generators measure the same.
    Measure {
        generator: Generator::own(60_000),
        ..row("callback-own", "the same, own generator", Mode::Callback, PROXIES)
    },
    Measure {
        tokens: Tokens::Rotating(10_000),
        generator: Generator::own(60_000),
        ..row("callback-10k-tokens", "callback, 10,000 known tokens", Mode::Callback, PROXIES)
    },
    Measure {
        tokens: Tokens::New,
        generator: Generator::own(40_000),
        ..row("new-token", "callback, new tokens", Mode::Callback, WITH_CHECK)
    },
    row("legacy", "legacy body, 204", Mode::Legacy, &[Server::Gateway, Server::Hyper204]),
    row("redirect", "redirect, 302", Mode::Redirect, &[Server::Gateway, Server::Hyper302]),
    Measure {
        generator: Generator::own(20_000),
        ..row("new-call", "new call placed", Mode::NewCall, FLEETS)
    },
    row("workers", "callback, both processors", Mode::Callback, WORKERS),
    Measure {
        generator: Generator::Paced,
        ..row("half-load", "callback, half load", Mode::Callback, HALF_LOAD)
    },
    Measure { tls: true, ..row("tls", "callback, TLS kept alive", Mode::Callback, WITH_TLS) },
    Measure {
        tls: true,
        generator: Generator::Own { count: 5_000, connections: Connections::Resumed },
        ..row("tls-resumed", "callback, TLS resumed, close", Mode::Callback, WITH_TLS)
    },
    Measure {
        tls: true,
        generator: Generator::Own { count: 3_000, connections: Connections::Full },
        ..row("tls-full", "callback, TLS full, close", Mode::Callback, WITH_TLS)
    },
];
