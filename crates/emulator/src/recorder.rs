//! The writing side of a timeline: events go to the record of the call and to the reader of the timeline.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    call_record::CallRecord,
    timeline::{CallEnd, CallEvent, Timeline},
};

/// The writer of one call's timeline. It never waits for the reader: a slow reader misses events, except the
/// end.
#[derive(Debug)]
pub(crate) struct Recorder {
    record: Arc<CallRecord>,
    events: mpsc::Sender<CallEvent>,
    end: Option<mpsc::OwnedPermit<CallEvent>>,
}

impl Recorder {
    pub(crate) fn new(record: Arc<CallRecord>) -> (Self, Timeline) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let end = events.clone().try_reserve_owned().ok();
        (Self { record, events, end }, Timeline::new(receiver))
    }

    /// Returns a handle that records steps of the same call.
    pub(crate) fn sender(&self) -> EventSender {
        EventSender { record: Arc::clone(&self.record), events: self.events.downgrade() }
    }

    pub(crate) fn call(&self) -> &Arc<CallRecord> {
        &self.record
    }

    pub(crate) fn record(&self, event: CallEvent) {
        self.record.add(&event);
        let _ = self.events.try_send(event);
    }

    pub(crate) fn end(mut self, end: CallEnd) {
        let end = CallEvent::End(end);
        self.record.add(&end);
        if let Some(permit) = self.end.take() {
            permit.send(end);
        }
    }
}

/// A handle that records steps of a call. It does not keep the timeline open.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    record: Arc<CallRecord>,
    events: mpsc::WeakSender<CallEvent>,
}

impl EventSender {
    pub(crate) fn call(&self) -> &Arc<CallRecord> {
        &self.record
    }

    pub(crate) fn record(&self, event: CallEvent) {
        if let Some(events) = self.events.upgrade() {
            self.record.add(&event);
            let _ = events.try_send(event);
        }
    }
}

/// A whole call with every retry and redirect has fewer than 400. The timeline of a bot that floods
/// the platform loses rows, and takes no memory.
const EVENTS_MAX: usize = 1_024;
