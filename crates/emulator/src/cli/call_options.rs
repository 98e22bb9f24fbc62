//! The options that describe a call, for one call and for many.

use std::time::Duration;

use clap::Args;
use switchboard_emulator::{
    CallKind, CallRequest, DEFAULT_APP, DEFAULT_TENANT, Protocol, Region, TokenChoice, parse_country,
    parse_duration, parse_http_url, parse_participants,
};
use url::Url;
use uuid::Uuid;

use super::values::guid;

/// The options that describe a call.
#[derive(Debug, Args)]
pub(super) struct CallOptions {
    /// The webhook of the bot, like http://127.0.0.1:8443/api/calls.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    to: Url,
    /// The app id of the bot.
    #[arg(long, value_name = "GUID", value_parser = guid, default_value_t = DEFAULT_APP)]
    app_id: Uuid,
    /// The kind of the call: p2p, group, meeting, recording or pstn.
    #[arg(long, default_value = "p2p")]
    kind: CallKind,
    /// The home region of the caller: amer, emea or apac.
    #[arg(long, default_value = "emea")]
    region: Region,
    /// The country of the caller: two letters, like US.
    #[arg(long, value_parser = parse_country)]
    country: Option<String>,
    /// The tenant of the call.
    #[arg(long, value_name = "GUID", value_parser = guid, default_value_t = DEFAULT_TENANT)]
    tenant: Uuid,
    /// The form of the first notification: legacy-first (the legacy body, then Graph after a 204) or graph
    /// [default: legacy-first; graph if `call` has a `--body`].
    #[arg(long)]
    protocol: Option<Protocol>,
    /// The token that the platform sends: skype, entra-v1 or entra-v2, or a flawed one, like forged, expired
    /// or entra-v2+wrong-audience.
    #[arg(long, default_value = "skype")]
    token: TokenChoice,
    /// The time from established, or from the last step of a script, to the hang-up, like 500ms, 5s or 2m.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    duration: Duration,
    /// The time that the bot has to answer [default: 15s, 5s for a recording].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    answer_within: Option<Duration>,
    /// The number of people in the call besides the bot. All but the caller join after the call is
    /// established.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_participants)]
    participants: u32,
}

impl CallOptions {
    pub(super) fn app(&self) -> Uuid {
        self.app_id
    }

    /// Chooses the form of the first notification if the command line does not.
    pub(super) fn or_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol.get_or_insert(protocol);
        self
    }

    pub(super) fn into_call(self) -> CallRequest {
        let mut call = CallRequest::new(self.to, self.app_id).with_kind(self.kind);
        call.tenant = self.tenant;
        call.region = self.region;
        call.country = self.country;
        call.protocol = self.protocol.unwrap_or(call.protocol);
        call.token = self.token;
        call.duration = self.duration;
        call.answer_within = self.answer_within.unwrap_or(call.answer_within);
        call.participants = self.participants;
        call
    }
}
