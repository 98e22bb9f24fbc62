//! One connection of the public listener: HTTP/1.1 or HTTP/2 on it, and every limit in time that hyper leaves open.
//!
//! hyper limits the time a head may take only once its first byte has come, and nothing else: a socket that stays
//! silent, one that idles, a body that trickles and a mute HTTP/2 connection live for ever. A timer for each of these on each
//! connection would cost every request; instead a connection notes what it is doing (`Watch`) in a few relaxed
//! atomics, and its worker sweeps over all of them a few times a second.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper_util::server::graceful::GracefulConnection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// How long a connection may do what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the accept (or the end of the TLS handshake) to the first byte.
    pub first_byte: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// The whole body, from the end of the head.
    pub body: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// Without a request being answered or begun, while one is under way; longer than any handler may take.
    pub stuck: Duration,
    /// The age at which a connection is asked to end, so that load spreads again; up to a tenth more or less.
    pub age: Duration,
}

impl Timeouts {
    /// The limits of production, with the operator's `limits.idle` and the longest time that a handler may take.
    pub fn new(idle: Duration, handler: Duration) -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            idle,
            // A handler's own limits end it; what is left is a client that does not read its answer.
            stuck: handler + Duration::from_secs(60),
            age: Duration::from_secs(600),
        }
    }
}

/// What a connection is doing, for the sweep of its worker.
#[derive(Debug)]
pub(crate) struct Watch {
    started: Instant,
    age: Duration,
    http2: bool,
    /// Requests whose answers have not been handed over whole.
    open: AtomicU32,
    /// `FIRST_BYTE`, `HEAD` or `IDLE`: what it waits for while `open` is 0.
    phase: AtomicU8,
    /// Milliseconds from `started` to the last change of `open` or `phase`.
    changed_ms: AtomicU64,
    /// Bytes read since the last request began.
    noise: AtomicU64,
    order: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// What a connection has been told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    Serve,
    /// Finish what is under way and close.
    Finish,
    /// Close now.
    Cut,
}

impl Watch {
    /// `spread` in 0..=255 varies the age by a tenth, so that connections of one moment do not end in one moment.
    pub(crate) fn new(http2: bool, age: Duration, spread: u8, now: Instant) -> Self {
        let age = age * (900 + u32::from(spread) * 200 / 255) / 1000;
        Self {
            started: now,
            age,
            http2,
            open: AtomicU32::new(0),
            phase: AtomicU8::new(FIRST_BYTE),
            changed_ms: AtomicU64::new(0),
            noise: AtomicU64::new(0),
            order: AtomicU8::new(SERVE),
            waker: Mutex::new(None),
        }
    }

    /// A request begins; it ends when the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, now: Instant) -> OpenRequest {
        self.open.fetch_add(1, Relaxed);
        self.noise.store(0, Relaxed);
        self.note(now);
        OpenRequest { watch: Arc::clone(self) }
    }

    /// Gives an order; an earlier, stronger one stands.
    pub(crate) fn order(&self, order: Order) {
        let order = match order {
            Order::Serve => SERVE,
            Order::Finish => FINISH,
            Order::Cut => CUT,
        };
        self.order.fetch_max(order, Relaxed);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            waker.wake_by_ref();
        }
    }

    /// How many requests are under way.
    pub(crate) fn under_way(&self) -> usize {
        usize::try_from(self.open.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// What the limits demand now.
    pub(crate) fn judge(&self, timeouts: &Timeouts, body_bytes_max: u64, now: Instant) -> Order {
        let age = now.saturating_duration_since(self.started);
        let since = age.saturating_sub(Duration::from_millis(self.changed_ms.load(Relaxed)));
        let open = u64::from(self.open.load(Relaxed));
        // HTTP/2 frames that are no request (PING, SETTINGS, empty DATA) cost us work and the client nothing.
        if self.http2 && self.noise.load(Relaxed) > (open + 1) * (body_bytes_max + NOISE_BYTES_MAX) {
            return Order::Cut;
        }
        let waits = if open > 0 {
            timeouts.stuck
        } else if self.phase.load(Relaxed) == IDLE {
            // Between two requests nobody is slow: the connection ends in peace, unless it will not.
            if since >= timeouts.idle + FINISH_TIME {
                return Order::Cut;
            }
            return if since >= timeouts.idle || age >= self.age { Order::Finish } else { Order::Serve };
        } else if self.http2 {
            timeouts.first_byte + timeouts.head
        } else if self.phase.load(Relaxed) == FIRST_BYTE {
            timeouts.first_byte
        } else {
            timeouts.head
        };
        if since >= waits {
            Order::Cut
        } else if age >= self.age {
            Order::Finish
        } else {
            Order::Serve
        }
    }

    fn heard(&self, bytes: usize) {
        self.noise.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
        // HTTP/2 frames do not tell a request from a ping; there the whole wait for a request has one limit.
        if !self.http2 && self.open.load(Relaxed) == 0 && self.phase.load(Relaxed) != HEAD {
            self.phase.store(HEAD, Relaxed);
            self.note(Instant::now());
        }
    }

    fn note(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started).as_millis();
        self.changed_ms.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }

    fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    fn ordered(&self) -> Order {
        match self.order.load(Relaxed) {
            SERVE => Order::Serve,
            FINISH => Order::Finish,
            _ => Order::Cut,
        }
    }
}

