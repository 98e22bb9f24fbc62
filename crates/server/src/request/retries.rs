//! A retry of the platform shares the answer of the first request, and is not delivered again.
//!
//! "Callbacks" in docs/protocol.md: on a 5xx or a timeout the platform posts again, with the same message id. A retry
//! is what has the app, tenant, target, message id and body of another request, all of them.
//!
//! `table` decides, as a pure function of events and time; this file has the locks, the waiting and the answers' bytes.

mod table;
#[cfg(test)]
mod tests;

use std::{
    fmt, iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use openssl::sha::Sha256;
use switchboard_routing::Name;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use self::table::{Begin, End, Limits, Table};
use crate::request::outcome::Outcome;

/// The messages that are under way and the answers that are remembered, for all workers.
pub(crate) struct Retries {
    /// By the first byte of the key: workers rarely meet.
    shards: [Mutex<Table>; SHARDS],
}

/// What makes two requests the same message: a hash that nobody can steer, cut to 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 16]);

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It is the first: deliver it. The answer goes to the lead.
    First(Lead),
    /// The first one was under way; this is its answer.
    Shared(Arc<Kept>),
    /// The first one was answered not long ago.
    Repeated(Arc<Kept>),
    /// The first one is under way for longer than this one may wait.
    Late,
}

impl Retries {
    pub(crate) fn new() -> Self {
        let limits = Limits { answers: ANSWERS_MAX / SHARDS, bytes: KEPT_BYTES_MAX / SHARDS, age: AGE_MAX };
        Self::of(limits)
    }

    fn of(limits: Limits) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Table::new(limits))) }
    }

    /// Whether this is the first request of a message. A retry waits here, until `until` at most.
    ///
    /// The first one may vanish with its client: then one of those who wait is the first.
    pub(crate) async fn turn(self: &Arc<Self>, key: Key, until: Instant) -> Turn {
        loop {
            let begin = self.shard(key).begin(key, Instant::now());
            let mut end = match begin {
                Begin::Lead => return Turn::First(Lead { retries: Arc::clone(self), key, ended: false }),
                Begin::Repeat(kept) => return Turn::Repeated(kept),
                Begin::Wait(end) => end,
            };
            match timeout_at(until, end.wait_for(|end| !matches!(end, End::NotYet))).await {
                Ok(Ok(end)) => match &*end {
                    End::Answered(kept) => return Turn::Shared(Arc::clone(kept)),
                    End::Abandoned | End::NotYet => {}
                },
                // Its signal is gone without a word, which `Lead` rules out.
                Ok(Err(_)) => {}
                Err(_) => return Turn::Late,
            }
        }
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Table> {
        let [first, ..] = key.0;
        let shard = self.shards.get(usize::from(first) % SHARDS).expect("less than their number");
        // A panic while it was held leaves a message too many at worst.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retries")
    }
}

