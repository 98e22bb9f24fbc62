//! `Reason`: the server's own reasons to refuse a request. The other crates label their errors themselves.

use crate::request::outcome::Outcome;

/// Defines `Reason` from one table: each row has a variant, its label, and the outcome that it leads to.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => ($label:literal, $outcome:ident),)+) => {
        /// The server's own reasons to refuse a request. `docs/outcomes.md` says what to do about each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// All reasons; for the test of the documentation.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            /// A stable name for the log.
            pub(crate) fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// The outcome of a request that is refused for this reason.
            pub(crate) fn outcome(self) -> Outcome {
                match self {
                    $(Self::$variant => Outcome::$outcome,)+
                }
            }
        }
    };
}

reasons! {
    /// HTTP/1.1 without `Host`.
    NoHost => ("no_host", BadRequest),
    /// More than one `Host`.
    TwoHosts => ("two_hosts", BadRequest),
    /// `Host`, or the authority of HTTP/2, is not a host with an optional port.
    InvalidHost => ("invalid_host", BadRequest),
    /// `Host` differs from the authority of an absolute target.
    HostDiffersFromTarget => ("host_differs_from_target", BadRequest),
    /// A `Transfer-Encoding` other than `chunked`.
    TransferEncoding => ("transfer_encoding", BadRequest),
    /// `Connection` names a field on which the gateway relies.
    ConnectionNamesEndToEndField => ("connection_names_end_to_end_field", BadRequest),
    /// More than one `Authorization`.
    TwoAuthorizations => ("two_authorizations", BadRequest),
    /// The query has an `access_token`.
    TokenInQuery => ("token_in_query", BadRequest),
    /// An `Expect` other than `100-continue`.
    Expectation => ("expectation", ExpectationFailed),
    /// The request target is too long.
    TargetTooLong => ("target_too_long", UriTooLong),
    /// The head has too many fields.
    TooManyHeaderFields => ("too_many_header_fields", HeadTooLarge),
    /// No such path.
    NoSuchPath => ("no_such_path", NotFound),
    /// The app in the path is not configured.
    UnknownApp => ("unknown_app", NotFound),
    /// The path does not have this method.
    Method => ("method", MethodNotAllowed),
    /// The content is not `application/json`.
    ContentType => ("content_type", UnsupportedMediaType),
    /// The content is coded, for example compressed.
    ContentEncoding => ("content_encoding", UnsupportedMediaType),
    /// The body is larger than `limits.body`.
    BodyTooLarge => ("body_too_large", BodyTooLarge),
    /// The body did not arrive in time.
    BodyTooSlow => ("body_too_slow", TooSlow),
    /// The connection ended within the body.
    BodyBrokenOff => ("body_broken_off", ClientGone),
    /// The token is for another app than the one in the path.
    TokenOfAnotherApp => ("token_of_another_app", WrongApp),
    /// The path of a callback is not one that the gateway made.
    CallbackPath => ("callback_path", WrongSeal),
    /// A callback of a region without `peer.callback`.
    AnotherRegion => ("another_region", WrongRegion),
    /// A callback that a peer gateway has already sent on.
    ForwardedAlready => ("forwarded_already", WrongRegion),
    /// A gateway sent the request to one of its instances.
    SentByAGateway => ("sent_by_a_gateway", Loop),
    /// More requests in flight than `limits.in_flight`.
    TooManyInFlight => ("too_many_in_flight", OverCapacity),
    /// More bytes of bodies than `limits.body_memory`.
    TooManyBodyBytes => ("too_many_body_bytes", OverCapacity),
    /// More requests in flight to the callback's instance than `limits.in_flight_per_instance`.
    TooManyInFlightToInstance => ("too_many_in_flight_to_instance", InstanceOverCapacity),
    /// An instance may still answer the new call.
    OutcomeUnknown => ("outcome_unknown", NotPlaced),
    /// No instance serves the app.
    NoInstance => ("no_instance", NotPlaced),
    /// The overflow region of a new call is not a peer.
    NoSuchRegion => ("no_such_region", NotPlaced),
    /// A part of a batch was not accepted.
    PartFailed => ("part_failed", PartFailed),
    /// The callback's instance is not in the fleet, or has restarted.
    InstanceGone => ("instance_gone", Gone),
    /// The callback is for another incarnation than the gateway knows.
    IncarnationUnknown => ("incarnation_unknown", IncarnationUnknown),
    /// The fleet has not been read.
    FleetUnknown => ("fleet_unknown", FleetUnknown),
    /// The first request of the message did not end in time.
    FirstStillUnderWay => ("first_still_under_way", Unreachable),
    /// A bug of the gateway.
    Panic => ("panic", Panicked),
}
