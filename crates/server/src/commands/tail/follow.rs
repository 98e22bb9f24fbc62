//! `follow`: the events of one gateway, over as many connections as it takes.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use serde::Deserialize;
use switchboard_auth::FetchError;
use tokio::{
    sync::mpsc::Sender,
    time::{Instant, sleep},
};

use super::event_parser::{EVENT_BYTES_MAX, EventParser, ServerEvent};
use crate::commands::gateways::{AdminClient, AskError};

/// News of a gateway.
#[derive(Debug)]
pub(super) enum Followed {
    /// The stream is open.
    Opened,
    /// A request ended: its line in JSON, which is not checked yet.
    Request(String),
    /// Something that the operator should know.
    Note(String),
    /// The stream broke, or could not be opened. It will be opened again.
    Lost(AskError),
    /// The stream cannot be opened, and a later attempt would not change that. The last news.
    GivenUp(AskError),
}

/// Sends the news of a gateway to `out`, with its index, until it is given up or the receiver has gone.
pub(super) async fn follow(
    gateway: Arc<AdminClient>,
    index: usize,
    query: String,
    out: Sender<(usize, Followed)>,
) {
    let mut progress = Progress::default();
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let error = match progress.stream(&gateway, index, &query, &out).await {
            Ok(Some(error)) => error,
            // The receiver has gone.
            Ok(None) => return,
            Err(error) => error,
        };
        let is_temporary = error.is_temporary();
        let news = if is_temporary { Followed::Lost(error) } else { Followed::GivenUp(error) };
        if out.send((index, news)).await.is_err() || !is_temporary {
            return;
        }
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

/// The place in the events of a gateway from which the next stream continues.
#[derive(Debug, Default)]
struct Progress {
    last_id: Option<HeaderValue>,
    /// The start of the process that sent it.
    started: Option<u64>,
}

impl Progress {
    /// Reads a stream to its end. Returns the error that ended it, `None` if the receiver has gone.
    async fn stream(
        &mut self,
        gateway: &AdminClient,
        index: usize,
        query: &str,
        out: &Sender<(usize, Followed)>,
    ) -> Result<Option<AskError>, AskError> {
        let mut stream = gateway.stream("/events", query, self.last_id.clone()).await?;
        if out.send((index, Followed::Opened)).await.is_err() {
            return Ok(None);
        }
        let mut parser = EventParser::default();
        loop {
            let bytes = match stream.next(SILENCE_MAX).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    let detail = "the gateway ended the stream".to_owned();
                    return Ok(Some(gateway.unreachable(FetchError { kind: "ended", detail })));
                }
                Err(error) => return Ok(Some(gateway.unreachable(error))),
            };
            for event in parser.push(&bytes) {
                if let Some(news) = self.news(event)
                    && out.send((index, news)).await.is_err()
                {
                    return Ok(None);
                }
            }
            if let Some(id) = parser.last_id() {
                self.last_id = Some(id.clone());
            }
        }
    }

    fn news(&mut self, event: ServerEvent) -> Option<Followed> {
        let (name, data) = match event {
            ServerEvent::Message(name, data) => (name, data),
            ServerEvent::TooLarge => {
                let kib = EVENT_BYTES_MAX / 1024;
                return Some(Followed::Note(format!("an event of more than {kib} KiB is left out")));
            }
        };
        match name.as_str() {
            "request" => Some(Followed::Request(data)),
            "dropped" => {
                let Dropped { dropped } = serde_json::from_str(&data).ok()?;
                Some(Followed::Note(format!(
                    "{dropped} requests, of any call and outcome, are left out: they came faster than they \
                     were read, or the connection was lost for too long"
                )))
            }
            "hello" => {
                let Hello { started } = serde_json::from_str(&data).ok()?;
                let before = self.started.replace(started);
                before.filter(|before| *before != started).map(|_| {
                    Followed::Note("the gateway was restarted; requests in between are left out".to_owned())
                })
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Dropped {
    dropped: u64,
}

#[derive(Deserialize)]
struct Hello {
    started: u64,
}

/// A gateway sends a comment every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
