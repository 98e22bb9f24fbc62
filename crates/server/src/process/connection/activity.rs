//! The activity of each public connection, and the time limits that hyper does not enforce.
//!
//! hyper limits the time of a head only once its first byte has arrived. It does not limit a connection that
//! stays silent or idle, a slow body, or an HTTP/2 connection without requests. A timer for each of these
//! limits would cost every request. Instead, a connection records its state in a few relaxed atomics
//! ([`Activity`]), and its worker sweeps over all of them a few times a second.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use crate::process::connection::{shutdown::Shutdown, timeouts::Timeouts};

/// The state of one connection, for the sweep of its worker.
#[derive(Debug)]
pub(crate) struct Activity {
    started: Instant,
    age: Duration,
    is_http2: bool,
    /// Requests whose responses are not yet written whole.
    in_flight: AtomicU32,
    /// `FIRST_BYTE`, `HEAD` or `IDLE`: what the connection waits for while `in_flight` is 0.
    phase: AtomicU8,
    /// Milliseconds from `started` to the last change of `in_flight` or `phase`.
    changed_ms: AtomicU64,
    /// Bytes read since the last request started.
    bytes_since_request: AtomicU64,
    shutdown: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Activity {
    /// `spread` in 0..=255 varies the age by a tenth: connections that open together do not all close
    /// together.
    pub(crate) fn new(is_http2: bool, age: Duration, spread: u8, now: Instant) -> Self {
        let age = age * (900 + u32::from(spread) * 200 / 255) / 1000;
        Self {
            started: now,
            age,
            is_http2,
            in_flight: AtomicU32::new(0),
            phase: AtomicU8::new(FIRST_BYTE),
            changed_ms: AtomicU64::new(0),
            bytes_since_request: AtomicU64::new(0),
            shutdown: AtomicU8::new(SHUTDOWN_NONE),
            waker: Mutex::new(None),
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn start_request(self: &Arc<Self>, now: Instant) -> OpenRequest {
        self.in_flight.fetch_add(1, Relaxed);
        self.bytes_since_request.store(0, Relaxed);
        self.mark_changed(now);
        OpenRequest { activity: Arc::clone(self) }
    }

    /// Asks the connection to shut down. A stronger shutdown that was asked for earlier stays in force.
    pub(crate) fn shut_down(&self, shutdown: Shutdown) {
        let shutdown = match shutdown {
            Shutdown::None => SHUTDOWN_NONE,
            Shutdown::Graceful => SHUTDOWN_GRACEFUL,
            Shutdown::Immediate => SHUTDOWN_IMMEDIATE,
        };
        self.shutdown.fetch_max(shutdown, Relaxed);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The shutdown that the connection was asked for.
    pub(crate) fn shutdown(&self) -> Shutdown {
        match self.shutdown.load(Relaxed) {
            SHUTDOWN_NONE => Shutdown::None,
            SHUTDOWN_GRACEFUL => Shutdown::Graceful,
            _ => Shutdown::Immediate,
        }
    }

    /// The number of requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.in_flight.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// The shutdown that the time limits require at `now`.
    pub(crate) fn required_shutdown(
        &self,
        timeouts: &Timeouts,
        body_bytes_max: u64,
        now: Instant,
    ) -> Shutdown {
        let age = now.saturating_duration_since(self.started);
        let since = age.saturating_sub(Duration::from_millis(self.changed_ms.load(Relaxed)));
        let in_flight = u64::from(self.in_flight.load(Relaxed));
        let bytes = self.bytes_since_request.load(Relaxed);
        // HTTP/2 frames without a request (PING, SETTINGS, empty DATA) cost the gateway work and the client
        // nothing.
        if self.is_http2 && bytes > (in_flight + 1) * (body_bytes_max + CONTROL_BYTES_MAX) {
            return Shutdown::Immediate;
        }
        let limit = if in_flight > 0 {
            timeouts.stuck
        } else if self.phase.load(Relaxed) == IDLE {
            // An idle client is not slow: close gracefully first, and immediately if that takes too long.
            if since >= timeouts.idle + GRACEFUL_TIME_MAX {
                return Shutdown::Immediate;
            }
            let is_due = since >= timeouts.idle || self.announces_age(now);
            return if is_due { Shutdown::Graceful } else { Shutdown::None };
        } else if self.is_http2 {
            timeouts.first_byte + timeouts.head
        } else if self.phase.load(Relaxed) == FIRST_BYTE {
            timeouts.first_byte
        } else {
            timeouts.head
        };
        if since >= limit {
            Shutdown::Immediate
        } else if self.announces_age(now) {
            Shutdown::Graceful
        } else {
            Shutdown::None
        }
    }

    /// Returns true if the connection has reached its age. HTTP/1.1 closes after the next response, which
    /// announces it: an idle connection that is closed without notice loses a request on its way.
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.started) >= self.age
    }

    /// Returns true if GOAWAY announces that the connection has reached its age. Only HTTP/2 has it.
    fn announces_age(&self, now: Instant) -> bool {
        self.is_http2 && self.is_old(now)
    }

    /// Returns true if HTTP/1.1 waits for the rest of a head, or for the first byte. A graceful shutdown
    /// serves this request, whose response announces the close. (GOAWAY of HTTP/2 announces it at any time.)
    pub(crate) fn awaits_request(&self) -> bool {
        !self.is_http2 && self.in_flight.load(Relaxed) == 0 && self.phase.load(Relaxed) != IDLE
    }

    /// Records that `bytes` were read from the connection.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_since_request.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
        // Bytes of HTTP/2 may be a ping as well as a head. There, one limit covers the whole wait for a
        // request.
        if !self.is_http2 && self.in_flight.load(Relaxed) == 0 && self.phase.load(Relaxed) != HEAD {
            self.phase.store(HEAD, Relaxed);
            self.mark_changed(Instant::now());
        }
    }

    /// Stores the waker of the task that drives the connection; `shut_down` wakes it.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    fn mark_changed(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started).as_millis();
        self.changed_ms.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }
}

