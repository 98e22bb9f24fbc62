//! The application permissions that tokens for Graph carry as roles.

use crate::words::words;

words! {
    /// An application permission of the calls API (Graph permissions reference).
    pub enum Permission {
        /// Allows an app to place, redirect and end calls.
        Initiate = "Calls.Initiate.All",
        /// Allows an app to place calls with several people, and to invite.
        InitiateGroupCall = "Calls.InitiateGroupCall.All",
        /// Allows an app to access the media of calls: application-hosted media, recording status.
        AccessMedia = "Calls.AccessMedia.All",
        /// Allows an app to answer group calls and meetings.
        JoinGroupCall = "Calls.JoinGroupCall.All",
        /// Allows an app to answer group calls and meetings as a guest.
        JoinGroupCallAsGuest = "Calls.JoinGroupCallAsGuest.All",
    }
}
