//! Runs the comparisons in interleaved rounds, and checks each round.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

use super::{
    load::{self, Connections, Generator, Load, LoadResult, Requests},
    measures::{Measure, Tokens},
    resources,
    subjects::{Plan, Server, Subject, Subjects},
    traffic::{Mode, Traffic, tokens},
};
use crate::{
    console::complain,
    support::{instant, pause},
};

/// The size of a comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) rounds: usize,
    /// The time of a round with wrk.
    pub(super) seconds: u64,
}

/// The rounds of one server in a row.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) server: Server,
    pub(super) rounds: Vec<Round>,
}

/// The result of one server in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// The CPU time per request, in microseconds.
    pub(super) cpu_us: f64,
    /// The 99th percentile of the times of the responses, at a constant rate.
    pub(super) p99_us: Option<f64>,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) measure: Measure,
    /// The requests per second, if they are constant.
    pub(super) rate: Option<u32>,
    pub(super) cells: Vec<Cell>,
}

/// Runs the rounds of the measures.
pub(super) fn run(
    subjects: &mut Subjects,
    plan: &Plan,
    measures: &[Measure],
    size: Size,
) -> Result<Vec<Row>, String> {
    let mut comparison = Comparison { subjects, plan, size, supply: Supply::default(), messages: 0 };
    measures.iter().map(|measure| comparison.row(measure)).collect()
}

struct Comparison<'a> {
    subjects: &'a mut Subjects,
    plan: &'a Plan,
    size: Size,
    supply: Supply,
    /// The numbers of message ids that were used. A message id that comes again would be a retry.
    messages: u64,
}

impl Comparison<'_> {
    /// Each round measures each server once, so that a change of the machine's speed meets all of them.
    fn row(&mut self, measure: &Measure) -> Result<Row, String> {
        let cells = measure.servers.iter().map(|server| Cell { server: *server, rounds: Vec::new() });
        let mut cells: Vec<_> = cells.collect();
        self.supply.clear();
        let started = instant();
        let rate = match measure.generator {
            Generator::Paced => Some(self.half_load(measure)?),
            Generator::Wrk | Generator::Own { .. } => None,
        };
        // The first round warms up.
        for round in 0..=self.size.rounds {
            for cell in &mut cells {
                let seconds = if round == 0 { 1 } else { self.size.seconds };
                let result = self.round(measure, cell.server, seconds, rate)?;
                if round > 0 {
                    cell.rounds.push(result);
                }
            }
        }
        complain(&format!("bench: {}: {:.0} s", measure.title, started.elapsed().as_secs_f64()));
        Ok(Row { measure: *measure, rate, cells })
    }

    /// Half of the requests per second for which the gateway would need one processor.
    fn half_load(&mut self, measure: &Measure) -> Result<u32, String> {
        let measure = Measure { generator: Generator::own(CALIBRATION), ..*measure };
        self.round(&measure, Server::Gateway, 1, None)?;
        let busy = self.round(&measure, Server::Gateway, 1, None)?;
        Ok(whole(1e6 / busy.cpu_us / 2.0))
    }

    /// Measures one server once.
    fn round(
        &mut self,
        measure: &Measure,
        server: Server,
        seconds: u64,
        rate: Option<u32>,
    ) -> Result<Round, String> {
        let problem = |problem: String| format!("{}: {}: {problem}", server.name(), measure.name);
        let subject = self.subjects.of(server, measure.tls).cloned();
        let subject = subject.ok_or_else(|| problem("it does not run".to_owned()))?;
        let requests = self.supply.requests(self.subjects, measure, &subject)?;
        self.load(measure, &subject, &requests, seconds, rate).map_err(problem)
    }

    fn load(
        &mut self,
        measure: &Measure,
        subject: &Subject,
        requests: &Requests,
        seconds: u64,
        rate: Option<u32>,
    ) -> Result<Round, String> {
        let status = measure.mode.status();
        let scheme = if measure.tls { "https" } else { "http" };
        let load = Load {
            generator: measure.generator,
            url: format!("{scheme}://{}", subject.address),
            requests,
            first_message: self.messages,
            status,
            seconds,
            rate,
        };
        let log_length = subject.log.as_deref().and_then(|log| fs::metadata(log).ok());
        let log_length = log_length.map_or(0, |data| data.len());
        let before = resources::cpu_time(subject.process);
        let result = load.run(&mut self.subjects.processes, self.plan)?;
        let ended = instant();
        self.messages += result.requests + result.uncounted;
        let lines = loop {
            // The rest of the log is written.
            pause(SETTLE);
            let lines = match &subject.log {
                Some(log) => count_lines(log, log_length, subject.server, status)?,
                None => result.requests,
            };
            if lines >= result.requests || ended.elapsed() > LOG_TIME_MAX {
                break lines;
            }
        };
        let spent = resources::cpu_time(subject.process).saturating_sub(before);
        self.subjects.processes.check_running()?;
        check_resumptions(measure.generator, result)?;
        if lines < result.requests || lines > result.requests + result.uncounted {
            return Err(format!("{lines} log lines with {status} for {} requests", result.requests));
        }
        Ok(Round {
            cpu_us: spent.as_secs_f64() * 1e6 / number(lines),
            p99_us: result.p99_us.filter(|_| rate.is_some()),
        })
    }
}

