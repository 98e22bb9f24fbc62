//! The attempts of one new call: one after another, or side by side once one has used its share of the time.

use std::{
    pin::{Pin, pin},
    ptr,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    asked::AskedInstances,
    attempt::{Attempt, Forbidden, Refusal},
    call::{Call, PlaceProgress},
    limits::{ATTEMPTS_MAX, share},
    open_attempts::{OpenAttempts, Sent},
};
use crate::{
    cause::Cause,
    fleet::{Candidates, Fleet},
    headers::UpstreamRequest,
    response::UpstreamResponse,
    upstream::Upstream,
};

/// The candidates of one snapshot of the fleet, each asked at most once.
pub(super) struct Race<'a> {
    call: &'a Call<'a>,
    fleet: &'a Fleet,
    candidates: Candidates<'a>,
    asked: AskedInstances<'a>,
    next: Next,
    /// True if there was no other candidate when it was last looked for one.
    has_looked: bool,
    /// The first refusal that is relayed unless an open attempt is accepted.
    fallback: Option<Refusal<'a>>,
    forbidden: Forbidden<'a>,
    /// True if a limit of the gateway kept the call from another instance.
    was_limited: bool,
    pub(super) progress: PlaceProgress,
}

/// The time at which the next candidate is asked.
#[derive(Clone, Copy, Debug)]
enum Next {
    At(Instant),
    /// As soon as another instance becomes eligible: all candidates were asked.
    NewCandidate,
    /// Not before an open attempt ends: the call has as many as it may have.
    AfterOpen,
}

impl<'a> Race<'a> {
    pub(super) fn new(call: &'a Call<'a>, fleet: &'a Fleet, progress: PlaceProgress) -> Self {
        Self {
            call,
            fleet,
            candidates: fleet.candidates(call.notification.app, call.key),
            asked: AskedInstances::default(),
            next: Next::AfterOpen,
            has_looked: false,
            fallback: None,
            forbidden: Forbidden::default(),
            was_limited: false,
            progress,
        }
    }

    /// Asks candidates until one accepts, the limits are reached or no candidate is left.
    pub(super) async fn run(&mut self) -> Option<UpstreamResponse> {
        let (attempt, request, upstream) = self.start_attempt(0, Instant::now()).ok()?;
        // The usual call has one attempt, which ends within its share. It is not boxed, and starts no race.
        let sent = {
            let mut sending = pin!(upstream.attempt(request, attempt.written));
            match timeout_at(attempt.share_end, &mut sending).await {
                Ok(sent) => Some(sent),
                Err(_) if attempt.is_written() => {
                    let mut open = OpenAttempts::default();
                    open.add(attempt, sending);
                    return Box::pin(self.go_on(open)).await;
                }
                Err(_) => None,
            }
        };
        let response = match sent {
            Some(sent) => self.ended(attempt, sent, None),
            None => {
                self.unconnected(attempt);
                None
            }
        };
        match response {
            Some(response) => Some(response),
            None => Box::pin(self.go_on(OpenAttempts::default())).await,
        }
    }

    /// Continues with these open attempts.
    async fn go_on(&mut self, mut open: OpenAttempts<'_, 'a>) -> Option<UpstreamResponse> {
        loop {
            let now = Instant::now();
            for attempt in open.remove_unconnected(now) {
                self.unconnected(attempt);
            }
            open.time_out(now);
            if now >= self.call.end {
                break;
            }
            if self.is_next_due(now) {
                match self.start_attempt(open.len(), now) {
                    Ok((attempt, request, upstream)) => {
                        let sending = upstream.attempt(request, attempt.written);
                        open.add(attempt, sending);
                    }
                    Err(Next::NewCandidate) if !self.has_looked => {
                        let fleet = self.call.delivery.fleet.load_full();
                        if !ptr::eq(&*fleet, self.fleet) {
                            return self.go_on_in(&fleet, open).await;
                        }
                        self.look_for_candidates(!open.is_empty());
                    }
                    Err(next) => self.next = next,
                }
                continue;
            }
            let is_decided = self.fallback.is_some() || !matches!(self.next, Next::At(_));
            if open.is_empty() && is_decided {
                break;
            }
            let Some((ended, sent)) = self.next_event(&mut open, now).await else { continue };
            let is_accepted = sent.as_ref().is_ok_and(|response| response.status().is_success());
            if is_accepted {
                self.lose(&mut open);
            }
            if let Some(response) = self.ended(ended, sent, open.share_end()) {
                return Some(response);
            }
        }
        let now = Instant::now();
        for attempt in open.remove_all() {
            self.cut_short(attempt, now);
        }
        // Of a limited call it is not known whether all would have refused it.
        let forbidden = self.forbidden.of_all(self.progress.attempts).filter(|_| !self.was_limited);
        self.fallback.take().or(forbidden).map(|refusal| self.relay(refusal))
    }

