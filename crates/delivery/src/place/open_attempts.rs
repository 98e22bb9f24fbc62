//! The attempts of one new call that are open at the same time.

use std::{future::poll_fn, pin::Pin, task::Poll};

use http::Response;
use tokio::time::Instant;

use super::attempt::Attempt;
use crate::{connections::ResponseBody, upstream::AttemptError};

/// The attempts that are open, in the order of their start. There are at most as many as the call may have
/// with an unknown outcome.
#[derive(Default)]
pub(super) struct OpenAttempts<'o, 'a>(Vec<OpenAttempt<'o, 'a>>);

/// The head of the response of an instance.
pub(super) type Sent = Result<Response<ResponseBody>, AttemptError>;

/// An attempt, and the future that sends its request. Dropping the future closes the connection, which tells
/// the instance that the gateway stopped waiting.
struct OpenAttempt<'o, 'a> {
    attempt: Attempt<'a>,
    sending: Pin<Box<dyn Future<Output = Sent> + Send + 'o>>,
}

impl<'o, 'a> OpenAttempts<'o, 'a> {
    pub(super) fn add(&mut self, attempt: Attempt<'a>, sending: impl Future<Output = Sent> + Send + 'o) {
        self.0.push(OpenAttempt { attempt, sending: Box::pin(sending) });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time at which the last of them has used its share.
    pub(super) fn share_end(&self) -> Option<Instant> {
        self.0.iter().map(|one| one.attempt.share_end).max()
    }

    /// The time at which the first of them has used its share without a connection, or has been open for as
    /// long as an attempt may take.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.0.iter().filter_map(|OpenAttempt { attempt, .. }| match attempt.is_written() {
            true => (!attempt.timed_out).then_some(attempt.timeout_at),
            false => Some(attempt.share_end),
        });
        due.min()
    }

    /// Removes the attempts that have used their share without a connection.
    pub(super) fn remove_unconnected(&mut self, now: Instant) -> impl Iterator<Item = Attempt<'a>> {
        let is_over =
            move |one: &mut OpenAttempt<'o, 'a>| !one.attempt.is_written() && one.attempt.share_end <= now;
        self.0.extract_if(.., is_over).map(|one| one.attempt)
    }

    pub(super) fn remove_all(&mut self) -> impl Iterator<Item = Attempt<'a>> {
        self.0.drain(..).map(|one| one.attempt)
    }

    /// Notes the attempts that have been open for as long as an attempt may take. They stay open.
    pub(super) fn time_out(&mut self, now: Instant) {
        for OpenAttempt { attempt, .. } in &mut self.0 {
            if !attempt.timed_out && attempt.timeout_at <= now {
                attempt.time_out(now);
            }
        }
    }

    /// Waits until one of them has ended, and removes it. If several have, it is the one that started first.
    pub(super) async fn ended(&mut self) -> (Attempt<'a>, Sent) {
        poll_fn(|context| {
            let mut attempts = self.0.iter_mut().enumerate();
            let ended = attempts.find_map(|(at, one)| match one.sending.as_mut().poll(context) {
                Poll::Ready(sent) => Some((at, sent)),
                Poll::Pending => None,
            });
            match ended {
                Some((at, sent)) => Poll::Ready((self.0.remove(at).attempt, sent)),
                None => Poll::Pending,
            }
        })
        .await
    }
}
