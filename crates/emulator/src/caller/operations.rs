//! The operations of an answered call, from their acceptance to the notification of their end.

use std::{collections::VecDeque, future::pending, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{callbacks::Callbacks, conclusion::Conclusion, media::Media, message::Stage};
use crate::{
    call_record::CallRecord,
    client::Client,
    graph::{CallInput, Decision, OperationEffect, StartedOperation},
    notification,
    operation::{Operation, OperationEnd, OperationResult},
    script::Tone,
};

/// The operations that go on.
#[derive(Debug)]
pub(super) struct Operations {
    client: Client,
    /// The first one is played. The others wait for it.
    media: VecDeque<Media>,
    /// The operations that take a known time.
    timed: Vec<(Instant, Uuid)>,
    /// The time for which the person speaks in the next recording, if a script says it.
    speech: Option<Duration>,
}

/// An operation whose end is due.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: Uuid,
    pub(super) end: OperationEnd,
}

impl Operations {
    pub(super) fn new(client: Client) -> Self {
        Self { client, media: VecDeque::new(), timed: Vec::new(), speech: None }
    }

    /// Starts an operation that Graph accepted, and returns the operations that end by it.
    pub(super) fn start(&mut self, started: StartedOperation) -> Vec<Ended> {
        let StartedOperation { id, effect } = started;
        match effect {
            OperationEffect::None | OperationEffect::MuteBot(_) => vec![succeeded(id)],
            OperationEffect::CancelMedia => {
                let mut ended = self.cancel_media();
                ended.push(succeeded(id));
                ended
            }
            OperationEffect::Media(request) => {
                let barges_in = request.record.as_ref().is_some_and(|record| record.barge_in);
                let ended = if barges_in { self.cancel_media() } else { Vec::new() };
                self.media.push_back(Media::new(id, *request));
                ended
            }
            OperationEffect::Timed(duration) => {
                self.timed.push((Instant::now() + duration, id));
                Vec::new()
            }
        }
    }

    /// Waits for the end of the next operation. When the future is dropped, the next one goes on from there.
    pub(super) async fn next(&mut self) -> Ended {
        let timed = self.timed.iter().min().copied();
        let Self { client, media, speech, .. } = self;
        let played = async {
            match media.front_mut() {
                Some(first) => Ended { id: first.id, end: first.play(client, speech).await },
                None => pending().await,
            }
        };
        let due = async {
            match timed {
                Some((at, id)) => {
                    sleep_until(at).await;
                    succeeded(id)
                }
                None => pending().await,
            }
        };
        let ended = tokio::select! {
            ended = played => ended,
            ended = due => ended,
        };
        self.forget(ended.id);
        ended
    }

    /// A person presses a key. Returns the recording that it ends.
    pub(super) fn tone(&mut self, tone: Tone) -> Option<Ended> {
        let Self { media, speech, .. } = self;
        let first = media.front_mut()?;
        let end = first.tone(tone, speech)?;
        let ended = Ended { id: first.id, end };
        self.forget(ended.id);
        Some(ended)
    }

    /// A person speaks now, or in the next recording if none goes on.
    pub(super) fn speak(&mut self, lasting: Duration) {
        let Self { media, speech, .. } = self;
        if !media.front_mut().is_some_and(|first| first.speak(lasting, speech)) {
            *speech = Some(lasting);
        }
    }

    /// Ends all operations, also those in the queue of inputs.
    pub(super) fn end_all(&mut self, inputs: &mut mpsc::Receiver<CallInput>) -> Vec<Ended> {
        let mut ended = self.cancel_media();
        ended.extend(self.timed.drain(..).map(|(_, id)| cancelled(id)));
        while let Ok(input) = inputs.try_recv() {
            if let CallInput::Decision(Decision::Operation(started)) = input {
                ended.push(cancelled(started.id));
            }
        }
        ended
    }

    fn cancel_media(&mut self) -> Vec<Ended> {
        self.media.drain(..).map(|media| cancelled(media.id)).collect()
    }

    fn forget(&mut self, id: Uuid) {
        self.media.retain(|media| media.id != id);
        self.timed.retain(|(_, timed)| *timed != id);
    }
}

fn succeeded(id: Uuid) -> Ended {
    Ended { id, end: OperationResult::success().into() }
}

fn cancelled(id: Uuid) -> Ended {
    Ended { id, end: OperationResult::cancelled().into() }
}

/// Reports the ends of operations. Each is reported once.
pub(super) async fn report(
    callbacks: &Callbacks<'_, '_>,
    ended: impl IntoIterator<Item = Ended>,
) -> Result<(), Conclusion> {
    let mut first_refusal = Ok(());
    for operation in close(callbacks.player.record(), ended) {
        if let Some(failure) = operation.failure() {
            callbacks.say(operation.kind.step_label(), failure);
        }
        let body = notification::operation(callbacks.player.ids, &operation);
        let reported = callbacks.notify("operation", &body).await;
        first_refusal = first_refusal.and(reported);
    }
    first_refusal
}

/// Reports the ends of operations to a bot that refused a notification, as far as it responds.
pub(super) async fn report_to_lost_bot(callbacks: &Callbacks<'_, '_>, ended: Vec<Ended>) {
    for operation in close(callbacks.player.record(), ended) {
        let body = notification::operation(callbacks.player.ids, &operation);
        if callbacks.player.deliver("operation", callbacks.to, &body, Stage::Later).await.is_err() {
            return;
        }
    }
}

/// Ends operations in the record of the call, and returns the ones that went on until now.
pub(super) fn close(record: &CallRecord, ended: impl IntoIterator<Item = Ended>) -> Vec<Operation> {
    ended.into_iter().filter_map(|Ended { id, end }| record.end_operation(id, end)).collect()
}
