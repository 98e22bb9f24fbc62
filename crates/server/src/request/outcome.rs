//! `Outcome`: the result of a request, one word for logs and metrics.

/// Defines `Outcome` from one table: each row has a variant, its label, and its effect.
macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident => ($label:literal, $effect:ident),)+) => {
        /// The result of a request.
        ///
        /// Every request has one. `docs/logs.md` says what each means and what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Outcome {
            $($(#[$doc])* $variant,)+
        }

        impl Outcome {
            /// All outcomes.
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// A stable name for logs and metrics.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            fn effect(self) -> Effect {
                match self {
                    $(Self::$variant => Effect::$effect,)+
                }
            }
        }
    };
}

/// The effect of a request on its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// An instance, several of them, or Graph did something that must not be done again.
    Done,
    /// Nothing was done: a retry may get another response.
    NothingDone,
}

outcomes! {
    /// An instance responded to a new call. It may have refused the call.
    Placed => ("placed", Done),
    /// An instance replied to a new call with an action, and the gateway asked Graph for it.
    Acted => ("acted", Done),
    /// No instance took a new call, and Graph rejected it as busy.
    RejectedAsBusy => ("rejected_as_busy", Done),
    /// The owner of a callback responded.
    Forwarded => ("forwarded", Done),
    /// The peer gateway of a callback of another region responded.
    Proxied => ("proxied", Done),
    /// The instance that probably owns the call of an item on the webhook responded.
    Unsealed => ("unsealed", Done),
    /// All owners of a batch accepted their parts.
    Split => ("split", Done),
    /// The body is legacy: the gateway asks the platform for the Graph protocol.
    AskedForGraph => ("asked_for_graph", NothingDone),
    /// A new call belongs to another region.
    Redirected => ("redirected", NothingDone),
    /// No instance took a new call, and the gateway redirected it to the overflow region.
    Overflowed => ("overflowed", NothingDone),
    /// The gateway responded to a request for the health of its region or for its readiness.
    Health => ("health", NothingDone),
    /// The token is missing or proves nothing.
    Unauthenticated => ("unauthenticated", NothingDone),
    /// The token is valid, but its tenant or calling app is not allowed.
    Forbidden => ("forbidden", NothingDone),
    /// The token is for another app than the one in the path.
    WrongApp => ("wrong_app", NothingDone),
    /// The gateway has no usable keys of the token's issuer at the moment.
    KeysUnavailable => ("keys_unavailable", NothingDone),
    /// The key of the token may have been published since the last fetch, and the next one is not allowed
    /// yet.
    KeyNotFetched => ("key_not_fetched", NothingDone),
    /// The body is not a notification.
    NotANotification => ("not_a_notification", NothingDone),
    /// The request breaks a rule of HTTP or of this gateway.
    BadRequest => ("bad_request", NothingDone),
    /// The path does not exist.
    NotFound => ("not_found", NothingDone),
    /// The path does not have this method.
    MethodNotAllowed => ("method_not_allowed", NothingDone),
    /// The request has an `Expect` other than `100-continue`.
    ExpectationFailed => ("expectation_failed", NothingDone),
    /// The webhook does not take this content type or encoding.
    UnsupportedMediaType => ("unsupported_media_type", NothingDone),
    /// The body is too large.
    BodyTooLarge => ("body_too_large", NothingDone),
    /// The head is too large.
    HeadTooLarge => ("head_too_large", NothingDone),
    /// The request target is too long.
    UriTooLong => ("uri_too_long", NothingDone),
    /// The request did not arrive in time.
    TooSlow => ("too_slow", NothingDone),
    /// The client went away before its request or the response was complete.
    ClientGone => ("client_gone", NothingDone),
    /// Too many requests are in flight.
    OverCapacity => ("over_capacity", NothingDone),
    /// Too many requests are in flight to the callback's instance.
    InstanceOverCapacity => ("instance_over_capacity", NothingDone),
    /// A gateway sent the request to one of its instances, and that leads here.
    Loop => ("loop", NothingDone),
    /// No instance took the new call.
    NotPlaced => ("not_placed", NothingDone),
    /// Every instance that was asked responded with 401, 403 or 429. The gateway has proved the token, so the
    /// sender is not to blame.
    Declined => ("declined", NothingDone),
    /// The owner of a part of a batch did not accept it.
    PartFailed => ("part_failed", NothingDone),
    /// The seal of the callback is not valid.
    WrongSeal => ("wrong_seal", NothingDone),
    /// The callback is for another region.
    WrongRegion => ("wrong_region", NothingDone),
    /// The callback's instance, or its incarnation, is no longer in the fleet.
    Gone => ("gone", NothingDone),
    /// The callback's instance did not respond in time.
    Unreachable => ("unreachable", NothingDone),
    /// The source of the fleet has not been read yet.
    FleetUnknown => ("fleet_unknown", NothingDone),
    /// The callback is for another incarnation than the one that the gateway knows, which its next report
    /// confirms or replaces.
    IncarnationUnknown => ("incarnation_unknown", NothingDone),
    /// The instance sent a response that may not be relayed.
    BadResponse => ("bad_answer", NothingDone),
    /// The instance replied to a new call with an action that the gateway cannot do.
    BadAction => ("bad_action", NothingDone),
    /// A bug of the gateway, contained to this request.
    Panicked => ("panicked", NothingDone),
}

impl Outcome {
    /// True if an instance or Graph did something that must not be done again.
    pub(crate) fn is_done(self) -> bool {
        self.effect() == Effect::Done
    }

    /// True if a sender that is not authenticated can cause this outcome as often as it likes.
    pub(crate) fn may_flood(self) -> bool {
        matches!(
            self,
            Self::Unauthenticated
                | Self::KeyNotFetched
                | Self::NotFound
                | Self::MethodNotAllowed
                | Self::BadRequest
                | Self::ExpectationFailed
                | Self::UriTooLong
                | Self::HeadTooLarge
        )
    }
}
