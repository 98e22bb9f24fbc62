//! The messages to the service manager, and the watchdog that it expects.
//!
//! A thread of its own sends them. A message waits while the service manager is busy, and no other thread may
//! wait with it. The watchdog must also notice a control thread that hangs.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::process::systemd::heartbeats::{Heartbeat, Heartbeats};

/// The thread that sends the messages.
#[derive(Debug)]
pub struct NotifierThread {
    notifier: Notifier,
    ended: Receiver<()>,
}

impl NotifierThread {
    /// Starts the thread if `NOTIFY_SOCKET` is set.
    ///
    /// # Errors
    ///
    /// The thread cannot start.
    #[cfg(target_os = "linux")]
    pub fn start() -> io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self::inert());
        }
        Self::start_with(sd_notify::watchdog_enabled(), send)
    }

    /// Other systems have no service manager of this kind.
    ///
    /// # Errors
    ///
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn start() -> io::Result<Self> {
        Ok(Self::inert())
    }

    fn inert() -> Self {
        let (_, ended) = mpsc::channel();
        Self { notifier: Notifier::default(), ended }
    }

    /// Starts a thread that passes its messages to `send`. `watchdog` is the longest time between two
    /// [`Message::Alive`].
    pub(crate) fn start_with(
        watchdog: Option<Duration>,
        send: impl FnMut(&Message) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (messages, received) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let notifier = Notifier { messages: Some(messages), heartbeats: Arc::default() };
        let heartbeats = Arc::clone(&notifier.heartbeats);
        let period = watchdog.filter(|time| !time.is_zero()).map(|time| (time / 4).max(PERIOD_MIN));
        let mut outbox = Outbox { send, is_failing: false, is_stopping: false };
        std::thread::Builder::new().name("notifier".to_owned()).spawn(move || {
            outbox.run(&received, &heartbeats, period);
            drop(end);
        })?;
        Ok(Self { notifier, ended })
    }

    /// The sender of messages.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Waits until the messages so far are sent, though not for a service manager that hangs.
    pub fn finish(self) {
        self.notifier.send(Message::End);
        // Returns when the thread drops the other end.
        let _ = self.ended.recv_timeout(FINISH_TIME_MAX);
    }
}

/// Sends messages to the service manager. Without one, sends nothing.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    messages: Option<Sender<Message>>,
    heartbeats: Arc<Heartbeats>,
}

impl Notifier {
    /// Returns true if a service manager receives the messages.
    pub(crate) fn is_active(&self) -> bool {
        self.messages.is_some()
    }

    /// Sends a message, in order. Does not wait.
    pub(crate) fn send(&self, message: Message) {
        if let Some(messages) = &self.messages {
            // The thread has ended after `finish` only.
            let _ = messages.send(message);
        }
    }

    /// Adds a part that the watchdog supervises.
    pub(crate) fn heartbeat(&self, name: impl Into<String>) -> Heartbeat {
        self.heartbeats.register(name)
    }
}

/// A message to the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The listeners accept connections; with the status. The watchdog starts with it.
    Ready(String),
    /// A reload has started.
    Reloading,
    /// The last reload has ended: it applies, or was refused.
    Reloaded,
    /// A drain has started; with the status.
    Stopping(String),
    /// One sentence about the state of the gateway.
    Status(String),
    /// All supervised parts respond.
    Alive,
    /// The last message: ends the thread.
    End,
}

/// Sends a message to the socket that `NOTIFY_SOCKET` names.
#[cfg(target_os = "linux")]
fn send(message: &Message) -> io::Result<()> {
    use sd_notify::{NotifyState, notify};
    match message {
        Message::Ready(status) => notify(&[NotifyState::Ready, NotifyState::Status(status)]),
        // Newer versions of systemd require the time in the same message.
        Message::Reloading => notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
        Message::Reloaded => notify(&[NotifyState::Ready]),
        Message::Stopping(status) => notify(&[NotifyState::Stopping, NotifyState::Status(status)]),
        Message::Status(status) => notify(&[NotifyState::Status(status)]),
        Message::Alive => notify(&[NotifyState::Watchdog]),
        Message::End => Ok(()),
    }
}

/// The sending thread.
struct Outbox<S> {
    send: S,
    /// The last message could not be sent.
    is_failing: bool,
    /// A drain has started: a reload that ends now must not make the service ready again.
    is_stopping: bool,
}

impl<S: FnMut(&Message) -> io::Result<()>> Outbox<S> {
    /// Sends the messages until [`Message::End`]. From [`Message::Ready`] on it probes all parts once in each
    /// `period`, and feeds the watchdog if all of them have responded.
    ///
    /// The period is a quarter of the time after which the service manager acts: a response that is late for
    /// one probe does no harm.
    fn run(&mut self, messages: &Receiver<Message>, heartbeats: &Heartbeats, period: Option<Duration>) {
        let mut due: Option<Instant> = None;
        let mut silent = Vec::new();
        loop {
            let message = match due {
                Some(due) => messages.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => {
                    if matches!(message, Message::Ready(_)) {
                        heartbeats.probe();
                        due = period.map(|period| Instant::now() + period);
                    }
                    self.send(&message);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now_silent = heartbeats.silent();
                    if now_silent.is_empty() {
                        self.send(&Message::Alive);
                        heartbeats.probe();
                    }
                    if silent != now_silent {
                        report(&now_silent);
                        silent = now_silent;
                    }
                    due = period.map(|period| Instant::now() + period);
                }
            }
        }
    }

    fn send(&mut self, message: &Message) {
        self.is_stopping |= matches!(message, Message::Stopping(_));
        if self.is_stopping && matches!(message, Message::Reloading | Message::Reloaded) {
            return;
        }
        let sent = (self.send)(message);
        if let Err(error) = &sent
            && !self.is_failing
        {
            tracing::warn!(error = %error, "cannot notify the service manager");
        }
        self.is_failing = sent.is_err();
    }
}

fn report(silent: &[String]) {
    if silent.is_empty() {
        tracing::info!("watchdog fed again: all threads respond");
    } else {
        tracing::error!(threads = silent.join(", "), "watchdog not fed: threads do not respond");
    }
}

/// Keeps a tiny `WatchdogSec` from using up a processor.
const PERIOD_MIN: Duration = Duration::from_millis(10);
/// The service manager reads within milliseconds.
const FINISH_TIME_MAX: Duration = Duration::from_secs(1);