    /// Starts an attempt at the next candidate, beside `open` others.
    fn start_attempt(
        &mut self,
        open: usize,
        now: Instant,
    ) -> Result<(Attempt<'a>, UpstreamRequest, Upstream<'a>), Next> {
        let &Call { delivery, connections, notification, end, .. } = self.call;
        let remaining = end.saturating_duration_since(now);
        let unknown = usize::try_from(self.progress.outcome_unknown).unwrap_or(usize::MAX);
        let unknown_max = usize::try_from(self.call.outcome_unknown_max).unwrap_or(usize::MAX).max(1);
        let index = usize::try_from(self.progress.attempts).unwrap_or(usize::MAX);
        let Some(written) = self.call.written.get(index) else { return Err(Next::AfterOpen) };
        if remaining.is_zero() || unknown.saturating_add(open) >= unknown_max {
            return Err(Next::AfterOpen);
        }
        let state = &*delivery.placement;
        let mut retry = None;
        let (candidate, pending) = loop {
            let Some(candidate) = self.candidates.next(now) else { return Err(Next::NewCandidate) };
            // An open attempt was written, or it is not open at the end of its share.
            if (open > 0 || self.progress.any_written) && retry.is_none() {
                retry = state.take_retry(open > 0, written, now);
                if retry.is_none() {
                    self.candidates.put_back(candidate);
                    self.was_limited = true;
                    return Err(Next::AfterOpen);
                }
            }
            match candidate.instance.tracker.reserve(now, candidate.eligibility) {
                Some(pending) => break (candidate, pending),
                None => self.candidates.defer(candidate),
            }
        };
        let number = self.progress.attempts.saturating_add(1);
        self.progress.attempts = number;
        if index.saturating_add(1) == ATTEMPTS_MAX {
            state.count_attempts_exhausted();
        }
        let instance = candidate.instance;
        self.asked.add(index, &instance.tracker, written);
        self.has_looked = false;
        let in_flight = Some(instance.tracker.request_started(now));
        instance.tracker.count_attempt();
        let share_end = now + share(delivery.settings.attempt, remaining, candidate.left);
        self.next = Next::At(share_end);
        let attempt = Attempt {
            instance,
            number,
            started: now,
            share_end,
            timeout_at: now + delivery.settings.attempt,
            timed_out: false,
            written,
            call_id: notification.call_id.clone(),
            placements: &delivery.placements,
            state,
            in_flight,
            pending: Some(pending),
            _retry: retry,
        };
        let parts = instance.app_parts(notification.app);
        let endpoint = &instance.new_calls;
        let to = (endpoint, &parts.new_call_path, instance.name());
        let incarnation = instance.owner.incarnation.as_name_ref();
        let request = delivery.request(to, &parts, incarnation, notification, |head| {
            head.add_attempt(number);
            if let Some(unix_ms) = notification.deadline_unix_ms {
                head.add_deadline(unix_ms);
            }
        });
        let (pool, origins) = (&connections.instances, self.fleet.origins());
        Ok((attempt, request, Upstream { pool, origins, endpoint, connector: &delivery.connector }))
    }

    fn is_next_due(&self, now: Instant) -> bool {
        self.fallback.is_none() && matches!(self.next, Next::At(at) if at <= now)
    }

    /// Waits until an attempt has ended, which is returned, or until there is something else to do.
    async fn next_event(
        &mut self,
        open: &mut OpenAttempts<'_, 'a>,
        now: Instant,
    ) -> Option<(Attempt<'a>, Sent)> {
        let wake = open.due().map_or(self.call.end, |due| due.min(self.call.end));
        match self.next {
            Next::At(at) if self.fallback.is_none() => timeout_at(wake.min(at), open.ended()).await.ok(),
            Next::NewCandidate if self.fallback.is_none() => {
                let eligible = &self.call.delivery.placement.eligible;
                let check_at = wake.min(now + CHECK_INTERVAL);
                let ended = tokio::select! {
                    biased;
                    ended = open.ended() => Some(ended),
                    _ = timeout_at(check_at, eligible.notified()) => None,
                };
                if ended.is_none() {
                    self.has_looked = false;
                    self.next = Next::At(Instant::now());
                }
                ended
            }
            Next::At(_) | Next::NewCandidate | Next::AfterOpen => timeout_at(wake, open.ended()).await.ok(),
        }
    }

    /// Looks for instances that have become eligible since the candidates were ranked. While an attempt is
    /// open, one that was asked in vain may be asked again if it has not received the call, or was busy.
    fn look_for_candidates(&mut self, is_open: bool) {
        let (app, now) = (self.call.notification.app, Instant::now());
        let excluded = if is_open { self.asked.decided() } else { self.asked.all() };
        self.candidates = self.fleet.new_candidates(app, self.call.key, &excluded, now);
        self.has_looked = true;
    }

