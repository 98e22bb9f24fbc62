//! The requests of a measurement: tokens and bodies like those of the platform, of 1 kB each.

use std::time::SystemTime;

use openssl::hash::MessageDigest;
use serde_json::{Value, json};

use crate::fixtures::keys::{base64url, key};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A callback with a token that the gateway has seen before.
    Callback,
    /// A legacy body on the webhook, which the gateway answers itself.
    Legacy,
    /// A new call, which the gateway places.
    NewCall,
    /// A new call that belongs to another region.
    Redirect,
}

impl Mode {
    /// The name in tables, in JSON and in the budget.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Legacy => "legacy",
            Self::NewCall => "new-call",
            Self::Redirect => "redirect",
        }
    }

    /// The status of each response.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Callback | Self::NewCall => 202,
            Self::Legacy => 204,
            Self::Redirect => 302,
        }
    }
}

/// Makes requests with one token. Each new call has an id of its own; all else is the same in each request.
pub(super) struct Traffic {
    token: String,
    callback_path: String,
    calls: u64,
}

impl Traffic {
    /// Requests whose callbacks go to `callback_path`.
    pub(super) fn new(callback_path: &str) -> Self {
        Self { token: token(0), callback_path: callback_path.to_owned(), calls: 0 }
    }

    /// Uses another token from now on.
    pub(super) fn use_token(&mut self, token: String) {
        self.token = token;
    }

    /// Leaves out the first ids of calls, which were used before.
    pub(super) fn skip_calls(&mut self, count: u64) {
        self.calls += count;
    }

    /// The bytes of the next request of a mode.
    pub(super) fn request(&mut self, mode: Mode) -> Vec<u8> {
        let (path, body) = match mode {
            Mode::Callback => (self.callback_path.as_str(), updated(&call_id(0))),
            Mode::Legacy => (WEBHOOK, legacy()),
            Mode::NewCall | Mode::Redirect => {
                self.calls += 1;
                let region = if mode == Mode::NewCall { HOME } else { PEER };
                (WEBHOOK, incoming(&call_id(self.calls), region))
            }
        };
        request(path, &self.token, &body)
    }
}

/// A POST like those of the platform.
pub(super) fn request(path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: emea.bots.example\r\nAuthorization: Bearer {token}\r\n\
         User-Agent: Microsoft-Skype/3.0,(Calling/1.0)\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A token of the platform's own issuer, of about 1 kB. Each number makes another token.
pub(super) fn token(number: u64) -> String {
    let key = key("skype-1");
    let now = unix_now();
    let header = json!({ "alg": "RS256", "kid": key.id, "typ": "JWT", "cty": "JWT", "x5t": key.id });
    let claims = json!({
        "iss": "https://api.botframework.com",
        "aud": APP,
        "tid": TENANT,
        "appid": "26a18ebc-cdf7-4a6a-91cb-beb352805e81",
        "nbf": now - 10,
        // Longer than a measurement takes.
        "exp": now + 6 * 3600,
        "number": format!("{number:020}"),
        "filler": "x".repeat(FILLER),
    });
    let input =
        format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    format!("{input}.{}", base64url(&key.sign(MessageDigest::sha256(), input.as_bytes())))
}

/// The id of a call. All have the same length.
pub(super) fn call_id(number: u64) -> String {
    format!("6d1c0b00-77a3-4f0e-9b1d-{number:012}")
}

/// A change of a call's state.
pub(super) fn updated(call: &str) -> String {
    envelope(&item(
        "updated",
        call,
        &json!({
            "@odata.type": "#microsoft.graph.call",
            "state": "established",
            "direction": "incoming",
            "callbackUri": "https://emea.bots.example/api/calls",
            "callChainId": "b7e00000-1f2e-4d3c-8b4a-596877869504",
            "source": source(HOME),
            "mediaState": { "audio": "active" },
            "tenantId": TENANT,
            "myParticipantId": "1e900000-bbbb-4444-8888-00000000e002",
            "id": call,
        }),
    ))
}

/// A new call of a caller in `region`.
pub(super) fn incoming(call: &str, region: &str) -> String {
    envelope(&item(
        "created",
        call,
        &json!({
            "@odata.type": "#microsoft.graph.call",
            "state": "incoming",
            "direction": "incoming",
            "callbackUri": "https://emea.bots.example/api/calls",
            "callChainId": "b7e00000-1f2e-4d3c-8b4a-596877869504",
            "source": source(region),
            "requestedModalities": ["audio"],
            "tenantId": TENANT,
            "myParticipantId": "1e900000-bbbb-4444-8888-00000000e002",
            "id": call,
        }),
    ))
}

/// An incoming call in the legacy format.
pub(super) fn legacy() -> String {
    let participant = |number: u64| {
        json!({
            "identity": format!("8:orgid:112f7296-5fa4-42ca-bae8-{number:012}"),
            "languageId": "en-US",
            "endpointId": format!("1e900000-aaaa-4444-8888-{number:012}"),
            "originator": number == 0,
        })
    };
    json!({
        "id": "24701998-1a73-4d42-8085-bf46ed0ae039",
        "participants": (0..5).map(participant).collect::<Vec<_>>(),
        "isMultiparty": false,
        "presentedModalityTypes": ["audio"],
        "callState": "incoming",
        "tenantId": TENANT,
    })
    .to_string()
}

fn envelope(item: &Value) -> String {
    json!({ "@odata.type": "#microsoft.graph.commsNotifications", "value": [item] }).to_string()
}

fn item(change: &str, call: &str, data: &Value) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.commsNotification",
        "changeType": change,
        "resource": format!("/app/calls/{call}"),
        "resourceUrl": format!("/communications/calls/{call}"),
        "resourceData": data,
    })
}

fn source(region: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.participantInfo",
        "identity": {
            "@odata.type": "#microsoft.graph.identitySet",
            "user": {
                "@odata.type": "#microsoft.graph.identity",
                "id": "112f7296-5fa4-42ca-bae8-6a692b15d4b8",
                "tenantId": TENANT,
            },
        },
        "endpointType": "default",
        "region": region,
        "languageId": "en-US",
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens are for the gateway's own clock, which is the real one"
)]
fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map(|time| time.as_secs()).unwrap_or_default()
}

/// The app id of the bot.
pub(super) const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
/// The region of the gateway, and the region to which it redirects.
pub(super) const HOME: &str = "emea";
pub(super) const PEER: &str = "amer";
pub(super) const WEBHOOK: &str = "/api/calls";
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const FILLER: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_bodies_have_one_kilobyte() {
        let of_one_kilobyte = 950..1_100;
        for text in [token(7), updated(&call_id(1)), incoming(&call_id(1), HOME), legacy()] {
            assert!(of_one_kilobyte.contains(&text.len()), "{}: {text}", text.len());
        }
        assert_ne!(token(1), token(2));
    }

    #[test]
    fn only_new_calls_differ() {
        let mut traffic = Traffic::new("/api/callbacks/emea/bot-0/k1.0.A");
        for (mode, differs) in [(Mode::Callback, false), (Mode::Legacy, false), (Mode::NewCall, true)] {
            let (first, second) = (traffic.request(mode), traffic.request(mode));
            assert_eq!(first.len(), second.len());
            assert_eq!(first != second, differs, "{mode:?}");
        }
    }
}
