//! The conduct of a bot on the calling SDK: a request, the wait for its operation, and what follows a call.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

use super::{
    call::{OpenOperation, OperationEnd, SdkCall},
    client::{self, Outgoing},
    request::{Arguments, ExpectedResponse, SdkRequest},
    requests::request_named,
    state::SdkState,
};
use crate::{
    bot::{
        behaviour::AnswerMode,
        instance::Instance,
        ledger::{BotCall, BotOperation},
    },
    client::ClientResponse,
    encoding::random_id,
    server::{Body, error_response, json_response, printable},
};

/// Answers, rejects or redirects a new call.
pub(super) async fn decide(bot: &Instance, sdk: &SdkState, id: &str) {
    let name = match bot.behaviour.answer {
        AnswerMode::Graph | AnswerMode::Action => "answer",
        AnswerMode::Reject | AnswerMode::ActionReject => "reject",
        AnswerMode::Redirect | AnswerMode::ActionRedirect => "redirect",
        AnswerMode::None => return,
    };
    let Some(request) = request_named(name) else { return };
    match perform(bot, sdk, Some(id), request, &Arguments::new()).await {
        Ok(_) if name == "answer" => bot.ledger().answered(id),
        Ok(_) => bot.ledger().declined(id),
        Err(why) => {
            let why = format!("{name} failed: {why}");
            bot.report_failure(id, &why);
            bot.ledger().fail(id, why);
        }
    }
}

/// Sends the requests of the settings, each after the end of the one before, and stops at a failure.
pub(super) async fn follow(bot: &Instance, sdk: &SdkState, id: &str, recorded: bool) {
    let recording = recorded.then(|| "updateRecordingStatus".to_owned());
    for name in recording.iter().chain(&sdk.then) {
        let Some(request) = request_named(name) else { continue };
        let result = perform(bot, sdk, Some(id), request, &Arguments::new()).await;
        let failed = result.is_err();
        note(bot, id, name, result);
        if failed {
            return;
        }
    }
    if let Some(after) = bot.behaviour.hang_up_after {
        tokio::time::sleep(after).await;
        if let Some(request) = request_named("delete") {
            note(bot, id, "delete", perform(bot, sdk, Some(id), request, &Arguments::new()).await);
        }
    }
}

/// Responds to `POST /sdk/{name}?call={id}` with the outcome of the request. The body may have arguments.
pub(in crate::bot) async fn ask(
    bot: &Arc<Instance>,
    sdk: &Arc<SdkState>,
    name: &str,
    request: &Request<Bytes>,
) -> Response<Body> {
    let (query, body) = (request.uri().query(), request.body());
    let arguments =
        match body.is_empty().then(Arguments::new).map_or_else(|| serde_json::from_slice(body), Ok) {
            Ok(arguments) => arguments,
            Err(error) => return error_response(StatusCode::BAD_REQUEST, "badRequest", &error.to_string()),
        };
    if name == "rehydrate" {
        let id = query.and_then(|query| query.strip_prefix("call=")).unwrap_or_default();
        let document = match rehydrate(bot, sdk, id, &arguments).await {
            Ok(outcome) => json!({"request": name, "call": id, "outcome": outcome}),
            Err(why) => json!({"request": name, "call": id, "outcome": "failed", "message": why}),
        };
        return json_response(StatusCode::OK, &document);
    }
    let Some(request) = request_named(name) else {
        let message = format!("{}, rehydrate", super::InvalidSdkRequest);
        return error_response(StatusCode::NOT_FOUND, "notFound", &message);
    };
    let named = query.and_then(|query| query.strip_prefix("call=")).map(str::to_ascii_lowercase);
    let call = named.or_else(|| sdk.calls().newest().map(str::to_owned));
    let call = call.filter(|_| request.is_about_a_call());
    let result = perform(bot, sdk, call.as_deref(), request, &arguments).await;
    if let (ExpectedResponse::NewCall, Ok(id)) = (&request.response, &result)
        && add_to_ledger(bot, sdk, id, "placed")
    {
        let (instance, state, id) = (Arc::clone(bot), Arc::clone(sdk), id.clone());
        bot.work(async move { follow(&instance, &state, &id, false).await });
    }
    let document = match &result {
        Ok(outcome) => json!({"request": name, "call": call, "outcome": outcome}),
        Err(why) => json!({"request": name, "call": call, "outcome": "failed", "message": why}),
    };
    if let Some(call) = &call {
        note(bot, call, name, result);
    }
    json_response(StatusCode::OK, &document)
}

/// Adds a call that the bot has placed or taken over to its ledger. Returns true if a notification reported
/// before that it is established.
fn add_to_ledger(bot: &Instance, sdk: &SdkState, id: &str, state: &str) -> bool {
    let (callback, tenant) = {
        let calls = sdk.calls();
        let known = calls.get(id);
        (known.map(|call| call.callback.clone()), known.and_then(|call| call.tenant.clone()))
    };
    bot.ledger().place(BotCall::new(id, state, callback.unwrap_or_default(), tenant))
}

