//! The watchdog of a real process: a debugger stops one of its threads, and the feeding ends.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use super::NotifySocket;
use crate::support::{Gateway, Issuer, Settings, gateway::BINARY};

/// Starts the program of its arguments as its child, since a debugger of Ubuntu may stop its own children
/// only. Each line of its input names a thread to stop, or is `continue`.
const DEBUGGER: &str = r#"
import ctypes, os, sys
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
gateway = os.fork()
if gateway == 0:
    libc.prctl(1, 9)  # die with the debugger
    os.execv(sys.argv[1], sys.argv[1:])

def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        sys.exit("ptrace: " + os.strerror(ctypes.get_errno()))

def find(name):
    for thread in os.listdir(f"/proc/{gateway}/task"):
        if open(f"/proc/{gateway}/task/{thread}/comm").read().strip() == name:
            return int(thread)

stopped = None
for line in sys.stdin:
    if line.strip() == "continue":
        ptrace(DETACH, stopped)
    else:
        stopped = find(line.strip())
        ptrace(SEIZE, stopped)
        ptrace(INTERRUPT, stopped)
        os.waitpid(stopped, WALL)
"#;

#[tokio::test]
async fn the_watchdog_is_not_fed_while_a_thread_is_stopped() {
    let issuer = Issuer::start();
    let notify = NotifySocket::bind();
    let mut command = Command::new("python3");
    command.args(["-c", DEBUGGER, BINARY]).stdin(Stdio::piped()).stdout(Stdio::null());
    command.env("NOTIFY_SOCKET", notify.path()).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let mut gateway = Gateway::run(&Settings::without_fleet(&issuer), command).await;
    let mut debugger = gateway.take_stdin();
    let mut order = move |line: &str| writeln!(debugger, "{line}").unwrap();
    while notify.next().await != ["WATCHDOG=1"] {}

    let workers = std::thread::available_parallelism().unwrap().get();
    let mut stops: Vec<_> = (0..workers).map(|number| (format!("worker-{number}"), None)).collect();
    stops.push(("switchboard".to_owned(), Some(["acceptor", "control thread"])));
    for (number, (thread, parts)) in stops.into_iter().enumerate() {
        let silent: BTreeSet<_> = match parts {
            Some(parts) => parts.map(str::to_owned).into(),
            None => BTreeSet::from([thread.clone()]),
        };
        order(&thread);
        // The log of a busy machine may name another thread first, for a moment.
        gateway
            .log
            .event(&thread, |event| {
                event["message"] == "watchdog not fed: threads do not respond"
                    && event["threads"].as_str().is_some_and(|threads| {
                        threads.split(", ").map(str::to_owned).collect::<BTreeSet<_>>() == silent
                    })
            })
            .await;
        let mut bytes = [0; 64];
        while notify.socket.try_recv(&mut bytes).is_ok() {}
        let fed =
            timeout(2 * WATCHDOG, async { while !notify.next().await.contains(&"WATCHDOG=1".to_owned()) {} });
        assert!(fed.await.is_err(), "{thread}: fed while it is stopped");
        order("continue");
        while notify.next().await != ["WATCHDOG=1"] {}
        assert!(number <= workers);
    }
}

/// Longer than any thread of a busy machine needs to respond, most of the time.
const WATCHDOG: Duration = Duration::from_secs(1);
