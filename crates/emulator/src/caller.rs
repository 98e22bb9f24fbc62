//! The caller: places a call, and plays it as the calling platform does.

mod admission;
mod callbacks;
mod callee;
mod conclusion;
mod established;
mod incoming;
mod media;
mod message;
mod operations;
mod outgoing;
mod participants;
mod posting;
mod prompts;
mod replay;
mod steps;

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use self::posting::Player;
use crate::{
    call::{CallOutcome, CallRequest, CreatedCalls, PlaceError},
    call_record::{CallRecord, Direction, Facts},
    clock,
    context::Context,
    encoding::random_id,
    graph::{CallInput, CreateRequest, outgoing_document},
    notification::{CallIds, Opening},
    participant::{Identity, Participant},
    recorder::Recorder,
    timeline::{CallEvent, PlacedCall, Timeline},
};

/// Places a call and plays it to its end in a task, even if its timeline is not read.
pub(crate) fn place(context: &Arc<Context>, call: CallRequest) -> Result<Timeline, PlaceError> {
    let chain = call.replay.as_ref().and_then(|replay| replay.chain);
    place_in_chain(context, call, chain, true)
}

/// Places a call of a load, of which only the result is kept.
pub(crate) fn place_unkept(context: &Arc<Context>, call: CallRequest) -> Result<Timeline, PlaceError> {
    place_in_chain(context, call, None, false)
}

/// Places a call that belongs to the chain of another one.
fn place_in_chain(
    context: &Arc<Context>,
    call: CallRequest,
    chain: Option<Uuid>,
    kept: bool,
) -> Result<Timeline, PlaceError> {
    let ids = CallIds::new(chain)?;
    let opening = Opening::new(&call, &ids)?;
    let document = match opening.graph.pointer("/value/0/resourceData") {
        Some(Value::Object(call)) => call.clone(),
        _ => Map::new(),
    };
    let PlacedTask { started, recorder, timeline, inputs } =
        begin(context, &call, &ids, Direction::Incoming, document, kept)?;
    let held = Arc::clone(context);
    context.spawn(async move {
        let invite = |call| place_in_chain(&held, call, Some(ids.chain), kept);
        let player = Player::new(&held, &call, &ids, started, &recorder, &invite);
        let conclusion = match &call.replay {
            Some(replay) if call.body.is_none() => {
                Box::pin(replay::play_answered(&player, replay, inputs)).await
            }
            _ => Box::pin(incoming::play(&player, &opening, inputs)).await,
        };
        drop(player);
        recorder.end(conclusion.into_end(call.expect, started));
        held.calls.remove(ids.call);
    });
    Ok(timeline)
}

/// Places a call of a bot and plays it to its end in a task. Returns its id and its resource.
pub(crate) fn call_out(
    context: &Arc<Context>,
    request: CreateRequest,
) -> Result<(Uuid, Map<String, Value>), PlaceError> {
    let ids = CallIds::new(None)?;
    let document = outgoing_document(&request, ids.call, ids.chain, ids.bot_participant);
    let CreateRequest { app, tenant, kind, callback, people, answer, .. } = request;
    let CreatedCalls { script, duration } = context.created_calls.clone();
    let call = CallRequest { tenant, script, duration, ..CallRequest::new(callback, app).with_kind(kind) };
    let PlacedTask { started, recorder, timeline: _, inputs } =
        begin(context, &call, &ids, Direction::Outgoing, document.clone(), true)?;
    let participants = first_participants(people, &call, &ids)?;
    let held = Arc::clone(context);
    context.spawn(async move {
        let invite = |call| place_in_chain(&held, call, Some(ids.chain), true);
        let player = Player::new(&held, &call, &ids, started, &recorder, &invite);
        let conclusion = Box::pin(outgoing::play(&player, &answer, participants, inputs)).await;
        drop(player);
        // A callee who does not take the call is as expected: a fault asks for it.
        let expected =
            if conclusion.outcome == CallOutcome::Lost { CallOutcome::Completed } else { conclusion.outcome };
        recorder.end(conclusion.into_end(expected, started));
        held.calls.remove(ids.call);
    });
    Ok((ids.call, document))
}

/// The participants of a call of a bot when it is established: the first callee, the bot, further callees. A
/// meeting whose organizer is not named has one all the same.
fn first_participants(
    people: Vec<Identity>,
    call: &CallRequest,
    ids: &CallIds,
) -> Result<Vec<Participant>, PlaceError> {
    let mut people = people.into_iter();
    let other = people.next().unwrap_or_else(|| Identity::user(ids.caller));
    let mut participants = vec![
        Participant::new(ids.caller_participant, other),
        Participant::new(ids.bot_participant, Identity::application(call.app)),
    ];
    for person in people {
        participants.push(Participant::new(random_id()?, person));
    }
    Ok(participants)
}

/// The parts of a call that the task needs to play it.
struct PlacedTask {
    started: Instant,
    recorder: Recorder,
    timeline: Timeline,
    inputs: mpsc::Receiver<CallInput>,
}

/// Makes a call known to Graph and, if it is kept, to the control API.
fn begin(
    context: &Context,
    call: &CallRequest,
    ids: &CallIds,
    direction: Direction,
    document: Map<String, Value>,
    kept: bool,
) -> Result<PlacedTask, PlaceError> {
    let started = Instant::now();
    let facts = Facts {
        id: ids.call,
        chain: ids.chain,
        app: call.app,
        tenant: call.tenant,
        kind: call.kind,
        direction,
        to: call.to.clone(),
        placed_at: clock::now(),
        region: call.region,
        document,
        operations: call.operations.clone().unwrap_or_else(|| context.operations.clone()),
    };
    let record = Arc::new(CallRecord::new(facts, context.history.changes().clone(), kept));
    let (recorder, timeline) = Recorder::new(Arc::clone(&record));
    let inputs = context.calls.insert(started, recorder.sender()).ok_or(PlaceError::TooMany)?;
    if kept {
        context.history.keep(&record);
    }
    recorder.record(CallEvent::Call(PlacedCall {
        call: ids.call,
        chain: ids.chain,
        tenant: call.tenant,
        kind: call.kind.label().to_owned(),
    }));
    Ok(PlacedTask { started, recorder, timeline, inputs })
}
