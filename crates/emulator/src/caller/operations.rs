//! The operations of an answered call, from their acceptance to the notification of their end.

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{callbacks::Callbacks, conclusion::Conclusion, message::Stage};
use crate::{
    call_record::CallRecord,
    graph::{CallInput, Decision, OperationEffect, StartedOperation},
    notification,
    operation::{Operation, OperationEnd, OperationResult},
};

/// The operations that go on.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pending: Vec<StartedOperation>,
}

/// An operation whose end is due.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: Uuid,
    pub(super) end: OperationEnd,
}

impl Operations {
    /// Starts an operation that Graph accepted, and returns the operations that end by it.
    pub(super) fn start(&mut self, started: StartedOperation) -> Vec<Ended> {
        let StartedOperation { id, effect } = started;
        match effect {
            // The participants of the call apply it, and report its end.
            OperationEffect::Participants(_) => Vec::new(),
            OperationEffect::None => vec![Ended { id, end: OperationResult::success().into() }],
        }
    }

    /// Ends all operations, also the ones in the queue of inputs.
    pub(super) fn end_all(&mut self, inputs: &mut mpsc::Receiver<CallInput>) -> Vec<Ended> {
        while let Ok(input) = inputs.try_recv() {
            if let CallInput::Decision(Decision::Operation(started)) = input {
                self.pending.push(started);
            }
        }
        let cancelled =
            |started: StartedOperation| Ended { id: started.id, end: OperationResult::cancelled().into() };
        self.pending.drain(..).map(cancelled).collect()
    }
}

/// Reports the ends of operations. Each is reported once.
pub(super) async fn report(callbacks: &Callbacks<'_, '_>, ended: Vec<Ended>) -> Result<(), Conclusion> {
    let mut first_refusal = Ok(());
    for operation in close(callbacks.player.record(), ended) {
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

/// Ends operations in the record of the call, and returns the ones that had not ended before.
pub(super) fn close(record: &CallRecord, ended: Vec<Ended>) -> Vec<Operation> {
    ended.into_iter().filter_map(|Ended { id, end }| record.end_operation(id, end)).collect()
}
