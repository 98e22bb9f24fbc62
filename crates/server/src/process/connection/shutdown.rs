//! The shutdown of a connection, or of all of them.

/// The way in which a connection, or the whole gateway, is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Keep serving.
    None,
    /// Finish the requests in flight, then close.
    Graceful,
    /// Close now.
    Immediate,
}
