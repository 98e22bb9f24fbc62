//! The time limits of a public connection.

use std::time::Duration;

/// The time that each state of a public connection may last.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the accept, or from the end of the TLS handshake, to the first byte.
    pub first_byte: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// The whole body, from the end of the head.
    pub body: Duration,
    /// From a response to the next request.
    pub idle: Duration,
    /// The same, while no request on the connection had an authenticated sender.
    pub idle_unauthenticated: Duration,
    /// From the last start or end of a request, while one is in flight. Longer than any handler may take.
    pub stuck: Duration,
    /// The age at which a connection is closed gracefully, so that load spreads again. Up to a tenth more or
    /// less.
    pub age: Duration,
}

impl Timeouts {
    /// The limits of production. `idle` is the operator's `limits.idle`, `handler` the longest time of a
    /// handler.
    pub fn new(idle: Duration, handler: Duration) -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            idle,
            idle_unauthenticated: idle.min(Duration::from_secs(5)),
            // A handler has its own limits. Beyond them, only a client that does not read its response is
            // left.
            stuck: handler + Duration::from_secs(60),
            age: Duration::from_secs(600),
        }
    }
}