fn check_resumptions(generator: Generator, result: LoadResult) -> Result<(), String> {
    let resumed = result.resumed;
    // The first connections have no session yet.
    let expected = match generator {
        Generator::Own { connections: Connections::Resumed, .. } => {
            result.requests.saturating_sub(2 * load::CONNECTIONS)..=result.requests
        }
        Generator::Own { .. } | Generator::Paced | Generator::Wrk => 0..=0,
    };
    if expected.contains(&resumed) { Ok(()) } else { Err(format!("{resumed} connections resumed a session")) }
}

/// The lines of a log from an offset on that have the status.
fn count_lines(path: &Path, offset: u64, server: Server, status: u16) -> Result<u64, String> {
    let marker = if server.is_gateway() {
        format!("\"http.response.status_code\":{status}")
    } else {
        format!("\"status\":{status}")
    };
    let count = || -> std::io::Result<u64> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let (mut reader, mut line, mut lines) = (BufReader::new(file), String::new(), 0);
        while reader.read_line(&mut line)? > 0 {
            lines += u64::from(line.contains(&marker));
            line.clear();
        }
        Ok(lines)
    };
    count().map_err(|error| format!("{}: {error}", path.display()))
}

/// Makes the files of requests.
#[derive(Default)]
struct Supply {
    /// The numbers of tokens and calls that were used.
    tokens: u64,
    calls: u64,
    /// The files that all rounds of a row use, by the path in their requests.
    kept: Vec<(String, Requests)>,
}

impl Supply {
    /// Forgets the files of the last row.
    fn clear(&mut self) {
        self.kept.clear();
    }

    /// The requests of the next round for a server. New tokens and calls are new to a gateway in each round;
    /// the other servers see no difference.
    fn requests(
        &mut self,
        subjects: &Subjects,
        measure: &Measure,
        subject: &Subject,
    ) -> Result<Requests, String> {
        let is_fresh = measure.tokens == Tokens::New || measure.mode == Mode::NewCall;
        if !(is_fresh && subject.server.is_gateway())
            && let Some((_, requests)) = self.kept.iter().find(|(path, _)| *path == subject.callback_path)
        {
            return Ok(requests.clone());
        }
        let count = match (measure.generator, measure.tokens) {
            (_, Tokens::Rotating(count)) => count,
            (Generator::Own { count, .. }, _) if is_fresh => count,
            _ => 1,
        };
        let mut traffic = Traffic::new(&subject.callback_path);
        traffic.skip_calls(self.calls);
        let mut new_tokens = Vec::new();
        if measure.tokens != Tokens::Known {
            new_tokens = tokens(self.tokens + 1, count)?;
            self.tokens += u64::try_from(count).unwrap_or_default();
        }
        let mut new_tokens = new_tokens.into_iter();
        let (mut first, mut bytes) = (Vec::new(), Vec::new());
        for index in 0..count {
            if let Some(token) = new_tokens.next() {
                traffic.use_token(token);
            }
            let request = traffic.request(measure.mode);
            if index == 0 {
                first.clone_from(&request);
            }
            bytes.extend(request);
        }
        if measure.mode == Mode::NewCall {
            self.calls += u64::try_from(count).unwrap_or_default();
        }
        let name = format!("requests-{}", subject.callback_path.replace('/', "-"));
        let file = subjects.processes.folder().join(name);
        fs::write(&file, bytes).map_err(|error| format!("{}: {error}", file.display()))?;
        let requests = Requests { first, file };
        self.kept.retain(|(path, _)| *path != subject.callback_path);
        self.kept.push((subject.callback_path.clone(), requests.clone()));
        Ok(requests)
    }
}

#[expect(clippy::as_conversions, reason = "a count of requests is far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates; a rate is a positive number"
)]
fn whole(rate: f64) -> u32 {
    rate as u32
}

/// The requests that show what the gateway can handle.
const CALIBRATION: usize = 30_000;
/// The logs are written several times a second.
const SETTLE: Duration = Duration::from_millis(700);
/// A log is late on a busy machine.
const LOG_TIME_MAX: Duration = Duration::from_secs(10);
