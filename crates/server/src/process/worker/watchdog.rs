//! The watchdog with real threads and runtimes: it is fed until one of them stops.

use std::{sync::mpsc as std_mpsc, thread};

use tokio::runtime::{Builder, Handle};

use super::{tests::worker, *};
use crate::process::systemd::{Message, Notifier, NotifierThread};

/// Two workers, and a control thread with an acceptor, each with its own runtime, under a watchdog.
struct Supervised {
    notifier: NotifierThread,
    messages: std_mpsc::Receiver<Message>,
    /// The runtimes by the name of the supervised part.
    runtimes: Vec<(&'static str, Handle)>,
    shutdown: watch::Sender<Shutdown>,
    streams: Vec<mpsc::UnboundedSender<AcceptedConnection>>,
    threads: Vec<JoinHandle<()>>,
}

impl Supervised {
    fn start() -> Self {
        let (sender, messages) = std_mpsc::channel();
        let send = move |message: &Message| sender.send(message.clone()).map_err(io::Error::other);
        let notifier = NotifierThread::start_with(Some(WATCHDOG), send).unwrap();
        let (shutdown, requested) = watch::channel(Shutdown::None);
        let mut supervised = Self {
            messages,
            runtimes: Vec::new(),
            shutdown,
            streams: Vec::new(),
            threads: Vec::new(),
            notifier,
        };
        for name in ["worker-0", "worker-1"] {
            supervised.start_worker(name, requested.clone());
        }
        for name in ["acceptor", "control thread"] {
            supervised.start_loop(name, requested.clone());
        }
        supervised.notifier.notifier().send(Message::Ready("serving".to_owned()));
        supervised
    }

    fn start_worker(&mut self, name: &'static str, requested: watch::Receiver<Shutdown>) {
        let (streams, received) = mpsc::unbounded_channel();
        self.streams.push(streams);
        let notifier = self.notifier.notifier();
        self.start_thread(name, move || async move {
            let mut heartbeat = notifier.heartbeat(name);
            worker().run(received, requested, &mut heartbeat).await;
            heartbeat.end();
        });
    }

    fn start_loop(&mut self, name: &'static str, mut requested: watch::Receiver<Shutdown>) {
        let notifier: Notifier = self.notifier.notifier();
        self.start_thread(name, move || async move {
            let mut heartbeat = notifier.heartbeat(name);
            loop {
                tokio::select! {
                    () = heartbeat.respond() => {}
                    _ = requested.changed() => return heartbeat.end(),
                }
            }
        });
    }

    /// Returns when the part is registered.
    fn start_thread<F: Future<Output = ()>>(
        &mut self,
        name: &'static str,
        part: impl FnOnce() -> F + Send + 'static,
    ) {
        let (started, handle) = std_mpsc::channel();
        self.threads.push(thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let mut part = Box::pin(part());
            runtime.block_on(async {
                // The first poll registers the part.
                let _ = timeout(Duration::ZERO, &mut part).await;
                started.send(Handle::current()).unwrap();
                part.await;
            });
            runtime.shutdown_background();
        }));
        self.runtimes.push((name, handle.recv().unwrap()));
    }

    /// Waits for the next message about the watchdog.
    fn is_fed_within(&self, time: Duration) -> bool {
        self.messages.recv_timeout(time).is_ok_and(|message| message == Message::Alive)
    }

    fn stop(self) {
        self.shutdown.send_replace(Shutdown::Immediate);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.notifier.finish();
    }
}

/// A thread that blocks is noticed, and so is its return.
#[test]
fn the_watchdog_is_not_fed_while_one_thread_is_blocked() {
    for stopped in 0..4 {
        let supervised = Supervised::start();
        assert_eq!(supervised.messages.recv_timeout(WAIT_MAX).unwrap(), Message::Ready("serving".into()));
        assert!(supervised.is_fed_within(WAIT_MAX));
        let (name, runtime) = &supervised.runtimes[stopped];
        let (release, released) = std_mpsc::channel::<()>();
        let (blocks, blocked) = std_mpsc::channel();
        runtime.spawn(async move {
            blocks.send(()).unwrap();
            let _ = released.recv();
        });
        blocked.recv_timeout(WAIT_MAX).unwrap();
        // It may have responded to the last probe before it was blocked, and messages may wait to be read.
        let fed = (0..FED_MAX).take_while(|_| supervised.is_fed_within(3 * WATCHDOG)).count();
        assert!(fed < FED_MAX, "{name}: the watchdog is fed on and on");
        release.send(()).unwrap();
        assert!(supervised.is_fed_within(WAIT_MAX), "{name}: not fed again");
        supervised.stop();
    }
}

/// Parts that have done their work are no longer supervised: a drain ends them one after the other.
#[test]
fn the_watchdog_is_fed_during_a_drain() {
    let supervised = Supervised::start();
    assert!(!supervised.is_fed_within(WAIT_MAX), "the first message is the readiness");
    supervised.notifier.notifier().send(Message::Stopping("draining".to_owned()));
    let stopping = Message::Stopping("draining".to_owned());
    while supervised.messages.recv_timeout(WAIT_MAX).unwrap() != stopping {}
    supervised.shutdown.send_replace(Shutdown::Immediate);
    for thread in supervised.threads {
        thread.join().unwrap();
    }
    for _ in 0..3 {
        assert_eq!(supervised.messages.recv_timeout(WAIT_MAX), Ok(Message::Alive));
    }
    supervised.notifier.finish();
}

/// Short, so that the test is. A thread that responds late on a busy machine delays the feeding only.
const WATCHDOG: Duration = Duration::from_millis(200);
/// The messages of ten seconds.
const FED_MAX: usize = 200;
const WAIT_MAX: Duration = Duration::from_secs(30);
