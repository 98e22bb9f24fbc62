//! The webhook of a bot: notes each notification in the ledger, and starts what follows from it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header::CONTENT_TYPE};
use serde_json::Value;

use super::{
    actions::{self, NewCall},
    behaviour::AnswerMode,
    instance::Instance,
    item::{ID_BYTES_MAX, NotificationItem},
    ledger::BotCall,
};
use crate::server::{Body, empty, error_response, header_text, printable, respond};

/// Responds to a request of the platform or of a gateway.
pub(super) fn receive(bot: &Arc<Instance>, request: &Request<Bytes>) -> Response<Body> {
    let body: Value = match serde_json::from_slice(request.body()) {
        Ok(body) => body,
        Err(error) => return bad_request(&error.to_string()),
    };
    if header_text(request.headers(), &CONTENT_TYPE).is_some_and(|text| text.starts_with(ACTION_FAILED_TYPE))
    {
        return action_failed(bot, &body);
    }
    let Some(values) = body.get("value").and_then(Value::as_array) else {
        // A gateway never forwards a legacy body. Without a gateway, 204 asks for the Graph form.
        let legacy = body.get("participants").is_some() && body.get("id").is_some();
        return if legacy {
            empty(StatusCode::NO_CONTENT)
        } else {
            bad_request("the body is neither a Graph nor a legacy notification")
        };
    };
    let items: Option<Vec<NotificationItem>> = values.iter().map(NotificationItem::read).collect();
    match items {
        Some(items) if !items.is_empty() => notified(bot, request, items),
        _ => bad_request("an item has no call id, or one that does not fit into a path"),
    }
}

fn notified(bot: &Arc<Instance>, request: &Request<Bytes>, items: Vec<NotificationItem>) -> Response<Body> {
    let new_call_ids: Vec<String> =
        items.iter().filter(|item| item.new_call).map(|item| item.call_id.clone()).collect();
    let Noted { new_calls, established, joining } = match note(bot, request, items) {
        Ok(noted) => noted,
        Err(unavailable) => return unavailable.response(),
    };
    for call in established {
        let instance = Arc::clone(bot);
        bot.work(async move { actions::established(&instance, &call).await });
    }
    if joining {
        return actions::join_response(&bot.behaviour.joining);
    }
    // An action is for one call, so a batch of several is answered through Graph. A repeated call gets its
    // action again: the first response may not have reached the gateway.
    if let ([id], Some(action)) = (new_call_ids.as_slice(), actions::requested_action(&bot.behaviour)) {
        if bot.behaviour.answer != AnswerMode::Action {
            bot.ledger().declined(id);
        }
        return respond(StatusCode::OK, Some(ACTION_TYPE), Bytes::from(action.to_string()));
    }
    for call in new_calls {
        let instance = Arc::clone(bot);
        bot.work(async move { actions::decide(&instance, &call).await });
    }
    // The real SDK, too, responds 202 and works on the notification afterwards.
    empty(StatusCode::ACCEPTED)
}

/// The items of a notification that need more than a note.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) new_calls: Vec<NewCall>,
    pub(super) established: Vec<BotCall>,
    /// A participant of a recorded call is about to join.
    joining: bool,
}

/// The reason why the bot takes no new call.
pub(super) struct Unavailable {
    code: &'static str,
    message: &'static str,
}

impl Unavailable {
    pub(super) fn response(&self) -> Response<Body> {
        error_response(StatusCode::SERVICE_UNAVAILABLE, self.code, self.message)
    }
}