/// A request under way. It travels with the answer's body, so that a connection is idle only once the answer was handed over.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    watch: Arc<Watch>,
}

impl OpenRequest {
    /// Whether the connection has been told to end after this request.
    pub(crate) fn is_last(&self) -> bool {
        self.watch.ordered() != Order::Serve
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.watch.phase.store(IDLE, Relaxed);
        self.watch.note(Instant::now());
        self.watch.open.fetch_sub(1, Relaxed);
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself, or as asked.
    Closed,
    /// The sweep cut it.
    Cut,
    /// hyper gave up on it.
    Failed(hyper::Error),
}

/// Drives a hyper connection and obeys the orders that `watch` receives.
pub(crate) async fn drive<C>(connection: C, watch: &Watch) -> Ended
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    let mut finishing = false;
    poll_fn(|context| {
        watch.register(context.waker());
        match watch.ordered() {
            Order::Serve => {}
            Order::Finish if finishing => {}
            Order::Finish => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            Order::Cut => return Poll::Ready(Ended::Cut),
        }
        connection.as_mut().poll(context).map(|result| match result {
            Ok(()) => Ended::Closed,
            Err(error) => Ended::Failed(error),
        })
    })
    .await
}

/// A stream that tells its `Watch` of every byte that arrives.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    pub(crate) stream: S,
    pub(crate) watch: Arc<Watch>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        let heard = buffer.filled().len() - before;
        if heard > 0 {
            self.watch.heard(heard);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}

// What a connection without a request waits for, and the orders, as they are kept in atomics.
const FIRST_BYTE: u8 = 0;
const HEAD: u8 = 1;
const IDLE: u8 = 2;
const SERVE: u8 = 0;
const FINISH: u8 = 1;
const CUT: u8 = 2;

/// What HTTP/2 may send besides bodies between two requests: preface, settings, window updates, pings.
const NOISE_BYTES_MAX: u64 = 64 * 1024;
/// For the last bytes and the good-bye of an idle connection.
const FINISH_TIME: Duration = Duration::from_secs(10);

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

    /// What is ordered `after` seconds of a connection on which `play` happened, from its start on.
    #[track_caller]
    fn check(http2: bool, play: impl FnOnce(&Arc<Watch>, Instant), after: f64, expected: Order) {
        let start = Instant::now();
        let watch = Arc::new(Watch::new(http2, TIMEOUTS.age, 127, start));
        play(&watch, start);
        assert_eq!(watch.judge(&TIMEOUTS, BODY, start + Duration::from_secs_f64(after)), expected);
    }

    fn silent(_: &Arc<Watch>, _: Instant) {}

    fn part_of_a_head(watch: &Arc<Watch>, _: Instant) {
        watch.heard(10);
    }

    fn a_request_under_way(watch: &Arc<Watch>, start: Instant) {
        std::mem::forget(watch.begin(start));
    }

    fn an_answered_request(watch: &Arc<Watch>, start: Instant) {
        watch.heard(500);
        drop(watch.begin(start));
    }

    #[test]
    fn each_wait_has_its_limit() {
        for http2 in [false, true] {
            check(http2, silent, 4.9, Order::Serve);
            check(http2, a_request_under_way, 89.0, Order::Serve);
            check(http2, a_request_under_way, 90.1, Order::Cut);
            check(http2, an_answered_request, 74.0, Order::Serve);
            check(http2, an_answered_request, 76.0, Order::Finish);
            check(http2, an_answered_request, 86.0, Order::Cut);
        }
        check(false, silent, 5.1, Order::Cut);
        check(false, part_of_a_head, 4.9, Order::Serve);
        check(false, part_of_a_head, 5.5, Order::Cut);
        // HTTP/2 begins with a preface and settings, and has as long as both waits together.
        check(true, part_of_a_head, 9.9, Order::Serve);
        check(true, silent, 10.1, Order::Cut);
    }

    #[test]
    fn an_old_connection_is_asked_to_finish() {
        check(false, a_request_under_way, 89.0, Order::Serve);
        let start = Instant::now();
        for (spread, limit) in [(0_u8, 540_u64), (255, 660)] {
            let watch = Arc::new(Watch::new(false, TIMEOUTS.age, spread, start));
            let nearly = start + Duration::from_secs(limit - 2);
            std::mem::forget(watch.begin(nearly));
            assert_eq!(watch.judge(&TIMEOUTS, BODY, nearly), Order::Serve);
            assert_eq!(watch.judge(&TIMEOUTS, BODY, start + Duration::from_secs(limit)), Order::Finish);
        }
    }

    #[test]
    fn frames_that_are_no_request_end_an_http2_connection() {
        let flood = |watch: &Arc<Watch>, start: Instant| {
            an_answered_request(watch, start);
            watch.heard(2 << 20);
        };
        check(true, flood, 1.0, Order::Cut);
        check(false, flood, 1.0, Order::Serve);
    }

    #[test]
    fn bytes_of_a_second_request_do_not_hurry_the_first() {
        let pipelined = |watch: &Arc<Watch>, start: Instant| {
            a_request_under_way(watch, start);
            watch.heard(500);
        };
        check(false, pipelined, 60.0, Order::Serve);
    }

    #[test]
    fn a_stronger_order_stands() {
        let watch = Watch::new(false, TIMEOUTS.age, 0, Instant::now());
        watch.order(Order::Cut);
        watch.order(Order::Finish);
        assert_eq!(watch.ordered(), Order::Cut);
    }
}
