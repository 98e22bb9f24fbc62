//! The calls of the control API: lists, one call, its events as they happen, its steps, and its end.

use std::{convert::Infallible, pin::Pin, sync::Arc, task, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::sleep,
};
use uuid::Uuid;

use crate::{
    call_record::CallRecord,
    context::Context,
    control,
    graph::StepRefused,
    script::ScriptStep,
    server::{Body, empty, error_response, header_text, json_response, respond},
};

/// Responds with the version, and the number of calls.
pub(super) fn health(context: &Context) -> Response<Body> {
    let calls = json!({"live": context.calls.len(), "kept": context.history.newest_first().len()});
    let document = json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "calls": calls});
    json_response(StatusCode::OK, &document)
}

/// Responds with the summaries of all calls, the newest first.
pub(super) fn list(context: &Context) -> Response<Body> {
    let calls: Vec<Value> = context.history.newest_first().iter().map(|call| call.summary()).collect();
    json_response(StatusCode::OK, &json!({"calls": calls}))
}

/// Responds with one call: its summary, its people, its operations and its events.
pub(super) fn show(context: &Context, id: &str) -> Response<Body> {
    let Some(call) = find(context, id) else { return no_such_call() };
    let (events, _) = call.events_from(0);
    let events: Vec<Value> = events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect();
    let mut document = call.details();
    document.insert("events".to_owned(), events.into());
    json_response(StatusCode::OK, &Value::Object(document))
}

