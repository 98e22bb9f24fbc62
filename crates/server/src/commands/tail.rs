//! `switchboard tail`: the requests of running gateways as they end.
//!
//! Reading order: `event_parser` (the format of the stream), `follow` (the stream of one gateway), `rows`
//! (the lines of the output).

mod event_parser;
mod follow;
mod rows;

use std::{
    collections::HashSet,
    io::{self, ErrorKind},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::ctrl_c,
    sync::mpsc,
    time::{Instant, timeout_at},
};
use url::form_urlencoded;

use self::{
    follow::{Followed, follow},
    rows::{Rows, json_line, time_of},
};
use super::{
    gateways::{AskError, Gateways},
    output::{FAILURE, complain, is_coloured, write},
};
use crate::{
    cli::{EX_USAGE, TailArgs},
    telemetry::Chain,
};

/// `switchboard tail`: exit 0 after Ctrl-C, 1 if no gateway can be followed.
pub fn tail(args: &TailArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), FAILURE),
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let is_usage = matches!(error, TailError::Ask(AskError::Token { .. }));
            complain(&Chain(&error).to_string(), if is_usage { EX_USAGE } else { FAILURE })
        }
    }
}

async fn run(args: &TailArgs) -> Result<(), TailError> {
    let gateways = Gateways::new(&args.admin)?;
    let query = query(args);
    let (out, mut news) = mpsc::channel(NEWS_MAX);
    for (index, gateway) in gateways.iter().enumerate() {
        tokio::spawn(follow(Arc::clone(gateway), index, query.clone(), out.clone()));
    }
    drop(out);
    let mut screen = Screen::new(&gateways, args.admin.json);
    let mut end = pin!(ctrl_c());
    loop {
        let batch = tokio::select! {
            batch = batch(&mut news, gateways.is_one()) => batch,
            ended = &mut end => return ended.map_err(TailError::Signal),
        };
        match screen.show(batch) {
            // The reader of stdout has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            shown => shown.map_err(TailError::Write)?,
        }
        if !screen.may_go_on() {
            return Err(TailError::NoGateway);
        }
    }
}

/// The query of `/events`.
fn query(args: &TailArgs) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(args.call.iter().map(|call| ("call", call)));
    query.extend_pairs(args.outcomes.iter().map(|outcome| ("outcome", outcome)));
    query.finish()
}

/// Waits for news. With several gateways, collects them for a moment, so that their requests can be sorted.
async fn batch(news: &mut mpsc::Receiver<(usize, Followed)>, is_one: bool) -> Vec<(usize, Followed)> {
    let mut batch: Vec<_> = news.recv().await.into_iter().collect();
    let until = Instant::now() + SORT_TIME;
    while !is_one
        && batch.len() < NEWS_MAX
        && let Ok(Some(next)) = timeout_at(until, news.recv()).await
    {
        batch.push(next);
    }
    batch
}

/// The output: requests to stdout, everything else to stderr.
struct Screen<'g> {
    gateways: &'g Gateways,
    /// `None` for JSON.
    rows: Option<Rows>,
    /// The gateways of which the first attempt has not ended.
    awaited: HashSet<usize>,
    /// The gateways whose stream is open.
    open: HashSet<usize>,
    given_up: HashSet<usize>,
    /// True if a stream was ever open.
    has_begun: bool,
}

impl<'g> Screen<'g> {
    fn new(gateways: &'g Gateways, as_json: bool) -> Self {
        let rows = || Rows::new(gateways.iter().map(|gateway| gateway.name()), is_coloured());
        Self {
            gateways,
            rows: (!as_json).then(rows),
            awaited: (0..gateways.iter().count()).collect(),
            open: HashSet::new(),
            given_up: HashSet::new(),
            has_begun: false,
        }
    }

    /// Returns false if no gateway could be followed from the start, or all of them have been given up.
    fn may_go_on(&self) -> bool {
        let has_failed = self.awaited.is_empty() && !self.has_begun;
        !has_failed && self.given_up.len() < self.gateways.iter().count()
    }

    fn show(&mut self, batch: Vec<(usize, Followed)>) -> io::Result<()> {
        let mut text = String::new();
        let mut requests = Vec::new();
        for (index, followed) in batch {
            match followed {
                Followed::Request(line) => requests.push((index, line)),
                Followed::Note(note) => self.note(index, &note),
                Followed::Opened => {
                    self.open.insert(index);
                    if !self.awaited.remove(&index) {
                        self.note(index, "connected");
                    }
                    if let (false, Some(rows)) = (self.has_begun, &mut self.rows) {
                        text.push_str(&rows.head());
                        text.push('\n');
                    }
                    self.has_begun = true;
                }
                // A gateway that stays away is named once.
                Followed::Lost(error) if self.awaited.remove(&index) => {
                    self.note(index, &Chain(&error).to_string());
                }
                Followed::Lost(error) => {
                    if self.open.remove(&index) {
                        self.note(index, &format!("{}; trying again", Chain(&error)));
                    }
                }
                Followed::GivenUp(error) => {
                    self.awaited.remove(&index);
                    self.open.remove(&index);
                    self.given_up.insert(index);
                    self.note(index, &Chain(&error).to_string());
                }
            }
        }
        requests.sort_by_cached_key(|(_, line)| time_of(line));
        for (index, line) in &requests {
            let Some(gateway) = self.gateways.get(*index) else { continue };
            let url = (!self.gateways.is_one()).then(|| gateway.url());
            let shown = match &mut self.rows {
                Some(rows) => Some(rows.row(gateway.name(), line)),
                None => json_line(line, url),
            };
            match shown {
                Some(shown) => {
                    text.push_str(&shown);
                    text.push('\n');
                }
                None => self.note(*index, "a line that is not JSON is left out"),
            }
        }
        if text.is_empty() { Ok(()) } else { write(&text) }
    }

    fn note(&self, index: usize, text: &str) {
        complain(&format!("{}: {text}", self.gateways.names([index])), FAILURE);
    }
}

/// An error that ends `switchboard tail`.
#[derive(Debug, thiserror::Error)]
enum TailError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("no gateway can be followed")]
    NoGateway,
    #[error("cannot wait for Ctrl-C")]
    Signal(#[source] io::Error),
    #[error("cannot write")]
    Write(#[source] io::Error),
}

/// The news that are read ahead, and that are sorted together.
const NEWS_MAX: usize = 256;
/// A gateway reads its requests every 100 ms.
const SORT_TIME: Duration = Duration::from_millis(200);
