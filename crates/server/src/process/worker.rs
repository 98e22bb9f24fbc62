//! One worker: a thread with its own runtime, its connections to the public and its connections to the fleet.
//!
//! A request and the connection it is forwarded on live on one thread, so that nothing on its way wakes another one.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use openssl::ssl::{Ssl, SslAcceptor};
use switchboard_delivery::Connections;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_openssl::SslStream;

use crate::{
    metrics::ConnectionGuard,
    process::{
        connection::{self, Ended, OpenRequest, Order, Watch, Watched},
        server::Shared,
    },
    request::{
        handle::handle,
        outcome::Outcome,
        received::{HEADER_FIELDS_MAX, Received},
        record::Record,
        refusal::Refusal,
        reply::ReplyBody,
    },
};

/// Where the gateway is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Serve.
    Serving,
    /// Finish what is under way, close what is idle.
    Finishing,
    /// Cut what is left.
    Cutting,
}

/// A worker, seen from the acceptor.
#[derive(Debug)]
pub(crate) struct Handle {
    streams: mpsc::UnboundedSender<(std::net::TcpStream, ConnectionGuard)>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

impl Handle {
    /// Connections that it has; `None` if its thread is gone, which only a panic of ours can do.
    pub(crate) fn open(&self) -> Option<usize> {
        if self.streams.is_closed() { None } else { Some(self.open.load(Relaxed)) }
    }

    /// Hands it a connection. An unbounded queue, bounded by the limit on connections, whose guard travels along.
    pub(crate) fn give(&self, stream: std::net::TcpStream, guard: ConnectionGuard) {
        self.open.fetch_add(1, Relaxed);
        if self.streams.send((stream, guard)).is_err() {
            // Its thread is gone, which only a panic of ours can do; the stream is closed by being dropped.
            self.open.fetch_sub(1, Relaxed);
            tracing::error!("a worker is gone; its connection is closed");
        }
    }

    /// Waits for its end; the number of requests that were cut.
    pub(crate) fn join(self) -> usize {
        let Self { streams, thread, .. } = self;
        drop(streams);
        thread.join().unwrap_or(1)
    }
}

/// Starts a worker.
pub(crate) fn start(number: usize, shared: Arc<Shared>, stage: watch::Receiver<Stage>) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (streams, received) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let worker = Arc::new(Worker {
        shared,
        connections: Arc::new(Connections::default()),
        watches: Mutex::default(),
        open: Arc::clone(&open),
    });
    let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let cut = runtime.block_on(worker.run(received, stage));
        // A name that is still looked up, for a request that is cut, must not keep the process.
        runtime.shutdown_background();
        cut
    })?;
    Ok(Handle { streams, open, thread })
}

/// A worker, seen from its own thread.
#[derive(Debug)]
struct Worker {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    watches: Mutex<HashMap<u64, Arc<Watch>>>,
    open: Arc<AtomicUsize>,
}

impl Worker {
    /// Serves until the acceptor has gone and no connection is left; the number of requests that were cut.
    async fn run(
        self: Arc<Self>,
        mut streams: mpsc::UnboundedReceiver<(std::net::TcpStream, ConnectionGuard)>,
        mut stage: watch::Receiver<Stage>,
    ) -> usize {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_id = 0_u64;
        let mut accepting = true;
        loop {
            match *stage.borrow_and_update() {
                Stage::Serving => {}
                Stage::Finishing => self.finish_all(),
                // Counted now, before any of them can end; the runtime ends with this future, and cuts them all.
                Stage::Cutting => return self.under_way(),
            }
            if !accepting && self.open.load(Relaxed) == 0 {
                return 0;
            }
            tokio::select! {
                stream = streams.recv(), if accepting => match stream {
                    Some((stream, guard)) => {
                        next_id += 1;
                        let worker = Arc::clone(&self);
                        tokio::spawn(worker.serve(next_id, stream, guard));
                    }
                    None => accepting = false,
                },
                _ = sweep.tick() => self.sweep(),
                changed = stage.changed() => if changed.is_err() {
                    return self.under_way();
                },
            }
        }
    }

