//! The state of a running bot: its calls, its drain, its journal and its background work.

use std::{
    fs::{File, OpenOptions},
    future::Future,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    behaviour::{Behaviour, FailureMode},
    graph::GraphClient,
    item::NotificationItem,
    ledger::{BotCalls, CallLedger},
    sdk::SdkState,
    settings::BotSettings,
};
use crate::{client::Client, encoding::random_id};

/// A bot instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    /// Differs after each start.
    pub(super) incarnation: Uuid,
    /// The incarnation that a gateway puts into callback URIs.
    reported_incarnation: String,
    pub(super) own_callback: String,
    pub(super) graph: GraphClient,
    pub(super) behaviour: Behaviour,
    /// The state of a bot on the calling SDK.
    pub(super) sdk: Option<Arc<SdkState>>,
    capacity: Option<usize>,
    on_failure: fn(&str),
    draining: AtomicBool,
    /// Grows by the share of failures per notification. At 1 a notification fails. Nothing is random here, so
    /// that tests can count.
    failures_due: Mutex<f64>,
    ledger: Mutex<CallLedger>,
    journal: Option<File>,
    working: Mutex<JoinSet<()>>,
}

impl Instance {
    /// An instance without calls. `address` is its bound address.
    ///
    /// # Errors
    /// The journal cannot be opened, or OpenSSL has no randomness.
    pub(super) fn new(settings: BotSettings, client: Client, address: SocketAddr) -> io::Result<Self> {
        let BotSettings { name, incarnation, listen: _, platform, capacity, journal, on_failure, behaviour } =
            settings;
        let id = random_id().map_err(io::Error::other)?;
        let sdk = behaviour.sdk.as_ref().map(|sdk| {
            let credentials = behaviour.credentials.as_ref();
            Arc::new(SdkState::new(sdk, credentials, platform.clone(), client.clone()))
        });
        let reported = incarnation.unwrap_or_else(|| id.to_string());
        Ok(Self {
            name,
            incarnation: id,
            reported_incarnation: reported.chars().take(BotSettings::INCARNATION_BYTES).collect(),
            own_callback: format!("http://{address}/callbacks"),
            graph: GraphClient::new(platform, client, behaviour.credentials.clone()),
            behaviour,
            sdk,
            capacity,
            on_failure,
            draining: AtomicBool::new(false),
            failures_due: Mutex::new(0.0),
            ledger: Mutex::new(CallLedger::default()),
            journal: journal.map(|path| open_journal(&path)).transpose()?,
            working: Mutex::new(JoinSet::new()),
        })
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, CallLedger> {
        lock(&self.ledger)
    }

    /// The calls, as `GET /calls` shows them.
    pub(super) fn calls(&self) -> BotCalls {
        self.ledger().show(&self.name, self.is_draining())
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// True if the capacity is less than this number of calls.
    pub(super) fn is_exceeded_by(&self, calls: usize) -> bool {
        self.capacity.is_some_and(|capacity| calls > capacity)
    }

    /// The document of `GET /healthz`.
    pub(super) fn health(&self) -> Value {
        let active = self.ledger().active;
        let state = match (self.is_draining(), self.is_exceeded_by(active + 1)) {
            (true, _) => "draining",
            (false, true) => "full",
            (false, false) => "ready",
        };
        let mut health = json!({"state": state, "calls": active, "incarnation": self.reported_incarnation});
        if let (Some(capacity), Some(health)) = (self.capacity, health.as_object_mut()) {
            health.insert("capacity".to_owned(), capacity.into());
        }
        health
    }

    /// True if a request is for another incarnation of this instance. `0` stands for any.
    pub(super) fn is_other_incarnation(&self, incarnation: &str) -> bool {
        incarnation != "0" && incarnation != self.reported_incarnation
    }

    /// Returns how the current notification fails; `None` if it does not.
    pub(super) fn next_failure(&self) -> Option<FailureMode> {
        let failure = self.behaviour.fail?;
        let mut due = lock(&self.failures_due);
        *due += failure.share;
        // Ten times a tenth is a little less than one.
        if *due < 1.0 - 1e-9 {
            return None;
        }
        *due -= 1.0;
        Some(failure.mode)
    }

    /// Appends a notification item to the journal.
    ///
    /// The response comes later: an acknowledged item is in the journal even if the process is then killed.
    pub(super) fn append_to_journal(&self, item: &NotificationItem, message_id: Option<&str>) {
        let Some(mut journal) = self.journal.as_ref() else { return };
        let entry = json!({
            "name": self.name,
            "life": self.incarnation,
            "call": item.call_id,
            "kind": item.kind,
            "message": message_id,
        });
        // One write keeps the line whole. The reader of the journal notices a missing line.
        let _ = journal.write_all(format!("{entry}\n").as_bytes());
    }

    /// Passes a failure about a call to the `on_failure` of the settings.
    pub(super) fn report_failure(&self, call_id: &str, why: &str) {
        (self.on_failure)(&format!("call {call_id}: {why}"));
    }

    /// Runs a task beside the requests.
    pub(super) fn work(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut working = lock(&self.working);
        while working.try_join_next().is_some() {}
        working.spawn(task);
    }

    /// Aborts the tasks.
    pub(super) fn stop_working(&self) {
        lock(&self.working).abort_all();
    }
}

fn open_journal(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot open the journal {}: {error}", path.display()))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
