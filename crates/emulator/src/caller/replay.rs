//! A recorded call: the notifications that follow the bot's answer, as they were recorded.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use url::Url;
use uuid::Uuid;

use super::{
    callbacks::Callbacks,
    conclusion::Conclusion,
    message::Stage,
    operations::{self, Ended},
    posting::Player,
};
use crate::{
    call::{CallOutcome, Replay},
    call_record::CallStage,
    graph::{CallInput, Decision},
    notification::{self, NamedIds, ResultInfo},
    operation::{Operation, OperationResult},
};

/// Plays a call whose recording has no first notification. It is answered, and the webhook gets all.
pub(super) async fn play_answered(
    player: &Player<'_>,
    recorded: &Replay,
    mut inputs: mpsc::Receiver<CallInput>,
) -> Conclusion {
    player.record().enter(CallStage::Establishing);
    let to = player.call.to.clone();
    let conclusion = match play(player, &to, recorded, &mut inputs).await {
        Ok(reason) => Conclusion::new(CallOutcome::Completed, reason),
        Err(conclusion) => conclusion,
    };
    Conclusion { callback: Some(to), ..conclusion }
}

/// Posts the recorded notifications that follow the answer. Ends with the last one, or when the bot hangs up.
pub(super) async fn play(
    player: &Player<'_>,
    callback: &Url,
    recorded: &Replay,
    inputs: &mut mpsc::Receiver<CallInput>,
) -> Result<String, Conclusion> {
    let callbacks = Callbacks { player, to: callback };
    let mut call = RecordedCall { callbacks, notifications: read(player, recorded), requested: Vec::new() };
    let played = call.play(inputs).await;
    player.context.calls.remove(player.ids.call);
    let pending = call.end_requested(inputs);
    let reported = operations::report(&call.callbacks, pending).await;
    match reported.and(played) {
        Ok(End::Recorded(body)) => {
            call.callbacks.notify("terminated", &body).await?;
            Ok("answered, replayed and terminated".to_owned())
        }
        Ok(End::ByBot) => {
            let body = call
                .recorded_end()
                .unwrap_or_else(|| notification::terminated(player.ids, &ResultInfo::EndedByBot));
            call.callbacks.notify("terminated", &body).await?;
            Ok("answered, replayed and ended by the bot".to_owned())
        }
        Ok(End::Unrecorded) => Ok("answered and replayed; the recording has no end of this call".to_owned()),
        Err(conclusion) => {
            // The platform hangs up after a notification that was not acknowledged, as in other calls.
            let body = notification::terminated(player.ids, &ResultInfo::OtherSideEnded);
            let _ = player.deliver("terminated", callback, &body, Stage::Later).await;
            Err(conclusion)
        }
    }
}

struct RecordedCall<'a, 'b> {
    callbacks: Callbacks<'a, 'b>,
    notifications: VecDeque<Recorded>,
    /// The operations that the bot requested, and whose notifications were not posted yet.
    requested: Vec<Operation>,
}

/// A recorded notification with the ids of the placed call.
struct Recorded {
    after: Duration,
    what: String,
    kind: Kind,
    body: Value,
}

enum Kind {
    /// An operation of this `@odata.type`.
    Operation(String),
    /// The end of the call.
    End,
    Other,
}

enum End {
    /// The recorded last notification is due.
    Recorded(Value),
    /// The bot hung up.
    ByBot,
    /// The recording stops before the call ends.
    Unrecorded,
}

impl RecordedCall<'_, '_> {
    async fn play(&mut self, inputs: &mut mpsc::Receiver<CallInput>) -> Result<End, Conclusion> {
        let mut due = Instant::now();
        while let Some(mut next) = self.notifications.pop_front() {
            due += next.after;
            if self.wait(due, None, inputs).await?.is_some() {
                self.notifications.push_front(next);
                return Ok(End::ByBot);
            }
            match &next.kind {
                Kind::End => return Ok(End::Recorded(next.body)),
                Kind::Operation(odata_type) => {
                    let until = Instant::now() + OPERATION_PATIENCE;
                    let odata_type = odata_type.clone();
                    if self.wait(until, Some(&odata_type), inputs).await?.is_some() {
                        return Ok(End::ByBot);
                    }
                    self.adopt_operation(&odata_type, &mut next.body);
                }
                Kind::Other => {}
            }
            self.callbacks.notify(&next.what, &next.body).await?;
        }
        Ok(End::Unrecorded)
    }

    /// Waits until a time, or until an operation of a type was requested, and handles the requests of the bot
    /// meanwhile. Returns `Some` if the bot hangs up.
    async fn wait(
        &mut self,
        until: Instant,
        operation: Option<&str>,
        inputs: &mut mpsc::Receiver<CallInput>,
    ) -> Result<Option<()>, Conclusion> {
        loop {
            if operation
                .is_some_and(|wanted| self.requested.iter().any(|one| one.kind.odata_type() == wanted))
            {
                return Ok(None);
            }
            let input = tokio::select! {
                biased;
                input = inputs.recv() => input,
                () = sleep_until(until) => return Ok(None),
            };
            match input {
                Some(CallInput::Decision(Decision::HangUp) | CallInput::End) => return Ok(Some(())),
                Some(CallInput::Decision(Decision::Operation(started))) => {
                    let requested =
                        self.callbacks.player.record().state().operations.find(started.id).cloned();
                    if let Some(requested) = requested {
                        self.request(requested, operation).await?;
                    }
                }
                // Of the steps, a recording takes the end only.
                Some(CallInput::Step(step)) if step.action.ends_the_call() => return Ok(Some(())),
                // Graph accepts no second decision.
                Some(CallInput::Step(_) | CallInput::Decision(_)) => {}
                None => {
                    sleep_until(until).await;
                    return Ok(None);
                }
            }
        }
    }