/// Takes over a call of a former process. Returns `completed`, or `gone` if Graph does not know the call.
async fn rehydrate(bot: &Instance, sdk: &SdkState, id: &str, more: &Arguments) -> Result<String, String> {
    let id = Uuid::try_parse(id).map_err(|_| "call must be the id of a call".to_owned())?.to_string();
    if sdk.calls().get(&id).is_some() {
        return Err("the SDK knows the call already".to_owned());
    }
    let tenant = more.get("tenant").or_else(|| sdk.arguments.get("tenant"));
    let token = bot.graph.token(tenant.map(String::as_str)).await?;
    let scenario = random_id().ok().map(|id| id.to_string());
    let get = async |below: &str| {
        let path = format!("/v1.0/communications/calls/{id}{below}");
        let outgoing = Outgoing {
            method: Method::GET,
            url: sdk.platform.join(&path).map_err(|error| error.to_string())?,
            body: None,
            token: token.clone(),
            scenario: scenario.clone(),
            client_request_id: None,
            application: bot.name.clone(),
        };
        let response = client::send(&sdk.client, &outgoing).await?;
        match response.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                serde_json::from_slice::<Value>(&response.body).map(Some).map_err(|_| UNEXPECTED.to_owned())
            }
            _ => Err(refusal(&response)),
        }
    };
    let Some(resource) = get("").await? else { return Ok("gone".to_owned()) };
    if !resource.get("id").is_some_and(Value::is_string) {
        return Err(UNEXPECTED.to_owned());
    }
    let (people, groups, sessions) =
        tokio::join!(get("/participants"), get("/audioRoutingGroups"), get("/contentSharingSessions"));
    groups?;
    sessions?;
    let mut call = SdkCall { scenario, ..SdkCall::default() };
    call.merge(&resource);
    if let Some(people) = people?.as_ref().and_then(|document| document.get("value")) {
        call.apply_roster(people);
    }
    sdk.calls().insert(&id, call);
    add_to_ledger(bot, sdk, &id, "taken");
    Ok("completed".to_owned())
}

fn note(bot: &Instance, id: &str, name: &str, result: Result<String, String>) {
    let (outcome, message) = match result {
        Ok(outcome) => (outcome, None),
        Err(why) => {
            bot.report_failure(id, &format!("{name} failed: {why}"));
            ("failed".to_owned(), Some(why))
        }
    };
    bot.ledger().note_operation(id, BotOperation { name: name.to_owned(), outcome, message });
}

/// Sends a request and waits for its end. Returns `accepted`, `completed`, or the id of a new call.
async fn perform(
    bot: &Instance,
    sdk: &SdkState,
    call: Option<&str>,
    request: &'static SdkRequest,
    more: &Arguments,
) -> Result<String, String> {
    let context = random_id().map_err(|error| error.to_string())?.to_string();
    if request.is_about_a_call() && call.is_none() {
        return Err("the bot has no call".to_owned());
    }
    let (arguments, scenario, tenant) = arguments(bot, sdk, call, &context, more);
    if request.needs_hosted_media() && !arguments.contains_key("blob") {
        return Err("ArgumentNullException: the call has no application-hosted media".to_owned());
    }
    let tenant = tenant.or_else(|| arguments.get("tenant").cloned());
    let path = request.path(&arguments)?;
    let outgoing = Outgoing {
        method: Method::from_bytes(request.method.as_bytes()).map_err(|error| error.to_string())?,
        url: sdk.platform.join(&path).map_err(|error| error.to_string())?,
        body: request.body(&arguments)?,
        token: bot.graph.token(tenant.as_deref()).await?,
        scenario: scenario.filter(|_| request.names_the_scenario()),
        client_request_id: Some(random_id().map_err(|error| error.to_string())?.to_string()),
        application: bot.name.clone(),
    };
    // The notification of an operation may come before the response.
    let ended = match (&request.response, call) {
        (ExpectedResponse::Operation { types, .. }, Some(id)) => open(sdk, id, &context, types),
        _ => None,
    };
    let end = finish(sdk, request, &outgoing, ended, &arguments).await;
    if let Some(id) = call
        && let Some(call) = sdk.calls().get_mut(id)
    {
        call.forget(&context);
    }
    end
}

