//! The caller: places a call, and plays it as the calling platform does.

mod admission;
mod callbacks;
mod conclusion;
mod established;
mod incoming;
mod message;
mod participants;
mod posting;
mod replay;

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use self::posting::Player;
use crate::{
    call::{CallRequest, PlaceError},
    context::Context,
    graph::Facts,
    notification::{CallIds, Opening},
    timeline::{CallEvent, PlacedCall, Recorder, Timeline},
};

/// Places a call and plays it to its end in a task, even if its timeline is not read.
pub(crate) fn place(context: &Arc<Context>, call: CallRequest) -> Result<Timeline, PlaceError> {
    let chain = call.replay.as_ref().and_then(|replay| replay.chain);
    place_in_chain(context, call, chain)
}

/// Places a call that belongs to the chain of another one.
fn place_in_chain(
    context: &Arc<Context>,
    call: CallRequest,
    chain: Option<Uuid>,
) -> Result<Timeline, PlaceError> {
    let ids = CallIds::new(chain)?;
    let opening = Opening::new(&call, &ids)?;
    let started = Instant::now();
    let (recorder, timeline) = Recorder::new();
    let facts = Facts { id: ids.call, app: call.app, tenant: call.tenant, kind: call.kind };
    let decisions = context.calls.insert(facts, started, recorder.sender()).ok_or(PlaceError::TooMany)?;
    recorder.record(CallEvent::Call(PlacedCall {
        call: ids.call,
        chain: ids.chain,
        tenant: call.tenant,
        kind: call.kind.label().to_owned(),
    }));
    let held = Arc::clone(context);
    context.spawn(async move {
        let invite = |call| place_in_chain(&held, call, Some(ids.chain));
        let player = Player::new(&held, &call, &ids, started, &recorder, &invite);
        let conclusion = match &call.replay {
            Some(replay) if call.body.is_none() => {
                Box::pin(replay::play_answered(&player, replay, decisions)).await
            }
            _ => Box::pin(incoming::play(&player, &opening, decisions)).await,
        };
        drop(player);
        recorder.end(conclusion.into_end(call.expect, started));
        held.calls.remove(ids.call);
    });
    Ok(timeline)
}
