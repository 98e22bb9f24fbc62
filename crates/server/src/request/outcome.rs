//! How a request ended: one word for logs and metrics.

/// How a request ended.
///
/// Every reply has one; `docs/operations.md` says what each means and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new call was answered by an instance, which may have refused it.
    Placed,
    /// An instance replied to a new call with an action, and Graph was asked for it.
    Acted,
    /// A new call found no instance and was rejected as busy, through Graph.
    RejectedAsBusy,
    /// A callback was answered by its owner.
    Forwarded,
    /// A callback of another region was answered by the gateway there.
    Proxied,
    /// An item on the webhook was answered by the instance that probably owns its call.
    Unsealed,
    /// A batch of several owners was accepted by all of them.
    Split,
    /// A legacy body: the platform is asked for the Graph protocol.
    AskedForGraph,
    /// A new call belongs to another region.
    Redirected,
    /// A new call found no instance here and was sent to the overflow region.
    Overflowed,
    /// A health question was answered.
    Health,
    /// The token is missing or proves nothing.
    Unauthenticated,
    /// The token is good, but its tenant or calling app is not allowed.
    Forbidden,
    /// The token is for another app than the path names.
    WrongApp,
    /// No usable keys for the token's issuer just now.
    KeysUnavailable,
    /// The body is not a notification.
    NotANotification,
    /// The request is not one that HTTP or this gateway allows.
    BadRequest,
    /// No such path.
    NotFound,
    /// Not a method of this path.
    MethodNotAllowed,
    /// An `Expect` that is not `100-continue`.
    ExpectationFailed,
    /// A content type or encoding that the webhook does not take.
    UnsupportedMediaType,
    /// The body is too large.
    BodyTooLarge,
    /// The head is too large.
    HeadTooLarge,
    /// The target is too long.
    UriTooLong,
    /// The request did not arrive in time.
    TooSlow,
    /// The client went away before its request or its answer was complete.
    ClientGone,
    /// Too many requests are under way.
    OverCapacity,
    /// No instance could take the new call.
    NotPlaced,
    /// A part of a batch was not accepted.
    PartFailed,
    /// The callback's seal is not ours.
    WrongSeal,
    /// The callback is for another region.
    WrongRegion,
    /// The callback's instance, or its incarnation, is no longer in the fleet.
    Gone,
    /// The callback's instance did not answer in time.
    Unreachable,
    /// The fleet's source has not been read yet.
    FleetUnknown,
    /// The instance answered with something that may not be relayed.
    BadAnswer,
    /// The instance replied to a new call with an action that cannot be done.
    BadAction,
    /// A bug of ours, contained to this request.
    Panicked,
}

impl Outcome {
    /// All of them, in the order of `index`.
    pub const ALL: [Self; 37] = [
        Self::Placed,
        Self::Acted,
        Self::RejectedAsBusy,
        Self::Forwarded,
        Self::Proxied,
        Self::Unsealed,
        Self::Split,
        Self::AskedForGraph,
        Self::Redirected,
        Self::Overflowed,
        Self::Health,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::WrongApp,
        Self::KeysUnavailable,
        Self::NotANotification,
        Self::BadRequest,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::ExpectationFailed,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::HeadTooLarge,
        Self::UriTooLong,
        Self::TooSlow,
        Self::ClientGone,
        Self::OverCapacity,
        Self::NotPlaced,
        Self::PartFailed,
        Self::WrongSeal,
        Self::WrongRegion,
        Self::Gone,
        Self::Unreachable,
        Self::FleetUnknown,
        Self::BadAnswer,
        Self::BadAction,
        Self::Panicked,
    ];

    /// Whether something was done that must not be done again: by an instance, by several, or by Graph. Any other answer may
    /// be another one next time.
    pub(crate) fn is_done(self) -> bool {
        match self {
            Self::Placed
            | Self::Forwarded
            | Self::Proxied
            | Self::Unsealed
            | Self::Split
            | Self::Acted
            | Self::RejectedAsBusy => true,
            Self::AskedForGraph
            | Self::BadAction
            | Self::Redirected
            | Self::Overflowed
            | Self::Health
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::WrongApp
            | Self::KeysUnavailable
            | Self::NotANotification
            | Self::BadRequest
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::ExpectationFailed
            | Self::UnsupportedMediaType
            | Self::BodyTooLarge
            | Self::HeadTooLarge
            | Self::UriTooLong
            | Self::TooSlow
            | Self::ClientGone
            | Self::OverCapacity
            | Self::NotPlaced
            | Self::PartFailed
            | Self::WrongSeal
            | Self::WrongRegion
            | Self::Gone
            | Self::Unreachable
            | Self::FleetUnknown
            | Self::BadAnswer
            | Self::Panicked => false,
        }
    }

    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Acted => "acted",
            Self::RejectedAsBusy => "rejected_as_busy",
            Self::Forwarded => "forwarded",
            Self::Proxied => "proxied",
            Self::Unsealed => "unsealed",
            Self::Split => "split",
            Self::AskedForGraph => "asked_for_graph",
            Self::Redirected => "redirected",
            Self::Overflowed => "overflowed",
            Self::Health => "health",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::WrongApp => "wrong_app",
            Self::KeysUnavailable => "keys_unavailable",
            Self::NotANotification => "not_a_notification",
            Self::BadRequest => "bad_request",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ExpectationFailed => "expectation_failed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTooLarge => "head_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::TooSlow => "too_slow",
            Self::ClientGone => "client_gone",
            Self::OverCapacity => "over_capacity",
            Self::NotPlaced => "not_placed",
            Self::PartFailed => "part_failed",
            Self::WrongSeal => "wrong_seal",
            Self::WrongRegion => "wrong_region",
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
            Self::FleetUnknown => "fleet_unknown",
            Self::BadAnswer => "bad_answer",
            Self::BadAction => "bad_action",
            Self::Panicked => "panicked",
        }
    }
}
