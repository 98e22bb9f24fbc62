//! The webhook of the calling SDK: its response to each notification.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    calls::Applied,
    client::SDK_VERSION,
    conduct,
    notification::{Notification, SdkItem},
    state::SdkState,
};
use crate::{
    bot::{behaviour::JoinResponse, instance::Instance, item::NotificationItem, webhook},
    clock,
    server::{Body, empty, header_text, json_response, respond},
};

/// Responds to a notification. 202 comes before the bot works on it.
pub(in crate::bot) async fn receive(
    bot: &Arc<Instance>,
    sdk: &Arc<SdkState>,
    request: &Request<Bytes>,
) -> Response<Body> {
    let mut response = match Notification::read(request.body()) {
        Err(refusal) => text(StatusCode::BAD_REQUEST, refusal.message()),
        Ok(Notification::Legacy) => empty(StatusCode::NO_CONTENT),
        Ok(Notification::Items(items)) => {
            let authorization = header_text(request.headers(), &header::AUTHORIZATION);
            match sdk.validator.validate(authorization, clock::now()).await {
                None => {
                    let mut refused = empty(StatusCode::UNAUTHORIZED);
                    let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                    refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                    add_ids(request, &mut refused);
                    return refused;
                }
                Some(family) => {
                    let mut response = handle(bot, sdk, request, &items);
                    if response.status() == StatusCode::ACCEPTED {
                        let family = HeaderValue::from_static(family.label());
                        let name = HeaderName::from_static("x-microsoft-bot-auth-type");
                        response.headers_mut().insert(name, family);
                    }
                    response
                }
            }
        }
    };
    add_ids(request, &mut response);
    let version = HeaderValue::from_static(SDK_VERSION);
    response.headers_mut().insert(HeaderName::from_static("x-microsoft-bot-sdk-version"), version);
    response
}

fn handle(
    bot: &Arc<Instance>,
    sdk: &Arc<SdkState>,
    request: &Request<Bytes>,
    items: &[Option<SdkItem>],
) -> Response<Body> {
    let noted = raw_items(request.body());
    let noted = match webhook::note(bot, request, noted) {
        Ok(noted) => noted,
        // The application in front of the SDK refuses new calls while it drains or is full.
        Err(unavailable) => return unavailable.response(),
    };
    let scenario = id_of(request, ["scenario-id", "x-microsoft-skype-chain-id"]);
    let handles_joining = bot.behaviour.joining != JoinResponse::Silent;
    let (mut joining, mut failed) = (false, false);
    let mut new_calls = Vec::new();
    for item in items {
        let Some(item) = item else {
            // The SDK has handled the items before it.
            failed = true;
            break;
        };
        match sdk.calls().apply(item, scenario.as_deref(), handles_joining) {
            Applied::Noted => {}
            Applied::NewCall(id) => new_calls.push(id),
            Applied::Joining => joining = true,
        }
    }
    for new in &noted.new_calls {
        if let Some(call) = sdk.calls().get_mut(&new.id) {
            call.callback.clone_from(&new.callback);
            call.tenant.clone_from(&new.tenant);
        }
    }
    for id in new_calls {
        let (instance, state) = (Arc::clone(bot), Arc::clone(sdk));
        bot.work(async move { conduct::decide(&instance, &state, &id).await });
    }
    for call in noted.established {
        let (instance, state) = (Arc::clone(bot), Arc::clone(sdk));
        bot.work(async move { conduct::follow(&instance, &state, &call.id, call.recorded).await });
    }
    if failed {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "NullReferenceException".to_owned());
    }
    if joining { join_response(&bot.behaviour.joining) } else { empty(StatusCode::ACCEPTED) }
}

/// The items for the ledger. It skips an item without a call.
fn raw_items(body: &[u8]) -> Vec<NotificationItem> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let values = body.get("value").and_then(Value::as_array);
    let read = |value: &Value| {
        let mut item = NotificationItem::read(value)?;
        let change = value.get("changeType").and_then(Value::as_str).unwrap_or_default();
        let is_call = value.pointer("/resourceData/id").is_some()
            && value.pointer("/resourceData/@odata.type").is_some_and(|kind| kind == "#microsoft.graph.call");
        // The SDK takes a call in any state.
        item.new_call = change.eq_ignore_ascii_case("created") && is_call;
        Some(item)
    };
    values.into_iter().flatten().filter_map(read).collect()
}

fn join_response(response: &JoinResponse) -> Response<Body> {
    let body = match response {
        JoinResponse::Accept | JoinResponse::Silent => {
            json!({"@odata.type": "#microsoft.graph.acceptJoinResponse"})
        }
        JoinResponse::Reject => {
            json!({"@odata.type": "#microsoft.graph.rejectJoinResponse", "reason": "Busy"})
        }
        JoinResponse::Invite(url) => {
            json!({"@odata.type": "#microsoft.graph.inviteNewBotResponse", "inviteUri": url.as_str()})
        }
    };
    json_response(StatusCode::OK, &body)
}

/// Adds the ids of the request. One that is not a GUID is left out.
fn add_ids(request: &Request<Bytes>, response: &mut Response<Body>) {
    for (name, sources) in [
        ("client-request-id", ["client-request-id", "x-microsoft-skype-message-id"]),
        ("scenario-id", ["scenario-id", "x-microsoft-skype-chain-id"]),
    ] {
        if let Some(id) = id_of(request, sources).and_then(|id| HeaderValue::try_from(id).ok()) {
            response.headers_mut().insert(HeaderName::from_static(name), id);
        }
    }
}

fn id_of(request: &Request<Bytes>, names: [&'static str; 2]) -> Option<String> {
    let text = |name| header_text(request.headers(), &HeaderName::from_static(name));
    let [first, second] = names;
    let id = text(first).or_else(|| text(second))?;
    Uuid::try_parse(id).ok().map(|_| id.to_owned())
}

fn text(status: StatusCode, message: String) -> Response<Body> {
    respond(status, Some("text/plain; charset=utf-8"), Bytes::from(message))
}
