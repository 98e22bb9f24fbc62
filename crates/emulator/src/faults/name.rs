//! The names of the faults.

use crate::words::words;

words! {
    /// The name of a fault. At most one fault of a name is active at a time.
    pub enum FaultName {
        /// The documents of the Skype-like issuer: metadata and keys.
        Skype = "skype",
        /// The documents of the Entra-like issuer: metadata and keys.
        Entra = "entra",
        /// The token endpoint and the managed identity endpoint.
        Login = "login",
        /// The Graph calls API.
        Graph = "graph",
        /// The platform's clock, by which tokens are dated and checked: `+10m`, `-6m`.
        Clock = "clock",
        /// The callees of the calls that bots place.
        Callee = "callee",
        /// The flaw of the token of every call that names none itself.
        Token = "token",
        /// The share of notifications that are never posted.
        Drop = "drop",
        /// The share of notifications that are posted twice under one message id.
        Duplicate = "duplicate",
        /// The share of notifications that are held back until the call's next one was posted.
        Reorder = "reorder",
        /// The time that notifications are held back: `2s`, or `100ms..2s` for a time in between.
        Delay = "delay",
    }
}
