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
    operation::{Operation, OperationEnd, OperationResult, OperationStatus},
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
            // The participants of the call apply it, and report its end.
            OperationEffect::Participants(_) => Vec::new(),
            OperationEffect::None | OperationEffect::Bot(_) => vec![succeeded(id)],
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

    /// Ends all operations, also the ones in the queue of inputs.
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

/// Cancels the operations that go on, as the record of the call has them.
pub(super) fn cancel_all(record: &CallRecord) -> Vec<Ended> {
    let state = record.state();
    let running = state.operations.iter().filter(|one| one.status == OperationStatus::Running);
    running.map(|operation| cancelled(operation.id)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        graph::{MediaRequest, RecordRequest},
        operation::{OperationKind, OperationLog, Recording},
    };

    /// An event of a call.
    #[derive(Clone, Debug)]
    enum Event {
        Play,
        Record { barge_in: bool, seconds: u64 },
        Cancel,
        Other,
        Timed(u64),
        Tone,
        Speak(u64),
        Wait(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Play),
            (any::<bool>(), 1_u64..20).prop_map(|(barge_in, seconds)| Event::Record { barge_in, seconds }),
            Just(Event::Cancel),
            Just(Event::Other),
            (0_u64..5_000).prop_map(Event::Timed),
            Just(Event::Tone),
            (0_u64..3_000).prop_map(Event::Speak),
            (0_u64..5_000).prop_map(Event::Wait),
        ]
    }

    fn record(barge_in: bool, seconds: u64) -> OperationEffect {
        let second = Duration::from_secs(1);
        let recording = Recording {
            id: Uuid::nil(),
            location: String::new(),
            access_token: String::new(),
            speech: second,
            length: second,
        };
        let record = RecordRequest {
            barge_in,
            initial_silence: second,
            max_silence: second,
            max_length: Duration::from_secs(seconds),
            beep: barge_in,
            stop_tones: vec![Tone::Pound],
            recording,
        };
        OperationEffect::Media(Box::new(MediaRequest { prompts: Vec::new(), record: Some(record) }))
    }

    /// The operations of a call, and how often each was notified.
    struct Played {
        operations: Operations,
        log: OperationLog,
        notified: HashMap<Uuid, u32>,
        next_id: u128,
    }

    impl Played {
        fn accept(&mut self, effect: OperationEffect) -> Option<StartedOperation> {
            self.next_id += 1;
            let id = Uuid::from_u128(self.next_id);
            let operation = Operation::new(id, OperationKind::PlayPrompt, id.to_string());
            self.log.add(operation).then(|| {
                self.notified.insert(id, 0);
                StartedOperation { id, effect }
            })
        }

        fn start(&mut self, effect: OperationEffect) {
            if let Some(started) = self.accept(effect) {
                let ended = self.operations.start(started);
                self.close(ended);
            }
        }

        fn close(&mut self, ended: impl IntoIterator<Item = Ended>) {
            for Ended { id, end } in ended {
                if self.log.end(id, end).is_some() {
                    *self.notified.get_mut(&id).unwrap() += 1;
                }
            }
        }

        async fn apply(&mut self, event: Event) {
            match event {
                Event::Play => {
                    let request = MediaRequest { prompts: Vec::new(), record: None };
                    self.start(OperationEffect::Media(Box::new(request)));
                }
                Event::Record { barge_in, seconds } => self.start(record(barge_in, seconds)),
                Event::Cancel => self.start(OperationEffect::CancelMedia),
                Event::Other => self.start(OperationEffect::None),
                Event::Timed(ms) => self.start(OperationEffect::Timed(Duration::from_millis(ms))),
                Event::Tone => {
                    let ended = self.operations.tone(Tone::Pound);
                    self.close(ended);
                }
                Event::Speak(ms) => self.operations.speak(Duration::from_millis(ms)),
                Event::Wait(ms) => {
                    let until = Instant::now() + Duration::from_millis(ms);
                    while let Ok(ended) =
                        timeout(until.saturating_duration_since(Instant::now()), self.operations.next()).await
                    {
                        self.close([ended]);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_accepted_operation_is_notified_once_whatever_happens(
            events in prop::collection::vec(event(), 0..40),
            late in 0_usize..5,
        ) {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(async {
                let mut played = Played {
                    operations: Operations::new(Client::new(None).unwrap()),
                    log: OperationLog::default(),
                    notified: HashMap::new(),
                    next_id: 0,
                };
                for event in events {
                    played.apply(event).await;
                }
                // The call ends while some requests wait in its queue.
                let (sender, mut inputs) = mpsc::channel(32);
                for _ in 0..late {
                    if let Some(started) = played.accept(OperationEffect::None) {
                        sender.try_send(CallInput::Decision(Decision::Operation(started))).unwrap();
                    }
                }
                let ended = played.operations.end_all(&mut inputs);
                played.close(ended);
                assert!(played.notified.values().all(|count| *count == 1), "{:?}", played.notified);
            });
        }
    }
}
