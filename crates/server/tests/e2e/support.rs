//! What the end-to-end tests are made of: the issuers, the instances, the platform's requests, and the gateway itself.

pub(crate) mod bodies;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod instance;
pub(crate) mod issuer;
pub(crate) mod log;
pub(crate) mod port;
pub(crate) mod request;
pub(crate) mod settings;
pub(crate) mod tls;
pub(crate) mod token;

use std::time::{Duration, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

pub(crate) use self::{
    client::{Client, Response},
    gateway::Gateway,
    instance::{Instance, Reply},
    issuer::{Document, Issuer},
    request::Request,
    settings::Settings,
    token::Token,
};

/// The bot's app id, and another one that the gateway may serve.
pub(crate) const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
pub(crate) const OTHER_APP: &str = "22222222-41c3-47a4-8775-7259bfef4241";
/// The tenant whose calls are played.
pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const WEBHOOK: &str = "/api/calls";

/// Far beyond anything that happens on a machine that is merely busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `future` within `PATIENCE`.
#[track_caller]
pub(crate) fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> + use<F> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        timeout(PATIENCE, future)
            .await
            .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?} ({caller})"))
    }
}

/// The rhythm of questions whose answer no event tells.
pub(crate) fn every(milliseconds: u64) -> Interval {
    let mut ticks = interval(Duration::from_millis(milliseconds));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn until<T, A: AsyncFnMut() -> Option<T>>(
    what: &str,
    mut ask: A,
) -> impl Future<Output = T> + use<T, A> {
    soon(what, async move {
        let mut ticks = every(25);
        loop {
            ticks.tick().await;
            if let Some(found) = ask().await {
                return found;
            }
        }
    })
}

/// A base64url text with another first character.
pub(crate) fn flipped(text: &str) -> String {
    let (first, mut rest) = (text.chars().next(), text.chars());
    rest.next();
    format!("{}{}", if first == Some('A') { 'B' } else { 'A' }, rest.as_str())
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens are minted for the gateway's own clock, which is the real one"
)]
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