/// Responds with a recording, to a request with the access token of its operation.
pub(super) fn recording(
    context: &Context,
    id: &str,
    recording: &str,
    request: &Request<Bytes>,
) -> Response<Body> {
    let token = header_text(request.headers(), &header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let call = find(context, id).or_else(|| context.calls.record(Uuid::try_parse(id).ok()?));
    // A sender without the token does not learn which recordings exist.
    let file = call.zip(token).and_then(|(call, token)| {
        let state = call.state();
        state.operations.recording(Uuid::try_parse(recording).ok()?)?.file(token)
    });
    match file {
        Some(file) => respond(StatusCode::OK, Some("audio/wav"), file),
        None => {
            let message = "the recordingAccessToken of the operation is needed as bearer token";
            let mut response = error_response(StatusCode::UNAUTHORIZED, "invalidToken", message);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

/// Plays a step of a script in a live call.
pub(super) fn step(
    context: &Context,
    id: &str,
    body: &[u8],
) -> Result<Response<Body>, control::InvalidControlRequest> {
    let step = control::parse_step(body)?;
    Ok(match take_step(context, id, step) {
        Ok(()) => json_response(StatusCode::ACCEPTED, &json!({"accepted": true})),
        Err(refused) => {
            let status = match refused {
                StepRefused::NoSuchCall if find(context, id).is_none() => StatusCode::NOT_FOUND,
                StepRefused::NoSuchCall | StepRefused::Ending | StepRefused::NotAnswered => {
                    StatusCode::CONFLICT
                }
                StepRefused::Busy => StatusCode::SERVICE_UNAVAILABLE,
            };
            error_response(status, refused.label(), &refused.to_string())
        }
    })
}

fn take_step(context: &Context, id: &str, step: ScriptStep) -> Result<(), StepRefused> {
    let id = Uuid::try_parse(id).map_err(|_| StepRefused::NoSuchCall)?;
    context.calls.take_step(id, step)
}

/// Ends a call if it lives, and forgets it.
pub(super) fn delete(context: &Context, id: &str) -> Response<Body> {
    match Uuid::try_parse(id).ok().and_then(|id| context.history.forget(id)) {
        Some(call) => {
            context.calls.end(call.facts.id);
            empty(StatusCode::NO_CONTENT)
        }
        None => no_such_call(),
    }
}

/// Ends and forgets all calls.
pub(super) fn delete_all(context: &Context) -> Response<Body> {
    // The history may have forgotten a live call.
    for call in context.calls.records().iter().filter(|call| call.is_shown()) {
        context.calls.end(call.facts.id);
    }
    for call in context.history.newest_first() {
        context.history.forget(call.facts.id);
    }
    empty(StatusCode::NO_CONTENT)
}

fn find(context: &Context, id: &str) -> Option<Arc<CallRecord>> {
    context.history.get(Uuid::try_parse(id).ok()?)
}

fn no_such_call() -> Response<Body> {
    let message = "no call has this id, or it is forgotten; GET /emulator/calls lists the calls";
    error_response(StatusCode::NOT_FOUND, "noSuchCall", message)
}

/// Streams the events of a call: those so far, then each as it happens. `Last-Event-ID` goes on after an
/// event.
pub(super) fn stream_events(context: &Context, id: &str, request: &Request<Bytes>) -> Response<Body> {
    let Some(call) = find(context, id) else { return no_such_call() };
    let last = header_text(request.headers(), &HeaderName::from_static("last-event-id"));
    let mut next: usize =
        last.and_then(|last| last.parse().ok()).map_or(0, |last: usize| last.saturating_add(1));
    let (sender, receiver) = mpsc::channel(STREAM_EVENTS_MAX);
    context.spawn(async move {
        let mut count = call.follow();
        loop {
            count.mark_unchanged();
            let (events, over) = call.events_from(next);
            for event in events {
                if sender.send(server_sent("", Some(next), &event)).await.is_err() {
                    return;
                }
                next += 1;
            }
            if over {
                return;
            }
            tokio::select! {
                changed = count.changed() => if changed.is_err() { return },
                () = sleep(KEEP_ALIVE_INTERVAL) => {
                    if sender.send(Bytes::from_static(KEEP_ALIVE)).await.is_err() {
                        return;
                    }
                }
                () = sender.closed() => return,
            }
        }
    });
    event_stream(receiver)
}

/// Streams the summary of every call, again that of each call that changes, and the id of each that is
/// forgotten.
pub(super) fn stream_calls(context: &Arc<Context>) -> Response<Body> {
    let mut changes = context.history.changes().subscribe();
    let (sender, receiver) = mpsc::channel(STREAM_EVENTS_MAX);
    let held = Arc::clone(context);
    context.spawn(async move {
        let mut due: Vec<Arc<CallRecord>> = held.history.newest_first().into_iter().rev().collect();
        loop {
            for call in due.drain(..) {
                let summary = Bytes::from(call.summary().to_string());
                if sender.send(server_sent("call", None, &summary)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(id) => match held.history.get(id) {
                        Some(call) => due.push(call),
                        None => {
                            let forgotten = Bytes::from(json!({"call": id.to_string()}).to_string());
                            if sender.send(server_sent("forgotten", None, &forgotten)).await.is_err() {
                                return;
                            }
                        }
                    },
                    Err(RecvError::Lagged(_)) => due.extend(held.history.newest_first().into_iter().rev()),
                    Err(RecvError::Closed) => return,
                },
                () = sleep(KEEP_ALIVE_INTERVAL) => {
                    if sender.send(Bytes::from_static(KEEP_ALIVE)).await.is_err() {
                        return;
                    }
                }
                () = sender.closed() => return,
            }
        }
    });
    event_stream(receiver)
}

/// Returns a server-sent event (HTML standard, "Server-sent events"). `data` is JSON, which has no line end.
fn server_sent(name: &str, id: Option<usize>, data: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(data.len() + 64);
    if !name.is_empty() {
        event.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    if let Some(id) = id {
        event.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    event.extend_from_slice(b"data: ");
    event.extend_from_slice(data);
    event.extend_from_slice(b"\n\n");
    event.into()
}

fn event_stream(receiver: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut response = Response::new(EventStream(receiver).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A response body of server-sent events.
#[derive(Debug)]
struct EventStream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

/// A reader that falls behind makes its stream wait, and nothing else.
const STREAM_EVENTS_MAX: usize = 64;
/// Comments that keep proxies from closing a quiet stream.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
