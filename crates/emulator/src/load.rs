//! Many calls at once: placed at a rate, each played like any other, with one result for each.

mod event;
mod placing;
mod report;
mod request;
mod watch;

pub use self::{
    event::{CallbackResult, LoadEvent, LoadEvents, LoadResult, RemoteLoad},
    report::{AnswerTimes, LoadProblem, LoadReport, OwnerCallbacks},
    request::{CALLS_MAX, InvalidKindMix, KindMix, LoadRequest, RATE_MAX},
    watch::{BotReport, BotWatcher, WatchError},
};
pub(crate) use self::{
    placing::start,
    watch::{BotIdentity, LedgerSummary},
};
