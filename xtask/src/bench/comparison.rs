//! Runs the comparisons in interleaved rounds, and checks each round.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

use super::{
    load::{self, Connections, Generator, LoadResult, Requests},
    measures::{Measure, Tokens},
    resources,
    subjects::{Plan, Server, Subject, Subjects},
    traffic::{Mode, Traffic, token},
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

/// The CPU time per request of one server in all rounds of a row, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) server: Server,
    pub(super) microseconds: Vec<f64>,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) measure: Measure,
    pub(super) cells: Vec<Cell>,
}

/// Runs the rounds of the measures. Each round measures each server once, so that a change of the machine's
/// speed meets all of them.
pub(super) fn run(
    subjects: &mut Subjects,
    plan: &Plan,
    measures: &[Measure],
    size: Size,
) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = Vec::new();
    let mut supply = Supply::default();
    for measure in measures {
        let cells = measure.servers.iter().map(|server| Cell { server: *server, microseconds: Vec::new() });
        let mut row = Row { measure: *measure, cells: cells.collect() };
        supply.clear();
        let started = instant();
        // The first round warms up.
        for round in 0..=size.rounds {
            for cell in &mut row.cells {
                let subject = subjects
                    .of(cell.server, measure.tls)
                    .cloned()
                    .ok_or_else(|| format!("{} does not run", cell.server.name()))?;
                let requests = supply.requests(subjects, measure, &subject)?;
                let seconds = if round == 0 { 1 } else { size.seconds };
                let spent = one(subjects, plan, measure, &subject, &requests, seconds)
                    .map_err(|problem| format!("{}: {}: {problem}", cell.server.name(), measure.name))?;
                if round > 0 {
                    cell.microseconds.push(spent);
                }
            }
        }
        complain(&format!("bench: {}: {:.0} s", measure.title, started.elapsed().as_secs_f64()));
        rows.push(row);
    }
    Ok(rows)
}

/// Measures one server once.
fn one(
    subjects: &mut Subjects,
    plan: &Plan,
    measure: &Measure,
    subject: &Subject,
    requests: &Requests,
    seconds: u64,
) -> Result<f64, String> {
    let scheme = if measure.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}", subject.address);
    let status = measure.mode.status();
    let log = fs::metadata(&subject.log).map_or(0, |data| data.len());
    let before = resources::cpu_time(subject.process);
    let processes = &mut subjects.processes;
    let result = load::run(processes, plan, measure.generator, requests, &url, status, seconds)?;
    // The rest of the log is written.
    pause(SETTLE);
    let spent = resources::cpu_time(subject.process).saturating_sub(before);
    subjects.processes.check_running()?;
    check_resumptions(measure.generator, result)?;
    let lines = count_lines(&subject.log, log, subject.server, status)?;
    if lines < result.requests || lines > result.requests + result.uncounted {
        return Err(format!("{lines} log lines with {status} for {} requests", result.requests));
    }
    Ok(spent.as_secs_f64() * 1e6 / number(lines))
}

fn check_resumptions(generator: Generator, result: LoadResult) -> Result<(), String> {
    let resumed = result.resumed;
    // The first connections have no session yet.
    let expected = match generator {
        Generator::Own { connections: Connections::Resumed, .. } => {
            result.requests.saturating_sub(2 * load::CONNECTIONS)..=result.requests
        }
        Generator::Own { .. } | Generator::Wrk => 0..=0,
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
        let (mut first, mut bytes) = (Vec::new(), Vec::new());
        for index in 0..count {
            if measure.tokens != Tokens::Known {
                self.tokens += 1;
                traffic.use_token(token(self.tokens));
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

/// The logs are written several times a second.
const SETTLE: Duration = Duration::from_millis(700);