    /// Continues with these open attempts in a fleet that has replaced this one.
    fn go_on_in<'f>(
        &'f mut self,
        fleet: &'f Fleet,
        open: OpenAttempts<'f, 'f>,
    ) -> Pin<Box<dyn Future<Output = Option<UpstreamResponse>> + Send + 'f>>
    where
        'a: 'f,
    {
        let mut race = Race {
            asked: self.asked,
            next: Next::At(Instant::now()),
            fallback: self.fallback.take(),
            forbidden: std::mem::take(&mut self.forbidden),
            was_limited: self.was_limited,
            ..Race::new(self.call, fleet, self.progress)
        };
        race.look_for_candidates(!open.is_empty());
        Box::pin(async move {
            let response = race.go_on(open).await;
            self.progress = race.progress;
            response
        })
    }

    /// Notes the end of an attempt. `open_until`: the end of the last share among the open attempts. Returns
    /// the response that is relayed, if that is decided.
    fn ended(
        &mut self,
        attempt: Attempt<'a>,
        sent: Sent,
        open_until: Option<Instant>,
    ) -> Option<UpstreamResponse> {
        let now = Instant::now();
        self.progress.any_written |= attempt.is_written();
        self.next = Next::At(open_until.map_or(now, |share_end| share_end.max(now)));
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                if error.cause() == Cause::Exhausted {
                    self.next = Next::At(now + EXHAUSTED_PAUSE);
                    self.was_limited = true;
                    // The gateway's own lack costs the call no attempt; the end of the budget bounds it. An
                    // attempt with a later one beside it does count: the two must not share a number.
                    if open_until.is_none() && attempt.number == self.progress.attempts {
                        self.progress.attempts = self.progress.attempts.saturating_sub(1);
                    }
                }
                let outcome_unknown = attempt.failed(error.cause(), error.was_sent(), now);
                self.note_failure(error.cause(), outcome_unknown);
                return None;
            }
        };
        match Cause::of_response(&response) {
            None if response.status().is_success() => {
                let response = attempt.accepted(response, self.call.end, now)?;
                Some(self.count(response))
            }
            None => {
                let refusal = attempt.refused(response, now)?;
                if open_until.is_none() && self.fallback.is_none() {
                    return Some(self.relay(refusal));
                }
                self.fallback.get_or_insert(refusal);
                None
            }
            Some(Cause::Forbidden) => {
                self.note_failure(Cause::Forbidden, false);
                self.forbidden.add(attempt.forbidden(response, now));
                None
            }
            Some(cause) => {
                if cause == Cause::TooManyRequests {
                    attempt.instance.tracker.rate_limited(response.headers(), now);
                }
                if cause == Cause::Unavailable {
                    self.asked.was_busy(&attempt.instance.tracker);
                }
                let outcome_unknown = attempt.failed(cause, true, now);
                self.note_failure(cause, outcome_unknown);
                None
            }
        }
    }

    /// Gives up the other attempts: an instance accepted the call.
    fn lose(&mut self, open: &mut OpenAttempts<'_, 'a>) {
        let now = Instant::now();
        for attempt in open.remove_all() {
            if attempt.lost(now) {
                self.progress.outcome_unknown = self.progress.outcome_unknown.saturating_add(1);
            }
        }
    }

    /// Ends an attempt that has used its share without a connection. That is as good as a refused one: not a
    /// byte was written.
    fn unconnected(&mut self, attempt: Attempt<'a>) {
        let now = Instant::now();
        self.cut_short(attempt, now);
        self.next = Next::At(now);
    }

    /// Ends an attempt that has used its time.
    fn cut_short(&mut self, attempt: Attempt<'a>, now: Instant) {
        let (cause, was_written) = attempt.cut_short(now);
        self.progress.any_written |= was_written;
        self.note_failure(cause, was_written);
    }

    fn note_failure(&mut self, cause: Cause, outcome_unknown: bool) {
        self.progress.last = cause;
        if cause.is_declined() {
            self.progress.declined = self.progress.declined.saturating_add(1);
        }
        if outcome_unknown {
            self.progress.outcome_unknown = self.progress.outcome_unknown.saturating_add(1);
        }
    }

    fn relay(&self, refusal: Refusal<'a>) -> UpstreamResponse {
        self.count(refusal.relay(self.call.end))
    }

    fn count(&self, response: UpstreamResponse) -> UpstreamResponse {
        let PlaceProgress { attempts, outcome_unknown, .. } = self.progress;
        UpstreamResponse { attempts, outcome_unknown, ..response }
    }
}

/// The interval of checks for new candidates while an attempt is open. The end of an ejection notifies no
/// call.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The pause after an attempt for which the gateway had no descriptor or port left. The next one would fail
/// in the same way.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
