//! What the bots say: which calls each was given, what came that was not its own, and when it was gone.

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

/// Who a bot is: `GET /life`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BotIdentity {
    pub(crate) name: String,
    /// Another one after each start.
    #[serde(rename = "life")]
    pub(crate) incarnation: Uuid,
}

/// Which calls a bot knows, in short: `GET /ledger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LedgerSummary {
    /// Calls that it was given, with the number of their notifications.
    pub(crate) calls: HashMap<String, u64>,
    /// Calls that it was never given, with the number of their notifications.
    pub(crate) strays: HashMap<String, u64>,
    /// Notifications that came again under a message id that it had seen.
    pub(crate) duplicates: u64,
}

/// What one bot says in the end.
#[derive(Clone, Debug)]
pub struct BotReport {
    /// Its name in callback URIs.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) url: Url,
    /// Nothing if it is not there.
    pub(crate) ledger: Option<LedgerSummary>,
    /// When it was started anew, or that it is not there in the end, in milliseconds since the load began: from the last
    /// time it was seen.
    pub(crate) gone: Vec<(f64, f64)>,
}

/// A bot is not there, or is none of ours.
#[derive(Debug, thiserror::Error)]
#[error(
    "the bot at {url} does not say who it is ({why}): --bot takes the URL of a `switchboard-emulator bot`"
)]
pub struct WatchError {
    url: Url,
    why: String,
}

/// Bots that are being watched.
#[derive(Debug)]
pub struct BotWatcher {
    bots: Vec<(oneshot::Sender<()>, JoinHandle<BotReport>)>,
}

impl BotWatcher {
    /// Asks each bot who it is and goes on asking; `began` is when the load began. A name overrides what a bot says.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn start(
        client: &Client,
        bots: Vec<(Option<String>, Url)>,
        began: Instant,
    ) -> Result<Self, WatchError> {
        let mut watched = Vec::new();
        for (name, url) in bots {
            let life: BotIdentity =
                ask(client, &url, "life").await.map_err(|why| WatchError { url: url.clone(), why })?;
            watched.push((name.unwrap_or(life.name), url, life.incarnation));
        }
        let watch_one = |(name, url, life)| {
            let (stop, stopped) = oneshot::channel();
            let client = client.clone();
            (stop, tokio::spawn(watch(client, name, url, life, began, stopped)))
        };
        Ok(Self { bots: watched.into_iter().map(watch_one).collect() })
    }

    /// Stops watching, and asks each bot what it knows.
    pub async fn reports(self) -> Vec<BotReport> {
        let mut reports = Vec::new();
        for (stop, task) in self.bots {
            let _ = stop.send(());
            // The task neither panics nor is aborted.
            reports.extend(task.await.ok());
        }
        reports
    }
}

async fn watch(
    client: Client,
    name: String,
    url: Url,
    life: Uuid,
    began: Instant,
    mut stopped: oneshot::Receiver<()>,
) -> BotReport {
    let mut sightings = Sightings::new(life);
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

/// When a bot was seen, and in which life.
struct Sightings {
    life: Uuid,
    seen_ms: f64,
    missing: bool,
    gone: Vec<(f64, f64)>,
}

impl Sightings {
    fn new(life: Uuid) -> Self {
        Self { life, seen_ms: 0.0, missing: false, gone: Vec::new() }
    }

    fn seen(&mut self, life: Uuid, asked_ms: f64, now_ms: f64) {
        // One that was silent and is the same still has its calls: what is lost meanwhile is no fault of its own.
        if life != self.life {
            self.gone.push((self.seen_ms, now_ms));
        }
        (self.life, self.seen_ms, self.missing) = (life, asked_ms, false);
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
    let answer =
        client.send(request, &url, ASK_TIME_MAX, KeepAlive::On).await.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("{url} answered {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))
}

const ASK_EVERY: Duration = Duration::from_millis(500);
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lives: &[Option<u128>], expected: &[(f64, f64)]) {
        let mut sightings = Sightings::new(Uuid::from_u128(1));
        for (life, second) in lives.iter().zip(1..) {
            let asked_ms = f64::from(second) * 1_000.0;
            match life {
                Some(life) => sightings.seen(Uuid::from_u128(*life), asked_ms, asked_ms + 1.0),
                None => sightings.missed(),
            }
        }
        assert_eq!(sightings.gone(), expected, "{lives:?}");
    }

    #[test]
    fn a_bot_is_gone_when_it_starts_anew_or_is_not_there_in_the_end() {
        check(&[Some(1), Some(1)], &[]);
        check(&[Some(1), None, None, Some(1)], &[]);
        check(&[Some(1), None, None, Some(2), Some(2)], &[(1_000.0, 4_001.0)]);
        check(&[Some(1), Some(2), Some(3)], &[(1_000.0, 2_001.0), (2_000.0, 3_001.0)]);
        check(&[Some(1), None, None], &[(1_000.0, f64::MAX)]);
    }
}
