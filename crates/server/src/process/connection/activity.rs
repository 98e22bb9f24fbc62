//! The activity of each public connection, and the time limits that hyper does not enforce.
//!
//! hyper limits the time of a head only once its first byte has arrived. It does not limit a connection that
//! stays silent or idle, a slow body, or an HTTP/2 connection without requests. A timer for each of these
//! limits would cost every request. Instead, a connection records its state in a few relaxed atomics
//! ([`Activity`]), and its worker sweeps over all of them a few times a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use crate::process::connection::{shutdown::Shutdown, slots::Slot, timeouts::Timeouts};

/// The state of one connection, for the sweep of its worker.
#[derive(Debug)]
pub(crate) struct Activity {
    started: Instant,
    age: Duration,
    is_http2: bool,
    /// The bytes that an HTTP/2 client may send for each request in flight, and between requests.
    bytes_max: u64,
    /// Requests whose responses are not yet written whole.
    in_flight: AtomicU32,
    /// `FIRST_BYTE`, `HEAD` or `IDLE`: what the connection waits for while `in_flight` is 0.
    phase: AtomicU8,
    /// Milliseconds from `started` to the last change of `in_flight` or `phase`.
    changed_ms: AtomicU64,
    /// Bytes read since the last request started.
    bytes_since_request: AtomicU64,
    /// The close was announced to a client that may still be sending.
    is_announced: AtomicBool,
    is_lingering: AtomicBool,
    /// All that was written is on its way.
    is_flushed: AtomicBool,
    /// `BUFFERS_KEPT`, `RELEASE_ASKED` or `BUFFERS_RELEASED`.
    buffers: AtomicU8,
    slot: Slot,
}