/// The arguments of a request, and the scenario and the tenant of its call. The request's own arguments go
/// before those of the call, which go before those of the settings.
fn arguments(
    bot: &Instance,
    sdk: &SdkState,
    call: Option<&str>,
    context: &str,
    more: &Arguments,
) -> (Arguments, Option<String>, Option<String>) {
    let capacity = bot.behaviour.participant_capacity.unwrap_or(0).to_string();
    let mut arguments: Arguments = [
        ("context", context),
        ("capacity", &capacity),
        ("name", &bot.name),
        ("app", &sdk.app),
        ("callback", &bot.own_callback),
        ("service", ""),
        ("reason", "Busy"),
        ("role", "Sharer"),
        ("status", "Recording"),
        ("tones", "Tone1,Star,Pound"),
        ("resource", SOME_ID),
        ("user", SOME_ID),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if bot.behaviour.delta_roster {
        arguments.insert("delta".to_owned(), String::new());
    }
    arguments.extend(sdk.arguments.clone());
    let (mut scenario, mut tenant) = (None, None);
    if let Some(id) = call {
        arguments.insert("call".to_owned(), id.to_owned());
        if let Some(known) = sdk.calls().get(id) {
            // The gateway's callback URI is for this call only. Without one the setting of the bot holds.
            if !known.callback.is_empty() && known.callback != bot.own_callback {
                arguments.insert("callback".to_owned(), known.callback.clone());
            }
            (scenario, tenant) = (known.scenario.clone(), known.tenant.clone());
        }
    }
    arguments.extend(more.clone());
    // A call has one kind of media, and a callee is a person or a number.
    for (given, replaced) in [("blob", "service"), ("phone", "user")] {
        if arguments.contains_key(given) {
            arguments.remove(replaced);
        }
    }
    (arguments, scenario.or_else(|| random_id().ok().map(|id| id.to_string())), tenant)
}

type Ended = oneshot::Receiver<OperationEnd>;

fn open(sdk: &SdkState, id: &str, context: &str, types: &'static [&'static str]) -> Option<Ended> {
    let (end, ended) = oneshot::channel();
    sdk.calls().get_mut(id)?.open(context.to_owned(), OpenOperation { types, end });
    Some(ended)
}

async fn finish(
    sdk: &SdkState,
    request: &SdkRequest,
    outgoing: &Outgoing,
    ended: Option<Ended>,
    arguments: &Arguments,
) -> Result<String, String> {
    let response = client::send(&sdk.client, outgoing).await?;
    if !response.status.is_success() {
        return Err(refusal(&response));
    }
    let document = serde_json::from_slice::<Value>(&response.body);
    match &request.response {
        ExpectedResponse::Success => Ok("accepted".to_owned()),
        ExpectedResponse::Document => {
            document.map(|_| "completed".to_owned()).map_err(|_| UNEXPECTED.to_owned())
        }
        ExpectedResponse::NewCall => add_call(sdk, outgoing, &response, arguments),
        ExpectedResponse::Operation { wait, .. } => {
            let document = document.map_err(|_| UNEXPECTED.to_owned())?;
            let end = match (OperationEnd::read(&document), ended) {
                (Some(end), _) => end,
                (None, Some(ended)) => timeout(*wait, ended)
                    .await
                    .map_err(|_| format!("TimeoutException: the operation did not end within {wait:?}"))?
                    .map_err(|_| "the call ended before the operation".to_owned())?,
                (None, None) => return Err("the SDK does not know the call".to_owned()),
            };
            match end {
                OperationEnd::Completed => Ok("completed".to_owned()),
                OperationEnd::Failed(why) => Err(printable(&why)),
            }
        }
    }
}

/// Adds the call that the bot created. Its id is in the body, else in `Location`.
fn add_call(
    sdk: &SdkState,
    outgoing: &Outgoing,
    response: &ClientResponse,
    arguments: &Arguments,
) -> Result<String, String> {
    let body: Value = serde_json::from_slice(&response.body).map_err(|_| UNEXPECTED.to_owned())?;
    let location = response.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let id = body.get("id").and_then(Value::as_str).or_else(|| location?.rsplit('/').next());
    let id = id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| UNEXPECTED.to_owned())?.to_string();
    let mut call = SdkCall {
        scenario: outgoing.scenario.clone(),
        callback: arguments.get("callback").cloned().unwrap_or_default(),
        tenant: arguments.get("tenant").cloned(),
        ..SdkCall::default()
    };
    call.merge(&body);
    sdk.calls().insert(&id, call);
    Ok(id)
}

fn refusal(response: &ClientResponse) -> String {
    let document: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    match document.pointer("/error/message").and_then(Value::as_str) {
        Some(message) => {
            let message: String = message.chars().take(TEXT_LETTERS_MAX).collect();
            printable(&format!("ServiceException {}: {message}", response.status))
        }
        None => format!("{UNEXPECTED} Status Code: {}", response.status),
    }
}

const UNEXPECTED: &str = "Unexpected exception returned from the service.";
const TEXT_LETTERS_MAX: usize = 300;

/// A resource and a user that no tenant has.
const SOME_ID: &str = "0a0a0a0a-1111-4aaa-8bbb-000000000002";
