//! The actions of a bot: what it asks Graph or the gateway to do with a call.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    behaviour::{AnswerMode, Behaviour, JoinResponse},
    instance::Instance,
    ledger::BotCall,
};
use crate::server::{Body, empty, json_response};

/// A call that the bot has just taken.
pub(super) struct NewCall {
    pub(super) id: String,
    pub(super) callback: String,
    pub(super) tenant: Option<String>,
}

/// Answers, rejects or redirects a new call through Graph.
pub(super) async fn decide(bot: &Instance, call: &NewCall) {
    let (action, mut body) = match bot.behaviour.answer {
        // An action cannot answer a batch of several calls, so Graph does.
        AnswerMode::Graph | AnswerMode::Action => ("answer", answer_body(&bot.behaviour)),
        AnswerMode::Reject | AnswerMode::ActionReject => ("reject", reject_body()),
        AnswerMode::Redirect | AnswerMode::ActionRedirect => ("redirect", redirect_body()),
        AnswerMode::None => return,
    };
    if let Some(members) = body.as_object_mut() {
        members.insert("callbackUri".to_owned(), call.callback.as_str().into());
    }
    let result = bot.graph.act(&call.id, action, &body, call.tenant.as_deref()).await;
    match result {
        Ok(()) if action == "answer" => bot.ledger().answered(&call.id),
        Ok(()) => bot.ledger().declined(&call.id),
        Err(failure) => {
            let why = format!("{action} failed: {failure}");
            bot.report_failure(&call.id, &why);
            bot.ledger().fail(&call.id, why);
        }
    }
}

/// The body that asks a gateway to act; `None` if the bot acts itself or not at all.
pub(super) fn requested_action(behaviour: &Behaviour) -> Option<Value> {
    let (action, mut body) = match behaviour.answer {
        AnswerMode::Action => ("answer", answer_body(behaviour)),
        AnswerMode::ActionReject => ("reject", reject_body()),
        AnswerMode::ActionRedirect => ("redirect", redirect_body()),
        AnswerMode::Graph | AnswerMode::Reject | AnswerMode::Redirect | AnswerMode::None => return None,
    };
    if let Some(members) = body.as_object_mut() {
        members.insert("action".to_owned(), action.into());
    }
    Some(body)
}

/// Announces the recording of a recorded call. Hangs up after a while if the settings ask for it.
pub(super) async fn established(bot: &Instance, call: &BotCall) {
    let (id, tenant) = (call.id.as_str(), call.tenant.as_deref());
    // A gateway has no action for the recording status. A bot that uses actions needs credentials of its own.
    let may_act = match bot.behaviour.answer {
        AnswerMode::Graph => true,
        AnswerMode::Action => bot.behaviour.credentials.is_some(),
        AnswerMode::Reject
        | AnswerMode::Redirect
        | AnswerMode::ActionReject
        | AnswerMode::ActionRedirect
        | AnswerMode::None => false,
    };
    if call.recorded && may_act {
        let body = json!({"clientContext": bot.incarnation.to_string(), "status": "recording"});
        // The call goes on either way.
        if let Err(failure) = bot.graph.act(id, "updateRecordingStatus", &body, tenant).await {
            bot.report_failure(id, &format!("updateRecordingStatus failed: {failure}"));
        }
    }
    if let Some(after) = bot.behaviour.hang_up_after {
        sleep(after).await;
        if let Err(failure) = bot.graph.hang_up(id, tenant).await {
            bot.report_failure(id, &format!("hanging up failed: {failure}"));
        }
    }
}

/// The response to the announcement of a participant.
pub(super) fn join_response(response: &JoinResponse) -> Response<Body> {
    let body = match response {
        JoinResponse::Accept => json!({"@odata.type": "#microsoft.graph.acceptJoinResponse"}),
        JoinResponse::Reject => {
            json!({"@odata.type": "#microsoft.graph.rejectJoinResponse", "reason": "busy"})
        }
        JoinResponse::Invite(url) => {
            json!({"@odata.type": "#microsoft.graph.inviteNewBotResponse", "inviteUri": url.as_str()})
        }
        JoinResponse::Silent => return empty(StatusCode::ACCEPTED),
    };
    json_response(StatusCode::OK, &body)
}

fn answer_body(behaviour: &Behaviour) -> Value {
    let mut body = json!({
        "acceptedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
    });
    if let Some(members) = body.as_object_mut() {
        if behaviour.delta_roster {
            let options =
                json!({"@odata.type": "#microsoft.graph.incomingCallOptions", "isDeltaRosterEnabled": true});
            members.insert("callOptions".to_owned(), options);
        }
        if let Some(capacity) = behaviour.participant_capacity {
            members.insert("participantCapacity".to_owned(), capacity.into());
        }
    }
    body
}

fn reject_body() -> Value {
    json!({"reason": "busy"})
}

/// The target is a user id that no tenant has.
fn redirect_body() -> Value {
    json!({"targets": [{
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "identity": {
            "@odata.type": "#microsoft.graph.identitySet",
            "user": {
                "@odata.type": "#microsoft.graph.identity",
                "id": "0a0a0a0a-1111-4aaa-8bbb-000000000002",
            },
        },
    }]})
}
