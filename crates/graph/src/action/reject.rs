//! `Reject`: how a bot rejects a call (Microsoft Graph REST reference, "call: reject").

use crate::spelled::spelled;

/// The rejection of a call (Microsoft Graph REST reference, "call: reject").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reject {
    /// The reason that the platform gives to the calling user.
    pub reason: RejectReason,
}

spelled! {
    /// The reason that the platform gives to the calling user.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum RejectReason {
        /// No reason.
        #[default]
        None = "none",
        /// The bot is busy.
        Busy = "busy",
        /// The call is not allowed.
        Forbidden = "forbidden",
    }
}