    /// Keeps an operation for its recorded notification. One that the recording lacks completes at once: a
    /// bot may wait for it.
    async fn request(&mut self, requested: Operation, awaited: Option<&str>) -> Result<(), Conclusion> {
        let requested_type = requested.kind.odata_type();
        let of_type =
            |kind: &Kind| matches!(kind, Kind::Operation(odata_type) if *odata_type == requested_type);
        let left = self.notifications.iter().filter(|next| of_type(&next.kind)).count()
            + usize::from(awaited == Some(requested_type.as_str()));
        let kept = self.requested.iter().filter(|one| one.kind == requested.kind).count();
        if kept < left {
            self.requested.push(requested);
            return Ok(());
        }
        let ended = Ended { id: requested.id, end: OperationResult::success().into() };
        operations::report(&self.callbacks, vec![ended]).await
    }

    /// Ends the operations whose notifications the recording does not reach.
    fn end_requested(&mut self, inputs: &mut mpsc::Receiver<CallInput>) -> Vec<Ended> {
        let mut ids: Vec<Uuid> = self.requested.drain(..).map(|operation| operation.id).collect();
        while let Ok(input) = inputs.try_recv() {
            if let CallInput::Decision(Decision::Operation(started)) = input {
                ids.push(started.id);
            }
        }
        ids.into_iter().map(|id| Ended { id, end: OperationResult::cancelled().into() }).collect()
    }

    /// Gives a recorded notification the ids of the operation that the bot requested now.
    fn adopt_operation(&mut self, odata_type: &str, body: &mut Value) {
        let Some(place) = self.requested.iter().position(|one| one.kind.odata_type() == odata_type) else {
            let seconds = OPERATION_PATIENCE.as_secs();
            let note = format!("the bot requested no such operation within {seconds} s; posted as recorded");
            self.callbacks.say("operation", &note);
            return;
        };
        let Some(item) = body.pointer_mut("/value/0") else { return };
        let ends = item
            .get("changeType")
            .and_then(Value::as_str)
            .is_some_and(|change| change.eq_ignore_ascii_case("deleted"));
        let operation = if ends { self.requested.remove(place) } else { self.requested.swap_remove(place) };
        let below = format!("/operations/{}", operation.id);
        for name in ["resource", "resourceUrl"] {
            if let Some(Value::String(path)) = item.get_mut(name)
                && let Some(place) = path.to_ascii_lowercase().find("/operations/")
            {
                path.truncate(place);
                path.push_str(&below);
            }
        }
        if let Some(data) = item.get_mut("resourceData").and_then(Value::as_object_mut) {
            data.insert("id".to_owned(), json!(operation.id.to_string()));
            data.insert("clientContext".to_owned(), json!(operation.client_context));
            data.remove("@odata.id");
        }
        if ends {
            // The recorded notification reports the end.
            let ended = Ended { id: operation.id, end: OperationResult::success().into() };
            operations::close(self.callbacks.player.record(), vec![ended]);
        } else {
            self.requested.insert(0, operation);
        }
    }

    /// Returns the recorded last notification of the call, if there is one.
    fn recorded_end(&mut self) -> Option<Value> {
        let place = self.notifications.iter().position(|next| matches!(next.kind, Kind::End))?;
        self.notifications.remove(place).map(|next| next.body)
    }
}

/// Returns the recorded notifications with the ids of the placed call.
fn read(player: &Player<'_>, recorded: &Replay) -> VecDeque<Recorded> {
    let first = player.call.body.as_ref().map(NamedIds::read).unwrap_or_default();
    let known = recorded.notifications.iter().fold(first, |ids, next| ids.or(NamedIds::read(&next.body)));
    let with_ids = |body: &Value| {
        let mut body = body.clone();
        known.replace(&mut body, player.ids, player.call.app, player.call.tenant);
        body
    };
    let notifications = recorded.notifications.iter();
    notifications
        .map(|next| {
            let body = with_ids(&next.body);
            let (what, kind) = describe(&body);
            Recorded { after: next.after, what, kind, body }
        })
        .collect()
}

/// Names a notification for the timeline, and says how it is played.
fn describe(body: &Value) -> (String, Kind) {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let odata_type = text("/value/0/resourceData/@odata.type");
    if odata_type.ends_with("Operation") {
        return ("operation".to_owned(), Kind::Operation(odata_type.to_owned()));
    }
    let path = text("/value/0/resourceUrl");
    let below: Vec<&str> = path.trim_matches('/').split('/').skip(3).collect();
    let state = text("/value/0/resourceData/state").to_ascii_lowercase();
    let tone = body.pointer("/value/0/resourceData/toneInfo").is_some();
    let deleted = text("/value/0/changeType").eq_ignore_ascii_case("deleted");
    // A notification about one person is `deleted` on the call's path, too, in older recordings.
    let of_a_person = odata_type.contains("participant");
    match (below.first(), state.as_str()) {
        (None, _) if deleted && !of_a_person => ("terminated".to_owned(), Kind::End),
        (None, _) if tone => ("tone".to_owned(), Kind::Other),
        (None, "") => ("notification".to_owned(), Kind::Other),
        (None, state) => (state.to_owned(), Kind::Other),
        (Some(&"participants"), _) => ("roster".to_owned(), Kind::Other),
        (Some(other), _) => ((*other).to_owned(), Kind::Other),
    }
}

/// The time that a bot has to request an operation whose notification is due.
const OPERATION_PATIENCE: Duration = Duration::from_secs(5);
