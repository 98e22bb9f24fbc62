//! The caller: places a call, and plays it as the calling platform does.

mod admission;
mod callbacks;
mod conclusion;
mod established;
mod incoming;
mod message;
mod operations;
mod participants;
mod posting;

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use self::posting::Player;
use crate::{
    call::{CallRequest, PlaceError},
    call_record::{CallRecord, Direction, Facts},
    clock,
    context::Context,
    notification::CallIds,
    recorder::Recorder,
    timeline::{CallEvent, PlacedCall, Timeline},
};

/// Places a call and plays it to its end in a task, even if its timeline is not read.
pub(crate) fn place(context: &Arc<Context>, call: CallRequest) -> Result<Timeline, PlaceError> {
    place_in_chain(context, call, None, true)
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
    let started = Instant::now();
    let facts = Facts {
        id: ids.call,
        chain: ids.chain,
        app: call.app,
        tenant: call.tenant,
        kind: call.kind,
        direction: Direction::Incoming,
        to: call.to.clone(),
        placed_at: clock::now(),
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
    let held = Arc::clone(context);
    context.spawn(async move {
        let invite = |call| place_in_chain(&held, call, Some(ids.chain), kept);
        let player = Player::new(&held, &call, &ids, started, &recorder, &invite);
        let conclusion = Box::pin(incoming::play(&player, inputs)).await;
        drop(player);
        recorder.end(conclusion.into_end(call.expect, started));
        held.calls.remove(ids.call);
    });
    Ok(timeline)
}
