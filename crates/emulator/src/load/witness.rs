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
    client::{After, Client},
    timeline::milliseconds,
};

/// Who a bot is: `GET /life`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) name: String,
    /// Another one after each start.
    pub(crate) life: Uuid,
}

/// Which calls a bot knows, in short: `GET /ledger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Calls that it was given, with the number of their notifications.
    pub(crate) calls: HashMap<String, u64>,
    /// Calls that it was never given, with the number of their notifications.
    pub(crate) strays: HashMap<String, u64>,
    /// Notifications that came again under a message id that it had seen.
    pub(crate) duplicates: u64,
}

/// What one bot says in the end.
#[derive(Clone, Debug)]
pub struct Testimony {
    /// Its name in callback URIs.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) url: Url,
    /// Nothing if it is not there.
    pub(crate) ledger: Option<Ledger>,
    /// When it was gone or started anew, in milliseconds since the load began: from the last time it was seen.
    pub(crate) gone: Vec<(f64, f64)>,
}

/// A bot is not there, or is none of ours.
#[derive(Debug, thiserror::Error)]
#[error(
    "the bot at {url} does not say who it is ({why}): --bot takes the URL of a `switchboard-emulator bot`"
)]
pub struct WitnessError {
    url: Url,
    why: String,
}

/// Bots that are being watched.
#[derive(Debug)]
pub struct Watching {
    bots: Vec<(oneshot::Sender<()>, JoinHandle<Testimony>)>,
}

impl Watching {
    /// Asks each bot who it is and goes on asking; `began` is when the load began. A name overrides what a bot says.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn start(
        client: &Client,
        bots: Vec<(Option<String>, Url)>,
        began: Instant,
    ) -> Result<Self, WitnessError> {
        let mut watched = Vec::new();
        for (name, url) in bots {
            let life: Life =
                ask(client, &url, "life").await.map_err(|why| WitnessError { url: url.clone(), why })?;
            watched.push((name.unwrap_or(life.name), url, life.life));
        }
        let watch_one = |(name, url, life)| {
            let (stop, stopped) = oneshot::channel();
            let client = client.clone();
            (stop, tokio::spawn(watch(client, name, url, life, began, stopped)))
        };
        Ok(Self { bots: watched.into_iter().map(watch_one).collect() })
    }

    /// Stops watching, and asks each bot what it knows.
    pub async fn testimonies(self) -> Vec<Testimony> {
        let mut testimonies = Vec::new();
        for (stop, task) in self.bots {
            let _ = stop.send(());
            // The task neither panics nor is aborted.
            testimonies.extend(task.await.ok());
        }
        testimonies
    }
}

async fn watch(
    client: Client,
    name: String,
    url: Url,
    mut life: Uuid,
    began: Instant,
    mut stopped: oneshot::Receiver<()>,
) -> Testimony {
    let mut gone = Vec::new();
    let mut seen_ms = 0.0;
    let mut missing = false;
    loop {
        let over = tokio::select! {
            _ = &mut stopped => true,
            () = sleep(ASK_EVERY) => false,
        };
        let asked_ms = milliseconds(began.elapsed());
        match ask::<Life>(&client, &url, "life").await {
            Ok(now) => {
                if missing || now.life != life {
                    gone.push((seen_ms, milliseconds(began.elapsed())));
                }
                (life, missing, seen_ms) = (now.life, false, asked_ms);
            }
            Err(_) => missing = true,
        }
        if over {
            break;
        }
    }
    if missing {
        gone.push((seen_ms, f64::MAX));
    }
    let ledger = ask(&client, &url, "ledger").await.ok();
    Testimony { name, url, ledger, gone }
}

async fn ask<T: DeserializeOwned>(client: &Client, url: &Url, path: &str) -> Result<T, String> {
    let url = url.join(&format!("/{path}")).map_err(|error| error.to_string())?;
    let request = Request::get("/").body(Bytes::new()).map_err(|error| error.to_string())?;
    let answer = client
        .send_then(request, &url, ASK_TIME_MAX, After::Keep)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("{url} answered {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))
}

const ASK_EVERY: Duration = Duration::from_millis(500);
const ASK_TIME_MAX: Duration = Duration::from_secs(5);
