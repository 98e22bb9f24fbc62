//! The calls of a recording, as requests to place them again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use openssl::error::ErrorStack;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::file::{InvalidRecording, RecordedNotification, Recording};
use crate::{
    call::{CallKind, CallRequest, Protocol, Region, Replay, ReplayedNotification},
    encoding::random_id,
    issuer::DEFAULT_TENANT,
    notification::NamedIds,
};

/// The settings of a replay.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// The bot's webhook.
    pub to: Url,
    /// The bot's app id, which replaces the recorded one.
    pub app: Uuid,
    /// The tenant of the calls, which replaces the recorded one; if `None`, the recorded one stays.
    pub tenant: Option<Uuid>,
    /// If true, the notifications of a call follow each other without the recorded pauses.
    pub fast: bool,
}

/// A recorded call.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// The time of its first notification, in milliseconds since the recording started.
    pub starts_ms: u64,
    /// The time of its last notification.
    pub ends_ms: u64,
    /// The number of its notifications.
    pub notifications: usize,
    /// The request that plays it.
    pub request: CallRequest,
}

impl Recording {
    /// Returns the recorded calls in the order of their first notifications.
    ///
    /// A notification with items of several calls becomes one for each. A repeated message id is skipped, and
    /// so is a body that was removed.
    ///
    /// # Errors
    /// No notification belongs to a call, or OpenSSL has no randomness.
    pub fn calls(&self, settings: &ReplaySettings) -> Result<Vec<RecordedCall>, ReplayError> {
        let mut chains = HashMap::new();
        let calls: Result<Vec<RecordedCall>, ErrorStack> =
            self.by_call().into_iter().map(|call| call.into_request(settings, &mut chains)).collect();
        let calls = calls.map_err(ReplayError::Crypto)?;
        if calls.is_empty() { Err(ReplayError::Recording(InvalidRecording::Empty)) } else { Ok(calls) }
    }

    fn by_call(&self) -> Vec<CallNotifications> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut calls: Vec<CallNotifications> = Vec::new();
        let mut messages = HashSet::new();
        for notification in &self.notifications {
            let message = notification.headers.get(MESSAGE_ID).filter(|id| !id.is_empty());
            if message.is_some_and(|id| !messages.insert(id)) {
                continue;
            }
            for (id, body) in items_by_call(&notification.body) {
                let place = *places.entry(id).or_insert_with(|| {
                    calls.push(CallNotifications::new(notification));
                    calls.len().saturating_sub(1)
                });
                if let Some(call) = calls.get_mut(place) {
                    call.add(notification, body);
                }
            }
        }
        calls
    }
}

/// Splits a body by the calls of its items. A legacy body has one call.
fn items_by_call(body: &Value) -> Vec<(String, Value)> {
    let Some(items) = body.get("value").and_then(Value::as_array) else {
        let id = NamedIds::read(body).call.map(|id| id.to_ascii_lowercase());
        return id.into_iter().map(|id| (id, body.clone())).collect();
    };
    let mut calls: Vec<(String, Vec<Value>)> = Vec::new();
    for item in items {
        let one = serde_json::json!({"value": [item]});
        let Some(id) = NamedIds::read(&one).call.map(|id| id.to_ascii_lowercase()) else { continue };
        match calls.iter_mut().find(|(known, _)| *known == id) {
            Some((_, items)) => items.push(item.clone()),
            None => calls.push((id, vec![item.clone()])),
        }
    }
    let with_items = |items: Vec<Value>| {
        let mut document = body.clone();
        if let Some(members) = document.as_object_mut() {
            members.insert("value".to_owned(), items.into());
        }
        document
    };
    calls.into_iter().map(|(id, items)| (id, with_items(items))).collect()
}

/// The notifications of one call.
struct CallNotifications {
    starts_ms: u64,
    chain: Option<String>,
    region: Option<Region>,
    legacy: bool,
    first: Option<Value>,
    later: Vec<(u64, Value)>,
    ends_ms: u64,
    count: usize,
}

impl CallNotifications {
    fn new(notification: &RecordedNotification) -> Self {
        let header = |name| notification.headers.get(name);
        Self {
            starts_ms: notification.at_ms,
            chain: header(CHAIN_ID).cloned(),
            region: header(CALLER_REGION).and_then(|region| region.to_ascii_lowercase().parse().ok()),
            legacy: false,
            first: None,
            later: Vec::new(),
            ends_ms: notification.at_ms,
            count: 0,
        }
    }

    fn add(&mut self, notification: &RecordedNotification, body: Value) {
        self.ends_ms = notification.at_ms;
        self.count += 1;
        if body.get("value").is_none() {
            self.legacy = true;
        } else if self.first.is_none() && self.later.is_empty() && is_new_call(&body) {
            self.first = Some(body);
        } else {
            self.later.push((notification.at_ms, body));
        }
    }

