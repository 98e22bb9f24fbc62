//! The drain: the gateway accepts connections for a while longer, then finishes the requests in flight until
//! a deadline.

use std::{io, time::Duration};

use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    config::Drain,
    process::{
        connection::Shutdown,
        server::{accept::Workers, command::ProcessCommand, listeners::Listener},
        tasks::Tasks,
    },
};

/// The times of a drain that has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainSchedule {
    /// New connections are accepted until then: the balancer needs time to notice.
    stop_accepting: Instant,
    /// Requests and actions that are still in flight then are cut off.
    pub(super) deadline: Instant,
}

impl DrainSchedule {
    /// Starts a drain now. Without a delay if the listener is inherited: its new connections wait for the
    /// next process, which starts when this one has ended.
    pub(super) fn start(settings: Drain, is_inherited: bool) -> Self {
        let now = Instant::now();
        let deadline_ms = milliseconds(settings.deadline);
        if is_inherited {
            tracing::info!(deadline_ms, "drain started: new connections wait for the next process");
            return Self { stop_accepting: now, deadline: now + settings.deadline };
        }
        tracing::info!(
            delay_ms = milliseconds(settings.delay),
            deadline_ms,
            "drain started: no longer ready, still accepting connections"
        );
        Self { stop_accepting: now + settings.delay, deadline: now + settings.deadline }
    }
}

/// Waits until the drain stops accepting connections; forever without a drain.
pub(super) async fn accepting_stops(schedule: Option<DrainSchedule>) {
    match schedule {
        Some(schedule) => sleep_until(schedule.stop_accepting).await,
        None => std::future::pending().await,
    }
}

/// Accepts the connections that wait in the backlog of `listener`, then closes it. Their clients believe that
/// they are connected, and may have sent requests: closing the listener would reset them.
///
/// Later connections to an inherited listener wait for the next process. This one does not know whether there
/// will be one, so it leaves none behind that it can serve.
pub(super) async fn close(listener: Listener, workers: &Workers, deadline: Instant) {
    // The listener of tokio learns of a connection later than the operating system.
    let Ok(listener) = listener.socket.into_std() else { return };
    let accept_all = async {
        for _ in 0..BACKLOG {
            let accepted = listener.accept();
            if accepted.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
            let accepted = accepted.and_then(|(stream, address)| {
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, address))
            });
            workers.dispatch(accepted).await;
        }
    };
    // A lack of descriptors makes each accept wait.
    let _ = timeout_at(deadline.min(Instant::now() + BACKLOG_TIME_MAX), accept_all).await;
}

/// The requests and actions that did not finish before the deadline.
#[derive(Clone, Copy, Debug)]
struct CutOff {
    requests: usize,
    /// Includes actions whose request had finished.
    actions: usize,
}

/// Closes idle connections, waits for what is in flight until `deadline`, and cuts off the rest. Returns true
/// if nothing was cut off.
pub(super) async fn finish(
    workers: Workers,
    tasks: &Tasks,
    shutdown: &watch::Sender<Shutdown>,
    commands: &mut mpsc::Receiver<ProcessCommand>,
    deadline: Instant,
) -> bool {
    shutdown.send_replace(Shutdown::Graceful);
    // A blocking thread joins the workers: this runtime still serves the admin listener.
    let mut joined: JoinHandle<usize> = tokio::task::spawn_blocking(move || workers.join());
    // Workers first: their requests may start tasks.
    let mut requests = None;
    let finished = async {
        requests = Some((&mut joined).await.unwrap_or(1));
        tasks.finished().await;
    };
    tokio::select! {
        () = finished => {}
        () = deadline_or_command(commands, deadline) => {}
    }
    shutdown.send_replace(Shutdown::Immediate);
    let requests = match requests {
        Some(requests) => requests,
        None => joined.await.unwrap_or(1),
    };
    report(CutOff { requests, actions: tasks.in_flight() })
}

/// Waits for the deadline, or for another drain command, which skips it.
async fn deadline_or_command(commands: &mut mpsc::Receiver<ProcessCommand>, deadline: Instant) {
    let repeated = async {
        loop {
            match commands.recv().await {
                Some(ProcessCommand::Drain) => return,
                Some(ProcessCommand::Reload) => {}
                None => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = sleep_until(deadline) => {}
        () = repeated => {}
    }
}

fn report(cut_off: CutOff) -> bool {
    let CutOff { requests, actions } = cut_off;
    let is_clean = requests == 0 && actions == 0;
    if is_clean {
        tracing::info!("drain finished: nothing was cut off");
    } else {
        tracing::warn!(requests, actions, "drain deadline passed: requests were cut off");
    }
    is_clean
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The most connections that wait in the backlog. More come from clients that go on connecting.
const BACKLOG: usize = 1024;
/// The backlog is emptied in milliseconds unless the gateway lacks descriptors.
const BACKLOG_TIME_MAX: Duration = Duration::from_secs(1);
