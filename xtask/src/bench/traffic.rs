//! The requests of a measurement: tokens and bodies like those of the platform, of 1 kB each.

use std::{num::NonZeroUsize, thread, time::SystemTime};

use openssl::hash::MessageDigest;
use serde_json::{Value, json};

use crate::fixtures::keys::{SigningKey, base64url, key};

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

/// Makes requests with one token. Each request has another message id, and each new call another call id. All
/// else is the same in each request.
pub(super) struct Traffic {
    token: String,
    callback_path: String,
    calls: u64,
    messages: u64,
}

impl Traffic {
    /// Requests whose callbacks go to `callback_path`.
    pub(super) fn new(callback_path: &str) -> Self {
        Self { token: token(0), callback_path: callback_path.to_owned(), calls: 0, messages: 0 }
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
        self.messages += 1;
        request(path, &self.token, &message_id(self.messages), &body)
    }
}

/// A POST like those of the platform.
fn request(path: &str, token: &str, message_id: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: emea.bots.example\r\nAuthorization: Bearer {token}\r\n\
         User-Agent: Microsoft-Skype/3.0,(Calling/1.0)\r\nAccept: application/json\r\n\
         X-Microsoft-Skype-Message-ID: {message_id}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A token of the platform's own issuer, of about 1 kB. Each number makes another token.
pub(super) fn token(number: u64) -> String {
    signed_token(&key(SIGNING_KEY), number)
}

fn signed_token(key: &SigningKey, number: u64) -> String {
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

/// The tokens of `count` numbers, signed on all processors.
pub(super) fn tokens(first: u64, count: usize) -> Result<Vec<String>, String> {
    let numbers: Vec<_> = (first..).take(count).collect();
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let key = &key(SIGNING_KEY);
    let sign = |numbers: &[u64]| numbers.iter().map(|number| signed_token(key, *number)).collect::<Vec<_>>();
    thread::scope(|scope| {
        let parts: Vec<_> = numbers
            .chunks(count.div_ceil(processors).max(1))
            .map(|part| scope.spawn(move || sign(part)))
            .collect();
        let signed: Result<Vec<_>, _> = parts.into_iter().map(|part| part.join()).collect();
        signed.map(|parts| parts.concat()).map_err(|_| "cannot sign the tokens".to_owned())
    })
}

/// The id of a call. All have the same length.
pub(super) fn call_id(number: u64) -> String {
    format!("6d1c0b00-77a3-4f0e-9b1d-{number:012}")
}

/// The id of a message. The generators count its last group up.
fn message_id(number: u64) -> String {
    format!("2f6b7d10-5c1e-4a7b-9d3e-{number:012}")
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
/// The name of the key that signs the tokens.
pub(super) const SIGNING_KEY: &str = "skype-1";
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const FILLER: usize = 100;

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn tokens_and_bodies_have_one_kilobyte() {
        let of_one_kilobyte = 950..1_100;
        for text in [token(7), updated(&call_id(1)), incoming(&call_id(1), HOME), legacy()] {
            assert!(of_one_kilobyte.contains(&text.len()), "{}: {text}", text.len());
        }
    }

    #[test]
    fn tokens_have_the_numbers_in_order() {
        let number_of = |token: String| {
            let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            serde_json::from_slice::<Value>(&claims).unwrap()["number"].as_str().unwrap().parse().unwrap()
        };
        let numbers: Vec<u64> = tokens(7, 3).unwrap().into_iter().map(number_of).collect();
        assert_eq!(numbers, [7, 8, 9]);
        assert_eq!(tokens(7, 0), Ok(Vec::new()));
    }

    #[test]
    fn requests_differ_in_the_message_id_and_new_calls_in_the_call_id() {
        let mut traffic = Traffic::new("/api/callbacks/emea/bot-0/k1.0.A");
        for (mode, body_differs) in [(Mode::Callback, false), (Mode::Legacy, false), (Mode::NewCall, true)] {
            let [first, second] = [(); 2].map(|()| String::from_utf8(traffic.request(mode)).unwrap());
            assert_eq!(first.len(), second.len());
            let parts = |request: &str| {
                request.split_once("\r\n\r\n").map(|(head, body)| [head, body].map(str::to_owned))
            };
            let ([first_head, first_body], [second_head, second_body]) =
                (parts(&first).unwrap(), parts(&second).unwrap());
            assert_ne!(first_head, second_head, "{mode:?}");
            assert_eq!(first_body != second_body, body_differs, "{mode:?}");
        }
    }
}