impl Activity {
    /// `spread` in 0..=255 varies the age by a tenth: connections that open together do not all close
    /// together.
    ///
    /// An HTTP/2 client may send `body_bytes_max` for each request, and a little more.
    pub(crate) fn new(
        slot: Slot,
        is_http2: bool,
        body_bytes_max: usize,
        age: Duration,
        spread: u8,
        now: Instant,
    ) -> Self {
        let age = age * (900 + u32::from(spread) * 200 / 255) / 1000;
        Self {
            started: now,
            age,
            is_http2,
            bytes_max: u64::try_from(body_bytes_max).unwrap_or(u64::MAX).saturating_add(CONTROL_BYTES_MAX),
            in_flight: AtomicU32::new(0),
            phase: AtomicU8::new(FIRST_BYTE),
            changed_ms: AtomicU64::new(0),
            bytes_since_request: AtomicU64::new(0),
            is_announced: AtomicBool::new(false),
            is_lingering: AtomicBool::new(false),
            is_flushed: AtomicBool::new(true),
            buffers: AtomicU8::new(BUFFERS_KEPT),
            slot,
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn start_request(self: &Arc<Self>, now: Instant) -> OpenRequest {
        if self.in_flight.fetch_add(1, Relaxed) == 0 {
            self.slot.start_request();
        }
        self.bytes_since_request.store(0, Relaxed);
        self.buffers.store(BUFFERS_KEPT, Relaxed);
        self.mark_changed(now);
        OpenRequest { activity: Arc::clone(self) }
    }

    /// Asks the connection to shut down. A stronger shutdown that was asked for earlier stays in force.
    pub(crate) fn shut_down(&self, shutdown: Shutdown) {
        self.slot.shutdown().ask(shutdown);
    }

    /// The shutdown that the connection was asked for.
    pub(crate) fn shutdown(&self) -> Shutdown {
        self.slot.shutdown().asked()
    }

    /// Returns true if the connection ends at once. One that lingers ends by itself: its stream looks at
    /// [`Self::may_linger`].
    pub(crate) fn is_cut_off(&self) -> bool {
        self.shutdown() == Shutdown::Immediate && !self.is_lingering()
    }

    /// Returns true if the connection ends to make room for another one. A request that has started meanwhile
    /// is served, and its response is written; if that makes it one that is kept, the connection stays.
    pub(crate) fn is_evicted(&self) -> bool {
        self.is_victim()
            && self.in_flight.load(Relaxed) == 0
            && self.is_flushed.load(Relaxed)
            && !self.is_lingering()
    }

    fn is_victim(&self) -> bool {
        self.slot.shutdown().is_evicted() && !self.slot.is_kept()
    }

    /// Starts to linger, if the client may still be sending: a request was not read whole, or the client has
    /// just learnt that the connection closes. Returns false if the connection may be closed at once.
    pub(crate) fn start_lingering(&self) -> bool {
        let lingers = self.is_announced.load(Relaxed) || self.phase.load(Relaxed) == HEAD;
        if lingers {
            self.is_lingering.store(true, Relaxed);
            self.mark_changed(Instant::now());
            self.slot.start_lingering();
        }
        lingers
    }

    /// Returns true if the connection waits for its client to close it.
    pub(crate) fn is_lingering(&self) -> bool {
        self.is_lingering.load(Relaxed)
    }

    /// Returns true until a time limit or another connection ends the lingering.
    pub(crate) fn may_linger(&self) -> bool {
        self.shutdown() != Shutdown::Immediate && !self.slot.shutdown().is_evicted()
    }

    /// The number of requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.in_flight.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// The shutdown that the time limits require at `now`.
    pub(crate) fn required_shutdown(&self, timeouts: &Timeouts, now: Instant) -> Shutdown {
        let age = now.saturating_duration_since(self.started);
        let since = age.saturating_sub(Duration::from_millis(self.changed_ms.load(Relaxed)));
        if self.is_lingering() {
            return if since >= LINGER_TIME_MAX { Shutdown::Immediate } else { Shutdown::None };
        }
        let limit = if self.in_flight.load(Relaxed) > 0 {
            timeouts.stuck
        } else if self.phase.load(Relaxed) == IDLE {
            let (idle, graceful) = if self.slot.is_authenticated() {
                (timeouts.idle, GRACEFUL_TIME_MAX)
            } else {
                (timeouts.idle_unauthenticated, GRACEFUL_TIME_MAX_UNAUTHENTICATED)
            };
            // An idle client is not slow: close gracefully first, and immediately if that takes too long.
            if since >= idle + graceful {
                return Shutdown::Immediate;
            }
            let is_due = since >= idle || self.announces_age(now);
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

    /// Records that `bytes` were read from the connection. Returns false, and cuts the connection off, if
    /// they are a flood of HTTP/2 frames without requests (PING, SETTINGS, empty DATA). Such frames cost the
    /// gateway work and the client nothing.
    pub(crate) fn received(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let received = self.bytes_since_request.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let requests = u64::from(self.in_flight.load(Relaxed)) + 1;
        if self.is_http2 && received > requests.saturating_mul(self.bytes_max) {
            self.shut_down(Shutdown::Immediate);
            return false;
        }
        // Bytes of HTTP/2 may be a ping as well as a head. There, one limit covers the whole wait for a
        // request.
        if !self.is_http2 && self.in_flight.load(Relaxed) == 0 && self.phase.load(Relaxed) != HEAD {
            self.phase.store(HEAD, Relaxed);
            self.mark_changed(Instant::now());
        }
        true
    }

    /// Asks an HTTP/1.1 connection that has been idle for a while to give its buffers back.
    pub(crate) fn ask_to_release(&self, now: Instant) {
        let since = now
            .saturating_duration_since(self.started)
            .saturating_sub(Duration::from_millis(self.changed_ms.load(Relaxed)));
        let is_idle = !self.is_http2 && self.is_between_requests() && since >= RELEASE_AFTER;
        if is_idle && self.buffers.load(Relaxed) == BUFFERS_KEPT {
            self.buffers.store(RELEASE_ASKED, Relaxed);
            self.slot.shutdown().wake();
        }
    }

    /// Returns true if the connection is idle and was asked to give its buffers back. It is asked once for
    /// each idle time, so that bytes that it has to keep do not make it go round in a loop.
    pub(crate) fn releases_buffers(&self) -> bool {
        let releases = self.buffers.load(Relaxed) == RELEASE_ASKED
            && self.is_between_requests()
            && self.is_flushed.load(Relaxed);
        if releases {
            self.buffers.store(BUFFERS_RELEASED, Relaxed);
        }
        releases
    }

    fn is_between_requests(&self) -> bool {
        self.in_flight.load(Relaxed) == 0 && self.phase.load(Relaxed) == IDLE && !self.is_lingering()
    }

    /// Records that bytes were given to the stream.
    pub(crate) fn wrote(&self) {
        self.is_flushed.store(false, Relaxed);
    }

    /// Records that all bytes given to the stream are on their way.
    pub(crate) fn flushed(&self) {
        self.is_flushed.store(true, Relaxed);
    }

    /// Stores the waker of the task that drives the connection; `shut_down` wakes it.
    pub(crate) fn register(&self, waker: &Waker) {
        self.slot.shutdown().register(waker);
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
    /// The response continues, for longer than the limit of a stuck one. Counts as a change if the client has
    /// read what was written before: the kernel has taken it.
    pub(crate) fn note_progress(&self, now: Instant) {
        if self.activity.is_flushed.load(Relaxed) {
            self.activity.mark_changed(now);
        }
    }

    /// Returns true if the connection closes after this request.
    pub(crate) fn is_last(&self) -> bool {
        self.activity.shutdown() != Shutdown::None
            || self.activity.is_victim()
            || self.activity.is_old(Instant::now())
    }

    /// Returns true if a request on this connection had a token that was proven.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.activity.slot.is_authenticated()
    }

    /// The token of this request is proven.
    pub(crate) fn authenticate(&self) {
        self.activity.slot.authenticate();
    }

    /// Closes the connection after this request and the others in flight. HTTP/2 announces it with GOAWAY;
    /// the response of HTTP/1.1 has to announce it.
    pub(crate) fn close_connection(&self) {
        self.activity.is_announced.store(true, Relaxed);
        if self.activity.is_http2 {
            self.activity.shut_down(Shutdown::Graceful);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.activity.phase.store(IDLE, Relaxed);
        if !self.activity.is_lingering() {
            self.activity.mark_changed(Instant::now());
        }
        if self.activity.in_flight.fetch_sub(1, Relaxed) == 1 && !self.activity.is_lingering() {
            self.activity.slot.start_idling();
        }
    }
}

// The values of `phase` and `buffers` in their atomics.
const FIRST_BYTE: u8 = 0;
const HEAD: u8 = 1;
const IDLE: u8 = 2;
const BUFFERS_KEPT: u8 = 0;
const RELEASE_ASKED: u8 = 1;
const BUFFERS_RELEASED: u8 = 2;

/// The bytes that HTTP/2 may send besides bodies between two requests: preface, settings, window updates,
/// pings.
const CONTROL_BYTES_MAX: u64 = 64 * 1024;
/// The time for the last bytes and the close of an idle connection.
const GRACEFUL_TIME_MAX: Duration = Duration::from_secs(10);
/// The same without an authenticated sender, whose client earns no patience.
const GRACEFUL_TIME_MAX_UNAUTHENTICATED: Duration = Duration::from_secs(1);
/// Longer than the pauses of a busy client, for which making the buffers again would be a waste.
const RELEASE_AFTER: Duration = Duration::from_secs(1);
/// The time for a client to read its response and to close. Long enough for 3 MiB over a slow line.
const LINGER_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::process::connection::slots::Slots;

    const TIMEOUTS: Timeouts = Timeouts {
        first_byte: Duration::from_secs(5),
        handshake: Duration::from_secs(5),
        head: Duration::from_secs(5),
        body: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        idle_unauthenticated: Duration::from_secs(5),
        stuck: Duration::from_secs(90),
        age: Duration::from_secs(600),
    };
    const BODY: usize = 1 << 20;

    fn activity_of(http2: bool, spread: u8, start: Instant) -> Arc<Activity> {
        let slots = Arc::new(Slots::public());
        let (slot, _) = slots.admit(IpAddr::from([192, 0, 2, 1]), None, false).unwrap();
        Arc::new(Activity::new(slot, http2, BODY, TIMEOUTS.age, spread, start))
    }

    /// Checks the shutdown that is required `after` seconds from the start of a connection on which `play`
    /// happened.
    #[track_caller]
    fn check(http2: bool, play: impl FnOnce(&Arc<Activity>, Instant), after: f64, expected: Shutdown) {
        let start = Instant::now();
        let activity = activity_of(http2, 127, start);
        play(&activity, start);
        let now = start + Duration::from_secs_f64(after);
        assert_eq!(activity.required_shutdown(&TIMEOUTS, now), expected);
    }

    /// The eviction and a request of the same connection cross: the request is served, and its response is
    /// written and announces the end. An authenticated sender keeps the connection.
    #[tokio::test(start_paused = true)]
    async fn an_evicted_connection_whose_request_arrives_meanwhile_gets_its_response() {
        for is_authenticated in [false, true] {
            let slots = Arc::new(Slots::public());
            let (slot, _) = slots.admit(IpAddr::from([192, 0, 2, 1]), None, false).unwrap();
            let activity = Arc::new(Activity::new(slot, false, BODY, TIMEOUTS.age, 127, Instant::now()));
            assert!(slots.make_room());
            let request = activity.start_request(Instant::now());
            assert!(!activity.is_evicted());
            if is_authenticated {
                request.authenticate();
            }
            assert_eq!(request.is_last(), !is_authenticated);
            activity.wrote();
            drop(request);
            assert!(!activity.is_evicted(), "before the response is written");
            activity.flushed();
            assert_eq!(activity.is_evicted(), !is_authenticated);
        }
    }

    fn silent(_: &Arc<Activity>, _: Instant) {}

    fn part_of_a_head(activity: &Arc<Activity>, _: Instant) {
        activity.received(10);
    }

    fn request_in_flight(activity: &Arc<Activity>, start: Instant) {
        std::mem::forget(activity.start_request(start));
    }

    fn refused_request(activity: &Arc<Activity>, start: Instant) {
        activity.received(500);
        drop(activity.start_request(start));
    }

    fn responded_request(activity: &Arc<Activity>, start: Instant) {
        activity.received(500);
        activity.start_request(start).authenticate();
    }

    fn announced_close(activity: &Arc<Activity>, start: Instant) {
        responded_request(activity, start);
        activity.start_request(start).close_connection();
        assert!(activity.start_lingering());
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
            check(http2, refused_request, 4.0, Shutdown::None);
            check(http2, refused_request, 5.1, Shutdown::Graceful);
            check(http2, refused_request, 6.1, Shutdown::Immediate);
            check(http2, announced_close, 4.9, Shutdown::None);
            check(http2, announced_close, 5.5, Shutdown::Immediate);
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
                    let activity = activity_of(http2, spread, start);
                    let request = activity.start_request(start + seconds(limit - 2));
                    let request = is_busy.then_some(request);
                    activity.changed_ms.store((limit - 2) * 1000, Relaxed);
                    let required = |at| activity.required_shutdown(&TIMEOUTS, start + seconds(at));
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
            let activity = activity_of(http2, 0, Instant::now());
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

    /// The flood is cut at the byte that exceeds its bound, whatever the time.
    #[test]
    fn a_flood_of_http2_control_frames_closes_the_connection() {
        let bytes_max = BODY + 64 * 1024;
        for requests in 0..3 {
            let activity = activity_of(true, 0, Instant::now());
            let open: Vec<_> = (0..requests).map(|_| activity.start_request(Instant::now())).collect();
            assert!(activity.received((requests + 1) * bytes_max));
            assert_eq!(activity.shutdown(), Shutdown::None);
            assert!(!activity.received(1));
            assert_eq!(activity.shutdown(), Shutdown::Immediate);
            drop(open);
        }
        // HTTP/1.1 has no such frames.
        assert!(activity_of(false, 0, Instant::now()).received(10 * bytes_max));
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
        let activity = activity_of(false, 0, Instant::now());
        activity.shut_down(Shutdown::Immediate);
        activity.shut_down(Shutdown::Graceful);
        assert_eq!(activity.shutdown(), Shutdown::Immediate);
    }
}