    /// Applies the limits in time to every connection.
    fn sweep(&self) {
        let app = self.shared.app.load();
        let now = Instant::now();
        let body_bytes_max = u64::try_from(app.limits.body).unwrap_or(u64::MAX);
        for watch in self.lock().values() {
            match watch.judge(&app.timeouts, body_bytes_max, now) {
                Order::Serve => {}
                order @ (Order::Finish | Order::Cut) => watch.order(order),
            }
        }
    }

    fn finish_all(&self) {
        for watch in self.lock().values() {
            watch.order(Order::Finish);
        }
    }

    /// Requests whose answers have not been handed over whole.
    fn under_way(&self) -> usize {
        self.lock().values().map(|watch| watch.under_way()).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, from its TLS handshake to its end.
    async fn serve(self: Arc<Self>, id: u64, stream: std::net::TcpStream, guard: ConnectionGuard) {
        let _open = Leave { worker: &self, id, _guard: guard };
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let Some(tls) = self.shared.tls() else {
            return self.serve_http(id, stream, false).await;
        };
        let timeouts = self.shared.app.load().timeouts;
        match timeout(timeouts.handshake, accept_tls(&tls, stream)).await {
            Ok(Ok(stream)) => {
                let http2 = stream.ssl().selected_alpn_protocol() == Some(b"h2");
                self.serve_http(id, stream, http2).await;
            }
            Ok(Err(error)) => {
                self.shared.metrics.handshake_failed();
                tracing::debug!(error = %error, "TLS handshake failed");
            }
            Err(_) => {
                self.shared.metrics.handshake_failed();
                tracing::debug!("TLS handshake took too long");
            }
        }
    }

    async fn serve_http<S>(self: &Arc<Self>, id: u64, stream: S, is_http2: bool)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (timeouts, head_bytes_max) = {
            let app = self.shared.app.load();
            (app.timeouts, app.limits.head)
        };
        let spread = id.wrapping_mul(97).to_le_bytes()[0];
        let watch = Arc::new(Watch::new(is_http2, timeouts.age, spread, Instant::now()));
        self.lock().insert(id, Arc::clone(&watch));
        let io = TokioIo::new(Watched { stream, watch: Arc::clone(&watch) });
        let worker = Arc::clone(self);
        let seen = Arc::clone(&watch);
        let service = service_fn(move |request: Request<Incoming>| {
            let open = seen.begin(Instant::now());
            let worker = Arc::clone(&worker);
            async move { Ok::<_, Infallible>(worker.answer(request, open).await) }
        });
        let ended = if is_http2 {
            let connection = http2_builder(head_bytes_max).serve_connection(io, service);
            connection::drive(connection, &watch).await
        } else {
            let connection = http1_builder(head_bytes_max).serve_connection(io, service);
            connection::drive(connection, &watch).await
        };
        self.ended(ended);
    }

    /// Counts what hyper answered by itself, or did not answer.
    fn ended(&self, ended: Ended) {
        let outcome = match ended {
            Ended::Closed => return,
            Ended::Cut => Outcome::TooSlow,
            Ended::Failed(error) if error.is_parse_too_large() => Outcome::HeadTooLarge,
            Ended::Failed(error) if error.is_parse() => Outcome::BadRequest,
            Ended::Failed(error) => {
                tracing::debug!(error = %crate::telemetry::Chain(&error), "connection failed");
                return;
            }
        };
        self.shared.metrics.connection_ended(outcome);
    }

