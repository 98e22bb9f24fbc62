//! The load generator: each connection sends its next request when it has the response to the last one, and,
//! with a schedule, when the next request is due.

use std::{
    cell::{Cell, RefCell},
    io::{self, Write as _},
    rc::Rc,
    time::Duration,
};

use serde_json::json;
use tokio::{
    task::{JoinSet, LocalSet},
    time::Instant,
};

use crate::{
    connector::Connector,
    requests::{Requests, exchange},
    schedule::Schedule,
    target::Target,
};

/// Sends `count` requests and prints the result. An error or another status is counted, and its connection is
/// opened again.
pub(crate) async fn run(
    target: &Target,
    count: usize,
    expect: u16,
    close: bool,
    rate: Option<u32>,
) -> Result<(), String> {
    let requests = Requests::read(target)?;
    let load = Rc::new(Load {
        requests,
        connector: Connector::new(target.to, target.tls)?,
        count,
        expect,
        close,
        schedule: rate.map(|rate| Schedule::start(count, rate)),
        next: Cell::new(0),
        times: RefCell::new(Vec::with_capacity(count)),
        failure: RefCell::default(),
        failures: Cell::new(0),
        resumed: Cell::new(0),
    });
    let started = Instant::now();
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let mut connections = JoinSet::new();
            for _ in 0..target.connections {
                let load = Rc::clone(&load);
                connections.spawn_local(async move { load.send().await });
            }
            while connections.join_next().await.is_some() {}
        })
        .await;
    let seconds = started.elapsed().as_secs_f64();
    let mut times = load.times.take();
    times.sort_unstable();
    let percentile = |percent: usize| times.get(times.len() * percent / 100).map(Duration::as_micros);
    let result = json!({
        "requests": times.len(),
        "failures": load.failures.get(),
        "failure": load.failure.take(),
        "resumed": load.resumed.get(),
        "seconds": seconds,
        "p50_us": percentile(50),
        "p99_us": percentile(99),
    });
    writeln!(io::stdout(), "{result}").map_err(|error| error.to_string())
}

struct Load {
    requests: Requests,
    connector: Connector,
    count: usize,
    expect: u16,
    close: bool,
    schedule: Option<Schedule>,
    /// The number of the next request.
    next: Cell<usize>,
    /// The times of the responses with the expected status.
    times: RefCell<Vec<Duration>>,
    /// The first failure.
    failure: RefCell<Option<String>>,
    failures: Cell<usize>,
    /// Connections that resumed a TLS session.
    resumed: Cell<usize>,
}

impl Load {
    /// Sends requests over one connection at a time.
    async fn send(&self) {
        let mut connection = None;
        let (mut request, mut buffer) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
        loop {
            let due = match &self.schedule {
                None => Some(Instant::now()),
                Some(schedule) => schedule.next().await,
            };
            let Some(started) = due else { return };
            let number = self.next.get();
            if number >= self.count {
                return;
            }
            self.next.set(number + 1);
            self.requests.write(number, &mut request);
            let exchanged = async {
                let stream = match &mut connection {
                    Some(stream) => stream,
                    none => none.insert(self.connector.connect().await.inspect(|stream| {
                        self.resumed.set(self.resumed.get() + usize::from(stream.is_resumed()));
                    })?),
                };
                exchange(stream, &request, &mut buffer).await
            };
            match exchanged.await {
                Ok(status) if status == self.expect => self.times.borrow_mut().push(started.elapsed()),
                Ok(status) => self.fail(&mut connection, &mut buffer, format!("status {status}")),
                Err(error) => self.fail(&mut connection, &mut buffer, error),
            }
            if self.close
                && let Some(stream) = connection.take()
            {
                stream.close().await;
            }
        }
    }

    fn fail<C>(&self, connection: &mut Option<C>, buffer: &mut Vec<u8>, failure: String) {
        *connection = None;
        buffer.clear();
        self.failures.set(self.failures.get() + 1);
        self.failure.borrow_mut().get_or_insert(failure);
    }
}
