//! Shared helpers of the end-to-end tests: issuers, instances, the platform's requests, the gateway process.

pub(crate) mod bodies;
pub(crate) mod client;
pub(crate) mod emulator;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod https_instance;
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

/// The app id of the bot.
pub(crate) const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
/// The id of another app, which some tests configure too.
pub(crate) const OTHER_APP: &str = "22222222-41c3-47a4-8775-7259bfef4241";
/// The tenant of the simulated calls.
pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const WEBHOOK: &str = "/api/calls";

/// The longest wait for anything: far longer than a busy machine needs.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// Awaits `future` and fails the test after `WAIT_MAX`.
#[track_caller]
pub(crate) fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> + use<F> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        timeout(WAIT_MAX, future)
            .await
            .unwrap_or_else(|_| panic!("{what}: not within {WAIT_MAX:?} ({caller})"))
    }
}

/// The interval at which a test polls a state that no event reports.
pub(crate) fn every(milliseconds: u64) -> Interval {
    let mut ticks = interval(Duration::from_millis(milliseconds));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Polls `ask` until it returns a value.
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

/// Returns the base64url text with another first character.
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