/// Adds the items to the ledger and to the journal, or refuses all of them.
pub(super) fn note(
    bot: &Instance,
    request: &Request<Bytes>,
    items: Vec<NotificationItem>,
) -> Result<Noted, Unavailable> {
    let message_id = HeaderName::from_static("x-microsoft-skype-message-id");
    let message_id = header_text(request.headers(), &message_id).filter(|id| id.len() <= ID_BYTES_MAX);
    let mut noted = Noted::default();
    let mut ledger = bot.ledger();
    let new_calls = items.iter().filter(|item| item.new_call && !ledger.knows(&item.call_id)).count();
    if new_calls > 0 {
        // Its callbacks would go to the incarnation that the callback URI names, which is another process.
        let incarnation = HeaderName::from_static("switchboard-incarnation");
        let incarnation = header_text(request.headers(), &incarnation);
        if incarnation.is_some_and(|incarnation| bot.is_other_incarnation(incarnation)) {
            let message = "the call is for another incarnation of this instance";
            return Err(Unavailable { code: "otherIncarnation", message });
        }
        let refusal = match (bot.is_draining(), bot.is_exceeded_by(ledger.active + new_calls)) {
            (true, _) => Some(Unavailable { code: "draining", message: "this instance is draining" }),
            (false, true) => Some(Unavailable { code: "full", message: "this instance is full" }),
            (false, false) => None,
        };
        if let Some(unavailable) = refusal {
            ledger.refused += 1;
            return Err(unavailable);
        }
    }
    for item in items {
        if item.new_call && !ledger.knows(&item.call_id) {
            let call = taken_call(bot, &item, request);
            noted.new_calls.push(NewCall {
                id: call.id.clone(),
                callback: call.callback_uri.clone(),
                tenant: call.tenant.clone(),
            });
            ledger.take(call);
        }
        ledger.note(&item, message_id);
        bot.append_to_journal(&item, message_id);
        noted.joining |= item.kind == "participant joining";
        if item.kind == "established"
            && let Some(call) = ledger.call_mut(&item.call_id)
        {
            noted.established.push(call.clone());
        }
    }
    Ok(noted)
}

fn taken_call(bot: &Instance, item: &NotificationItem, request: &Request<Bytes>) -> BotCall {
    let header = |name| {
        let value = header_text(request.headers(), &HeaderName::from_static(name));
        value.filter(|value| value.len() <= HEADER_BYTES_MAX).map(str::to_owned)
    };
    let tenant = item.tenant.clone().filter(|tenant| tenant.len() <= ID_BYTES_MAX);
    BotCall {
        id: item.call_id.clone(),
        state: "taken".to_owned(),
        // Without a gateway the platform posts to the bot itself.
        callback_uri: header("switchboard-callback-uri").unwrap_or_else(|| bot.own_callback.clone()),
        // The gateway takes its tenant from the token, so it goes before the tenant in the body.
        tenant: header("switchboard-tenant-id").or(tenant),
        recorded: item.recorded,
        notifications: Vec::new(),
        count: 0,
        duplicates: 0,
        failure: None,
        operations: Vec::new(),
    }
}

/// Notes that the gateway could not do the requested action.
fn action_failed(bot: &Instance, body: &Value) -> Response<Body> {
    let text = |pointer: &str| {
        let text = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        printable(&text.chars().take(TEXT_LETTERS_MAX).collect::<String>())
    };
    let id = text("/callId").to_ascii_lowercase();
    let unknown = body.pointer("/error/outcomeUnknown").and_then(Value::as_bool).unwrap_or(false);
    let failed = if unknown { "may have failed" } else { "failed" };
    let mut why = format!("the gateway's {} {failed}: {}", text("/action"), text("/error/code"));
    let message = text("/error/message");
    if !message.is_empty() {
        why.push_str("; ");
        why.push_str(&message);
    }
    if unknown {
        bot.ledger().action_in_doubt(&id, &why);
    } else {
        bot.ledger().action_failed(&id, &why);
    }
    bot.report_failure(&id, &why);
    empty(StatusCode::ACCEPTED)
}

fn bad_request(message: &str) -> Response<Body> {
    error_response(StatusCode::BAD_REQUEST, "badRequest", message)
}

/// The type of a response that asks the gateway for an action.
const ACTION_TYPE: &str = "application/vnd.switchboard.action+json";

/// The type of a request by which the gateway reports a failed action.
const ACTION_FAILED_TYPE: &str = "application/vnd.switchboard.action-failed+json";

const HEADER_BYTES_MAX: usize = 2_048;

/// Longer than any useful text of a failure.
const TEXT_LETTERS_MAX: usize = 300;