    fn into_request(
        self,
        settings: &ReplaySettings,
        chains: &mut HashMap<String, Uuid>,
    ) -> Result<RecordedCall, ErrorStack> {
        let bodies = self.first.iter().chain(self.later.iter().map(|(_, body)| body));
        let named = bodies.fold(NamedIds::default(), |ids, body| ids.or(NamedIds::read(body)));
        let chain = match self.chain.or(named.chain).map(|chain| chain.to_ascii_lowercase()) {
            Some(recorded) => match chains.get(&recorded) {
                Some(chain) => *chain,
                None => *chains.entry(recorded).or_insert(random_id()?),
            },
            None => random_id()?,
        };
        let mut request = CallRequest::new(settings.to.clone(), settings.app);
        if let Some(first) = &self.first {
            request = request.with_kind(kind_of(first));
        }
        let recorded_tenant = named.tenant.and_then(|tenant| Uuid::try_parse(&tenant).ok());
        request.tenant = settings.tenant.or(recorded_tenant).unwrap_or(DEFAULT_TENANT);
        request.region = self.region.unwrap_or(request.region);
        request.protocol = if self.legacy { Protocol::LegacyFirst } else { Protocol::Graph };
        // The first one follows the bot's answer, as the platform does it. Its recorded pause includes the
        // time that the bot took.
        let mut before = self.later.first().map_or(0, |(at_ms, _)| *at_ms);
        let notifications = self.later.into_iter().map(|(at_ms, body)| {
            let pause = if settings.fast { 0 } else { at_ms.saturating_sub(before).min(PAUSE_MS_MAX) };
            before = at_ms;
            ReplayedNotification { after: Duration::from_millis(pause), body }
        });
        let notifications: Vec<ReplayedNotification> = notifications.collect();
        // A recording of the legacy form alone has nothing to replay: the platform makes the call.
        if self.first.is_some() || !notifications.is_empty() {
            request.replay = Some(Replay { chain: Some(chain), notifications });
        }
        request.body = self.first;
        let (starts_ms, ends_ms, notifications) = (self.starts_ms, self.ends_ms, self.count);
        Ok(RecordedCall { starts_ms, ends_ms, notifications, request })
    }
}

/// Returns true for the first notification of a call to the bot.
fn is_new_call(body: &Value) -> bool {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    text("/value/0/changeType").eq_ignore_ascii_case("created")
        && text("/value/0/resourceData/state").eq_ignore_ascii_case("incoming")
}

/// Returns the kind that the first notification of a call shows.
fn kind_of(body: &Value) -> CallKind {
    let data = |pointer: &str| body.pointer(&format!("/value/0/resourceData{pointer}")).is_some();
    if data("/incomingContext/observedParticipantId") || data("/applicationMetadata/botData") {
        CallKind::Recording
    } else if data("/meetingInfo") {
        CallKind::Meeting
    } else if data("/source/identity/phone") {
        CallKind::Pstn
    } else if data("/chatInfo") {
        CallKind::Group
    } else {
        CallKind::P2p
    }
}

/// The reason why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Nothing in it can be played.
    #[error(transparent)]
    Recording(InvalidRecording),
    /// OpenSSL has no randomness.
    #[error("openssl failed")]
    Crypto(#[source] ErrorStack),
}

const MESSAGE_ID: &str = "x-microsoft-skype-message-id";
const CHAIN_ID: &str = "x-microsoft-skype-chain-id";
const CALLER_REGION: &str = "x-microsoft-skype-caller-region";

/// A day, the longest duration of the control API.
const PAUSE_MS_MAX: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::parse_http_url;

    fn item(call: &str, change: &str, data: &Value) -> Value {
        json!({"changeType": change, "resourceUrl": format!("/communications/calls/{call}"),
               "resourceData": data})
    }

    fn recording(bodies: &[(u64, &str, Value)]) -> Recording {
        let notifications: Vec<Value> = bodies
            .iter()
            .map(|(at_ms, message, body)| {
                let headers = json!({"x-microsoft-skype-message-id": message,
                                     "x-microsoft-skype-chain-id": "chain-chain"});
                json!({"at_ms": at_ms, "headers": headers, "body": body, "status": 202})
            })
            .collect();
        let document = json!({"switchboard_recording": 1, "notifications": notifications});
        Recording::parse(&document.to_string()).unwrap()
    }

    fn settings(fast: bool) -> ReplaySettings {
        let to = parse_http_url("http://127.0.0.1:1/").unwrap();
        ReplaySettings { to, app: Uuid::from_u128(1), tenant: None, fast }
    }

    #[test]
    fn a_recording_becomes_its_calls() {
        let (a, b) = ("aaaaaaaa-1", "bbbbbbbb-2");
        let new = |call: &str| json!({"value": [item(call, "Created", &json!({"state": "Incoming"}))]});
        let state = |state: &str| json!({"state": state});
        let both = json!({"value": [item(a, "updated", &state("established")),
                                    item(&b.to_uppercase(), "updated", &state("hold"))]});
        let recording = recording(&[
            (0, "1", json!({"id": a, "callState": "incoming"})),
            (10, "2", new(a)),
            (20, "3", new(b)),
            (20, "3", new(b)),
            (100, "4", both),
            (400, "5", json!({"value": [item(a, "deleted", &state("terminated"))]})),
            (500, "6", json!({"removed": "not JSON"})),
        ]);
        let calls = recording.calls(&settings(false)).unwrap();
        let shape = |call: &RecordedCall| {
            let replay = call.request.replay.clone().unwrap();
            let pauses: Vec<u128> = replay.notifications.iter().map(|next| next.after.as_millis()).collect();
            (call.starts_ms, call.ends_ms, call.notifications, call.request.protocol, pauses)
        };
        assert_eq!(shape(&calls[0]), (0, 400, 4, Protocol::LegacyFirst, vec![0, 300]));
        assert_eq!(shape(&calls[1]), (20, 100, 2, Protocol::Graph, vec![0]));
        let chain = |call: &RecordedCall| call.request.replay.as_ref().unwrap().chain.unwrap();
        assert_eq!(chain(&calls[0]), chain(&calls[1]));
        let again = recording.calls(&settings(true)).unwrap();
        assert_ne!(chain(&calls[0]), chain(&again[0]), "a replay has new ids");
        assert_eq!(shape(&again[0]).4, [0, 0]);
    }

    #[test]
    fn a_recording_without_a_call_is_refused() {
        let recording = recording(&[(0, "1", json!({"removed": "not JSON"}))]);
        assert!(recording.calls(&settings(false)).unwrap_err().to_string().contains("no notification"));
    }
}
