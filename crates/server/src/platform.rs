//! Facts of the calling platform that several parts of the gateway use. docs/protocol.md names their sources.

use std::time::Duration;

use http::HeaderName;

/// The time in which a call must be answered, from its first notification (Microsoft Graph, call: answer).
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(15);
/// The same for a call under a recording policy (the same document).
pub(crate) const RECORDING_LIMIT: Duration = Duration::from_secs(5);

/// The most attempts of a call that may have an unknown outcome: each may be an instance that acts on it.
pub(crate) const OUTCOME_UNKNOWN_MAX: u32 = 3;
/// The same for a call under a recording policy, whose time ends sooner: a third attempt would not help.
pub(crate) const RECORDING_OUTCOME_UNKNOWN_MAX: u32 = 2;

/// The id of one message. A retry of the platform has the id of the first request.
pub(crate) static MESSAGE_ID: HeaderName = HeaderName::from_static("x-microsoft-skype-message-id");
/// The id that the legs of one call share.
pub(crate) static CHAIN_ID: HeaderName = HeaderName::from_static("x-microsoft-skype-chain-id");
/// The region of the caller, which a rule's `caller_region` is compared with.
pub(crate) static CALLER_REGION: HeaderName = HeaderName::from_static("x-microsoft-skype-caller-region");