    /// One request: limits, `handle`, the answer, the log event. A panic ends this request and no other.
    async fn answer(self: Arc<Self>, request: Request<Incoming>, open: OpenRequest) -> Response<ReplyBody> {
        let received = Received::new(request, Instant::now(), wall_clock());
        let app = self.shared.app.load_full();
        let mut record = Record::new(Arc::clone(&app.metrics), &received);
        let in_flight = app.metrics.begin();
        let handled = if in_flight.count() > app.limits.in_flight {
            Err(Refusal::new(Outcome::OverCapacity, "too_many_in_flight"))
        } else {
            caught(pin!(handle(&app, &self.connections, received, &mut record))).await
        };
        let (mut response, outcome, refusal) = match handled {
            Ok(reply) => {
                let outcome = reply.outcome();
                let reason = reply.reason().map(|reason| (reason, None));
                (reply.into_response(), outcome, reason)
            }
            Err(refusal) => {
                let outcome = refusal.outcome;
                let text = refusal.message().map(str::to_owned);
                let reason = refusal.reason;
                (refusal.into_response(), outcome, Some((reason, text)))
            }
        };
        record.share(&mut response, outcome, refusal.as_ref().map(|(reason, _)| *reason));
        record.echo(response.headers_mut());
        if open.is_last() || app.is_draining() {
            response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        response.body_mut().hold(open, in_flight);
        let refusal = refusal.as_ref().map(|(reason, text)| (*reason, text.as_deref()));
        record.finish(response.status().as_u16(), outcome, refusal);
        response
    }
}

/// The handshake of the public listener.
async fn accept_tls(
    tls: &SslAcceptor,
    stream: TcpStream,
) -> Result<SslStream<TcpStream>, openssl::ssl::Error> {
    let mut stream = SslStream::new(Ssl::new(tls.context())?, stream)?;
    Pin::new(&mut stream).accept().await?;
    Ok(stream)
}

fn http1_builder(head_bytes_max: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None) // `connection` limits the head and all else
        .max_headers(HEADER_FIELDS_MAX)
        .max_header_size(head_bytes_max)
        .max_buf_size(head_bytes_max.max(HTTP1_BUFFER_BYTES));
    builder
}

fn http2_builder(head_bytes_max: usize) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        // What a sender may put into our memory before we know it, over all of its streams: hyper's default is 1 MiB.
        .initial_connection_window_size(256 * 1024)
        .initial_stream_window_size(64 * 1024)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
        // CVE-2023-44487, rapid reset
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        // What a client that does not read may make us hold for it, per stream.
        .max_send_buf_size(64 * 1024);
    builder
}

/// Runs a handler; a panic in it is one refused request. The panic hook has told the log where it was.
async fn caught<T>(mut handler: Pin<&mut impl Future<Output = Result<T, Refusal>>>) -> Result<T, Refusal> {
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(Refusal::new(Outcome::Panicked, "panic"))))
    })
    .await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: every decision about a request takes this one reading as an argument"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// A connection's place in its worker's books.
struct Leave<'w> {
    worker: &'w Worker,
    id: u64,
    _guard: ConnectionGuard,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.worker.lock().remove(&self.id);
        self.worker.open.fetch_sub(1, Relaxed);
    }
}

/// How often the limits in time are looked at: the error of every one of them.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Two frames of a body that comes in many; the head has a limit of its own.
const HTTP1_BUFFER_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::tests::{MINIMAL, parse},
        gateway::Gateway,
        metrics::Metrics,
        telemetry::Counts,
    };

    /// Whichever worker is joined first, the others are still open for connections when the deadline passes.
    #[tokio::test(start_paused = true)]
    async fn every_request_that_is_cut_is_counted() {
        let metrics = Arc::new(Metrics::new(Counts::default()));
        let config = parse(MINIMAL).unwrap();
        let app = Gateway::build(config, None, Arc::clone(&metrics), Arc::default(), None).unwrap();
        let worker = Arc::new(Worker {
            shared: Arc::new(Shared::new(app, metrics)),
            connections: Arc::default(),
            watches: Mutex::default(),
            open: Arc::default(),
        });
        let (_streams, received) = mpsc::unbounded_channel();
        let (stage, staged) = watch::channel(Stage::Serving);
        let watch = Arc::new(Watch::new(true, Duration::from_secs(600), 0, Instant::now()));
        worker.lock().insert(1, Arc::clone(&watch));
        let _requests = [watch.begin(Instant::now()), watch.begin(Instant::now())];
        let run = tokio::spawn(Arc::clone(&worker).run(received, staged));

        stage.send_replace(Stage::Finishing);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!run.is_finished());
        stage.send_replace(Stage::Cutting);
        let cut = timeout(Duration::from_secs(5), run).await.expect("it ends at once");
        assert_eq!(cut.unwrap(), 2);
    }
}
