//! The media operations of a call: prompts that are played and answers that are recorded, one after another.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::prompts::{self, PromptError};
use crate::{
    client::Client,
    graph::{MediaRequest, RecordRequest},
    operation::{OperationEnd, OperationResult, Recording},
    script::Tone,
};

/// A media operation and its progress.
#[derive(Debug)]
pub(super) struct Media {
    pub(super) id: Uuid,
    request: MediaRequest,
    stage: MediaStage,
}

enum MediaStage {
    /// Earlier media operations go on.
    Waiting,
    Fetching(Pin<Box<dyn Future<Output = Result<Duration, PromptError>> + Send>>),
    Playing {
        until: Instant,
    },
    Recording(Listening),
}

impl fmt::Debug for MediaStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "Waiting",
            Self::Fetching(_) => "Fetching",
            Self::Playing { .. } => "Playing",
            Self::Recording(_) => "Recording",
        })
    }
}

/// A recording that goes on.
#[derive(Clone, Copy, Debug)]
struct Listening {
    started: Instant,
    /// The end of the person's speech; the start if the person is silent.
    speech_until: Instant,
}

impl Media {
    pub(super) fn new(id: Uuid, request: MediaRequest) -> Self {
        Self { id, request, stage: MediaStage::Waiting }
    }

    /// Plays the operation to its end. When the future is dropped, the next one goes on from there. `speech`
    /// is the time for which the person speaks in the next recording.
    pub(super) async fn play(&mut self, client: &Client, speech: &mut Option<Duration>) -> OperationEnd {
        loop {
            match &mut self.stage {
                MediaStage::Waiting => {
                    let fetch = prompts::fetch(client.clone(), self.request.prompts.clone());
                    self.stage = MediaStage::Fetching(Box::pin(fetch));
                }
                MediaStage::Fetching(fetch) => match fetch.await {
                    Ok(length) => {
                        let beep = self.request.record.as_ref().is_some_and(|record| record.beep);
                        let length = length + if beep { BEEP } else { Duration::ZERO };
                        self.stage = MediaStage::Playing { until: Instant::now() + length };
                    }
                    Err(error) => return error.result().into(),
                },
                MediaStage::Playing { until } => {
                    sleep_until(*until).await;
                    if self.request.record.is_none() {
                        return OperationResult::success().into();
                    }
                    self.listen(speech);
                }
                MediaStage::Recording(listening) => {
                    let Some(record) = &self.request.record else { return OperationResult::success().into() };
                    let (at, result) = listening.end(record);
                    sleep_until(at).await;
                    return listening.finish(record, at, result);
                }
            }
        }
    }

    /// A person presses a key. Returns the end of the operation if the key ends it.
    pub(super) fn tone(&mut self, tone: Tone, speech: &mut Option<Duration>) -> Option<OperationEnd> {
        let record = self.request.record.as_ref()?;
        if let MediaStage::Recording(listening) = &self.stage {
            if record.stop_tones.contains(&tone) {
                let result = OperationResult::new(200, 8_514, "Action completed, stop tone detected.");
                let result = OperationResult { reason: Some("stopToneDetected"), ..result };
                return Some(listening.finish(record, Instant::now(), result));
            }
        } else if record.barge_in {
            self.listen(speech);
        }
        None
    }

    /// A person speaks. Returns false if no recording goes on.
    pub(super) fn speak(&mut self, lasting: Duration, speech: &mut Option<Duration>) -> bool {
        let Some(record) = &self.request.record else { return false };
        if let MediaStage::Recording(listening) = &mut self.stage {
            listening.speech_until = listening.speech_until.max(Instant::now() + lasting);
            return true;
        }
        if record.barge_in {
            *speech = Some(lasting);
            self.listen(speech);
            return true;
        }
        false
    }

    fn listen(&mut self, speech: &mut Option<Duration>) {
        let started = Instant::now();
        let speech_until = started + speech.take().unwrap_or(USUAL_SPEECH);
        self.stage = MediaStage::Recording(Listening { started, speech_until });
    }
}

impl Listening {
    /// Returns the time and the reason of the end if nothing more happens.
    fn end(&self, record: &RecordRequest) -> (Instant, OperationResult) {
        let longest = self.started + record.max_length;
        let silent = self.speech_until <= self.started;
        let (silence, result) = if silent {
            let result = OperationResult::new(400, 8_510, "Action failed, initial silence timeout reached.");
            let result = OperationResult { reason: Some("initialSilenceTimeout"), ..result };
            (self.started + record.initial_silence, result)
        } else {
            // The subcode of this end is not documented.
            let result = OperationResult::new(200, 0, "Action completed, max silence timeout reached.");
            let result = OperationResult { reason: Some("maxSilenceTimeout"), ..result };
            (self.speech_until + record.max_silence, result)
        };
        if silence <= longest {
            return (silence, result);
        }
        let result = OperationResult::new(200, 8_515, "Action completed, max record duration reached.");
        (longest, OperationResult { reason: Some("maxRecordDurationReached"), ..result })
    }

    fn finish(&self, record: &RecordRequest, at: Instant, result: OperationResult) -> OperationEnd {
        let length = at.saturating_duration_since(self.started).min(record.max_length);
        let speech = self.speech_until.saturating_duration_since(self.started).min(length);
        let recording = (result.code < 300).then(|| Recording { speech, length, ..record.recording.clone() });
        OperationEnd { result, recording }
    }
}

const BEEP: Duration = Duration::from_millis(200);
/// The time for which a person speaks if no script says it.
const USUAL_SPEECH: Duration = Duration::from_secs(1);