/// A request in flight. It travels with the response's body: a connection is idle only once the response is
/// written.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    activity: Arc<Activity>,
}

impl OpenRequest {
    /// Returns true if the connection closes after this request.
    pub(crate) fn is_last(&self) -> bool {
        self.activity.shutdown() != Shutdown::None || self.activity.is_old(Instant::now())
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.activity.phase.store(IDLE, Relaxed);
        self.activity.mark_changed(Instant::now());
        self.activity.in_flight.fetch_sub(1, Relaxed);
    }
}

// The values of `phase` and `shutdown` in their atomics.
const FIRST_BYTE: u8 = 0;
const HEAD: u8 = 1;
const IDLE: u8 = 2;
const SHUTDOWN_NONE: u8 = 0;
const SHUTDOWN_GRACEFUL: u8 = 1;
const SHUTDOWN_IMMEDIATE: u8 = 2;

/// The bytes that HTTP/2 may send besides bodies between two requests: preface, settings, window updates,
/// pings.
const CONTROL_BYTES_MAX: u64 = 64 * 1024;
/// The time for the last bytes and the close of an idle connection.
const GRACEFUL_TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        first_byte: Duration::from_secs(5),
        handshake: Duration::from_secs(5),
        head: Duration::from_secs(5),
        body: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        stuck: Duration::from_secs(90),
        age: Duration::from_secs(600),
    };
    const BODY: u64 = 1 << 20;

    /// Checks the shutdown that is required `after` seconds from the start of a connection on which `play`
    /// happened.
    #[track_caller]
    fn check(http2: bool, play: impl FnOnce(&Arc<Activity>, Instant), after: f64, expected: Shutdown) {
        let start = Instant::now();
        let activity = Arc::new(Activity::new(http2, TIMEOUTS.age, 127, start));
        play(&activity, start);
        let now = start + Duration::from_secs_f64(after);
        assert_eq!(activity.required_shutdown(&TIMEOUTS, BODY, now), expected);
    }

    fn silent(_: &Arc<Activity>, _: Instant) {}

    fn part_of_a_head(activity: &Arc<Activity>, _: Instant) {
        activity.received(10);
    }

    fn request_in_flight(activity: &Arc<Activity>, start: Instant) {
        std::mem::forget(activity.start_request(start));
    }

    fn responded_request(activity: &Arc<Activity>, start: Instant) {
        activity.received(500);
        drop(activity.start_request(start));
    }

    #[test]
    fn each_state_has_its_time_limit() {
        for http2 in [false, true] {
            check(http2, silent, 4.9, Shutdown::None);
            check(http2, request_in_flight, 89.0, Shutdown::None);
            check(http2, request_in_flight, 90.1, Shutdown::Immediate);
            check(http2, responded_request, 74.0, Shutdown::None);
            check(http2, responded_request, 76.0, Shutdown::Graceful);
            check(http2, responded_request, 86.0, Shutdown::Immediate);
        }
        check(false, silent, 5.1, Shutdown::Immediate);
        check(false, part_of_a_head, 4.9, Shutdown::None);
        check(false, part_of_a_head, 5.5, Shutdown::Immediate);
        // An HTTP/2 connection starts with a preface and settings. It has the time of both limits together.
        check(true, part_of_a_head, 9.9, Shutdown::None);
        check(true, silent, 10.1, Shutdown::Immediate);
    }

    #[test]
    fn an_old_connection_is_closed_with_an_announcement() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        for (spread, limit) in [(0_u8, 540_u64), (255, 660)] {
            for is_busy in [false, true] {
                for http2 in [false, true] {
                    let activity = Arc::new(Activity::new(http2, TIMEOUTS.age, spread, start));
                    let request = activity.start_request(start + seconds(limit - 2));
                    let request = is_busy.then_some(request);
                    activity.changed_ms.store((limit - 2) * 1000, Relaxed);
                    let required = |at| activity.required_shutdown(&TIMEOUTS, BODY, start + seconds(at));
                    assert_eq!(required(limit - 1), Shutdown::None);
                    // HTTP/1.1 has no way to announce it between two responses.
                    let expected = if http2 { Shutdown::Graceful } else { Shutdown::None };
                    assert_eq!(required(limit), expected, "HTTP/2: {http2}, busy: {is_busy}");
                    let is_old = |at| activity.is_old(start + seconds(at));
                    assert!(!is_old(limit - 1) && is_old(limit));
                    drop(request);
                }
            }
        }
    }

    #[test]
    fn only_an_idle_connection_is_closed_without_another_response() {
        let awaits_request = |http2, play: fn(&Arc<Activity>, Instant)| {
            let activity = Arc::new(Activity::new(http2, TIMEOUTS.age, 0, Instant::now()));
            play(&activity, Instant::now());
            activity.awaits_request()
        };
        let second_head = |activity: &Arc<Activity>, start: Instant| {
            responded_request(activity, start);
            part_of_a_head(activity, start);
        };
        assert!(awaits_request(false, silent));
        assert!(awaits_request(false, part_of_a_head));
        assert!(awaits_request(false, second_head));
        assert!(!awaits_request(false, responded_request));
        assert!(!awaits_request(false, request_in_flight));
        assert!(!awaits_request(true, silent));
    }

    #[test]
    fn a_flood_of_http2_control_frames_closes_the_connection() {
        let flood = |activity: &Arc<Activity>, start: Instant| {
            responded_request(activity, start);
            activity.received(2 << 20);
        };
        check(true, flood, 1.0, Shutdown::Immediate);
        check(false, flood, 1.0, Shutdown::None);
    }

    #[test]
    fn bytes_of_a_pipelined_request_do_not_shorten_the_time_of_the_first() {
        let pipelined = |activity: &Arc<Activity>, start: Instant| {
            request_in_flight(activity, start);
            activity.received(500);
        };
        check(false, pipelined, 60.0, Shutdown::None);
    }

    #[test]
    fn a_stronger_shutdown_stays_in_force() {
        let activity = Activity::new(false, TIMEOUTS.age, 0, Instant::now());
        activity.shut_down(Shutdown::Immediate);
        activity.shut_down(Shutdown::Graceful);
        assert_eq!(activity.shutdown(), Shutdown::Immediate);
    }
}