impl Key {
    /// `forwarded`: another region has proxied the request to us. Were it one with the request that it was proxied for, a
    /// gateway that is named as its own peer would wait for itself.
    pub(crate) fn of(
        app: Uuid,
        tenant: Uuid,
        target: &str,
        forwarded: bool,
        message_id: &HeaderValue,
        body: &[u8],
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(app.as_bytes());
        hash.update(tenant.as_bytes());
        hash.update(&[u8::from(forwarded)]);
        // With their lengths, so that what ends one cannot begin the next.
        for part in [target.as_bytes(), message_id.as_bytes(), body] {
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        }
        let whole = hash.finish();
        let (half, _) = whole.split_first_chunk().expect("32 bytes have a half");
        Self(*half)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The first request of a message. Dropped without an answer (its client went away, say), it lets one of those who wait
/// take over. What acts on a call takes it along, since that goes on without the client.
#[derive(Debug)]
pub(crate) struct Lead {
    retries: Arc<Retries>,
    key: Key,
    ended: bool,
}

impl Lead {
    /// Hands the answer to those who wait, and remembers it if it is one to be remembered.
    pub(crate) fn answered(mut self, kept: impl Into<Arc<Kept>>) {
        self.ended = true;
        let kept = kept.into();
        let waiting = self.retries.shard(self.key).answered(self.key, &kept, Instant::now());
        if let Some(signal) = waiting {
            signal.send_replace(End::Answered(kept));
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.ended
            && let Some(signal) = self.retries.shard(self.key).abandoned(self.key)
        {
            signal.send_replace(End::Abandoned);
        }
    }
}

/// An answer, as it is given again. It shares no memory with the connection that it came by: a name of ten bytes would
/// hold on to a buffer of sixteen thousand.
#[derive(Debug)]
pub(crate) struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// How the first request ended.
    pub(crate) outcome: Outcome,
    /// Why it was refused.
    pub(crate) reason: Option<&'static str>,
    /// Who answered it.
    pub(crate) instance: Option<Name>,
    /// What Graph was asked for, and what came of it.
    pub(crate) action: Option<ActionResult>,
}

/// An action by name, and `ok` or the label of what went wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActionResult {
    pub(crate) action: &'static str,
    pub(crate) result: &'static str,
}

impl Kept {
    /// An answer without its body.
    pub(crate) fn new<B>(
        response: &Response<B>,
        outcome: Outcome,
        reason: Option<&'static str>,
        instance: Option<Name>,
    ) -> Self {
        let copied = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
        let headers = response.headers().iter();
        Self {
            status: response.status(),
            headers: headers.filter_map(|(name, value)| Some((name.clone(), copied(value)?))).collect(),
            body: Bytes::new(),
            outcome,
            reason,
            instance,
            action: None,
        }
    }

    pub(crate) fn with_action(self, action: ActionResult) -> Self {
        Self { action: Some(action), ..self }
    }

    pub(crate) fn with_body(mut self, body: &[u8]) -> Self {
        self.body = Bytes::copy_from_slice(body);
        self
    }

    /// The answer, once more.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }

    /// Whether its sender was told that all is well.
    pub(crate) fn is_accepted(&self) -> bool {
        self.status.is_success()
    }

    /// Whether it is given again after the first request has ended: an instance, or Graph, has acted, and said so.
    fn is_remembered(&self) -> bool {
        self.is_accepted() && self.outcome.is_done()
    }

    /// What it weighs: the bytes that its sender chose.
    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        iter::once(self.body.len()).chain(headers).sum()
    }
}

/// Copies the body of an answer on its way to the first client.
#[derive(Debug)]
pub(crate) struct Copying {
    lead: Lead,
    kept: Kept,
    body: BytesMut,
}

impl Copying {
    pub(crate) fn new(lead: Lead, kept: Kept) -> Self {
        Self { lead, kept, body: BytesMut::new() }
    }

    /// More of it. `None` if it is too large to be kept: then whoever waits takes over.
    pub(crate) fn push(mut self: Box<Self>, data: &[u8]) -> Option<Box<Self>> {
        if self.body.len() + data.len() > ANSWER_BYTES_MAX {
            return None;
        }
        self.body.extend_from_slice(data);
        Some(self)
    }

    /// It is complete.
    pub(crate) fn complete(self) {
        self.lead.answered(self.kept.with_body(&self.body));
    }
}

const SHARDS: usize = 16;
/// Whatever is kept of one answer: bots answer with some hundred bytes (`participantJoiningNotification`), most with none.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Answers that are remembered: three minutes of 180 messages a second, in some 12 MiB. Beyond it they are forgotten sooner.
const ANSWERS_MAX: usize = 32 * 1024;
/// The bytes of all remembered answers, besides what each takes by itself.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The platform hangs up a call whose notifications fail; its retries come within seconds, as far as anybody has seen.
const AGE_MAX: Duration = Duration::from_secs(180);
