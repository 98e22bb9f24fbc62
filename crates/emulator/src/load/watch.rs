//! Watching the bots of a load: their identity, the calls that they know, and the times when they were gone.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};
use url::Url;
use uuid::Uuid;

use crate::{
    client::{Client, KeepAlive},
    timeline::milliseconds,
};

/// The identity of a bot: `GET /life`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BotIdentity {
    pub(crate) name: String,
    /// A new one after each start.
    #[serde(rename = "life")]
    pub(crate) incarnation: Uuid,
}

/// The calls that a bot knows, in short: `GET /ledger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LedgerSummary {
    /// The calls that it received, with the number of their notifications.
    pub(crate) calls: HashMap<String, u64>,
    /// The calls that it never received, with the number of their notifications.
    pub(crate) strays: HashMap<String, u64>,
    /// The number of notifications that came again under a known message id.
    pub(crate) duplicates: u64,
}

/// The final report of one bot.
#[derive(Clone, Debug)]
pub struct BotReport {
    /// The name in callback URIs.
    pub(crate) name: String,
    /// The URL that it listens on.
    pub(crate) url: Url,
    /// `None` if the bot did not respond.
    pub(crate) ledger: Option<LedgerSummary>,
    /// The times when it was gone, in milliseconds since the load started. Each starts with the last response
    /// before, and ends with a restart, or never if the bot did not respond in the end.
    pub(crate) gone: Vec<(f64, f64)>,
}

/// A bot does not respond, or is not a `switchboard-emulator bot`.
#[derive(Debug, thiserror::Error)]
#[error(
    "the bot at {url} does not report its name ({why}): --bot takes the URL of a `switchboard-emulator bot`"
)]
pub struct WatchError {
    url: Url,
    why: String,
}

/// Tasks that watch the bots of a load.
#[derive(Debug)]
pub struct BotWatcher {
    bots: Vec<(oneshot::Sender<()>, JoinHandle<BotReport>)>,
}

impl BotWatcher {
    /// Asks each bot for its identity, and goes on asking. A name in the list overrides the bot's own.
    ///
    /// The load started at `began`.
    ///
    /// # Errors
    /// A bot does not respond.
    pub async fn start(
        client: &Client,
        bots: Vec<(Option<String>, Url)>,
        began: Instant,
    ) -> Result<Self, WatchError> {
        let mut watched = Vec::new();
        for (name, url) in bots {
            let identity: BotIdentity =
                ask(client, &url, "life").await.map_err(|why| WatchError { url: url.clone(), why })?;
            watched.push((name.unwrap_or(identity.name), url, identity.incarnation));
        }
        let watch_one = |(name, url, incarnation)| {
            let (stop, stopped) = oneshot::channel();
            let client = client.clone();
            (stop, tokio::spawn(watch(client, name, url, incarnation, began, stopped)))
        };
        Ok(Self { bots: watched.into_iter().map(watch_one).collect() })
    }

    /// Stops watching, and asks each bot for the calls that it knows.
    pub async fn reports(self) -> Vec<BotReport> {
        let mut reports = Vec::new();
        for (stop, task) in self.bots {
            let _ = stop.send(());
            // The task does not panic and is not aborted.
            reports.extend(task.await.ok());
        }
        reports
    }
}

async fn watch(
    client: Client,
    name: String,
    url: Url,
    incarnation: Uuid,
    began: Instant,
    mut stopped: oneshot::Receiver<()>,
) -> BotReport {
    let mut sightings = Sightings::new(incarnation);
    loop {
        let over = tokio::select! {
            _ = &mut stopped => true,
            () = sleep(ASK_EVERY) => false,
        };
        let asked_ms = milliseconds(began.elapsed());
        match ask::<BotIdentity>(&client, &url, "life").await {
            Ok(now) => sightings.seen(now.incarnation, asked_ms, milliseconds(began.elapsed())),
            Err(_) => sightings.missed(),
        }
        if over {
            break;
        }
    }
    let ledger = ask(&client, &url, "ledger").await.ok();
    BotReport { name, url, ledger, gone: sightings.gone() }
}

/// The times when a bot responded, and its incarnation.
struct Sightings {
    incarnation: Uuid,
    seen_ms: f64,
    missing: bool,
    gone: Vec<(f64, f64)>,
}

impl Sightings {
    fn new(incarnation: Uuid) -> Self {
        Self { incarnation, seen_ms: 0.0, missing: false, gone: Vec::new() }
    }

    fn seen(&mut self, incarnation: Uuid, asked_ms: f64, now_ms: f64) {
        // A silent bot of the same incarnation still has its calls: it did not lose what was lost meanwhile.
        if incarnation != self.incarnation {
            self.gone.push((self.seen_ms, now_ms));
        }
        (self.incarnation, self.seen_ms, self.missing) = (incarnation, asked_ms, false);
    }

    fn missed(&mut self) {
        self.missing = true;
    }

    fn gone(mut self) -> Vec<(f64, f64)> {
        if self.missing {
            self.gone.push((self.seen_ms, f64::MAX));
        }
        self.gone
    }
}

async fn ask<T: DeserializeOwned>(client: &Client, url: &Url, path: &str) -> Result<T, String> {
    let url = url.join(&format!("/{path}")).map_err(|error| error.to_string())?;
    let request = Request::get("/").body(Bytes::new()).map_err(|error| error.to_string())?;
    let response =
        client.send(request, &url, ASK_TIME_MAX, KeepAlive::On).await.map_err(|error| error.to_string())?;
    if response.status != StatusCode::OK {
        return Err(format!("{url} responded {}", response.status));
    }
    serde_json::from_slice(&response.body).map_err(|error| format!("{url}: {error}"))
}

const ASK_EVERY: Duration = Duration::from_millis(500);
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(incarnations: &[Option<u128>], expected: &[(f64, f64)]) {
        let mut sightings = Sightings::new(Uuid::from_u128(1));
        for (incarnation, second) in incarnations.iter().zip(1..) {
            let asked_ms = f64::from(second) * 1_000.0;
            match incarnation {
                Some(incarnation) => sightings.seen(Uuid::from_u128(*incarnation), asked_ms, asked_ms + 1.0),
                None => sightings.missed(),
            }
        }
        assert_eq!(sightings.gone(), expected, "{incarnations:?}");
    }

    #[test]
    fn a_bot_is_gone_until_it_restarts_or_for_ever() {
        check(&[Some(1), Some(1)], &[]);
        check(&[Some(1), None, None, Some(1)], &[]);
        check(&[Some(1), None, None, Some(2), Some(2)], &[(1_000.0, 4_001.0)]);
        check(&[Some(1), Some(2), Some(3)], &[(1_000.0, 2_001.0), (2_000.0, 3_001.0)]);
        check(&[Some(1), None, None], &[(1_000.0, f64::MAX)]);
    }
}
