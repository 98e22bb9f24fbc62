//! A small bot instance: takes calls, answers them as it is told to, remembers and shows them.

mod behaviour;
mod graph;
mod item;
mod ledger;
mod page;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use url::Url;
use uuid::Uuid;

use self::{
    behaviour::FailureMode,
    graph::{Graph, answer_body, redirect_body, reject_body},
    item::{ID_BYTES_MAX, Item},
    ledger::Ledger,
};
pub use self::{
    behaviour::{
        AnswerMode, Behaviour, ClientCredentials, InjectedFailure, InvalidFailure, InvalidJoinResponse,
        JoinResponse,
    },
    ledger::{BotCall, BotCalls, Stray},
};
use crate::{
    client::Client,
    encoding::random_id,
    load::Life,
    server::{
        Body, Handle, Server, empty, error_response, hang_up, header_text, json_response, method_not_allowed,
        printable, respond,
    },
};

/// What a bot is told.
#[derive(Clone, Debug)]
pub struct BotSettings {
    /// Its name, for people and in what it shows.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The platform whose Graph endpoint it answers calls at.
    pub platform: Url,
    /// How many calls it takes at once; any number if `None`.
    pub capacity: Option<usize>,
    /// A file to which a line is added for each item that it is notified of; it outlives the bot.
    pub journal: Option<PathBuf>,
    /// Is told in one line, fit for a terminal, what went wrong with a call.
    pub complain: fn(&str),
    /// What it does with them.
    pub behaviour: Behaviour,
}

impl BotSettings {
    /// A bot on a free port of loopback that answers every call through Graph.
    pub fn new(name: &str, platform: Url) -> Self {
        Self {
            name: name.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            platform,
            capacity: None,
            journal: None,
            complain: |_| (),
            behaviour: Behaviour::default(),
        }
    }
}

/// A running bot. It stops when it is dropped.
#[derive(Debug)]
pub struct Bot {
    shared: Arc<Shared>,
    server: Server,
}

impl Bot {
    /// Binds and serves on the runtime it is called on.
    ///
    /// # Errors
    /// The address cannot be bound, or the journal not opened.
    pub async fn start(settings: BotSettings, client: Client) -> io::Result<Self> {
        let BotSettings { name, listen, platform, capacity, journal, complain, behaviour } = settings;
        let named =
            |what: String| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        let journal = journal.map(|path| {
            let opened = OpenOptions::new().create(true).append(true).open(&path);
            opened.map_err(named(format!("cannot write the journal {}", path.display())))
        });
        let journal = journal.transpose()?;
        let listener =
            TcpListener::bind(listen).await.map_err(named(format!("cannot listen on {listen}")))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name,
            complain,
            life: random_id().map_err(io::Error::other)?,
            capacity,
            own_callback: format!("http://{address}/callbacks"),
            graph: Graph::new(platform, client, behaviour.credentials.clone()),
            behaviour,
            draining: AtomicBool::new(false),
            due_to_fail: Mutex::new(0.0),
            ledger: Mutex::new(Ledger::default()),
            journal,
            working: Mutex::new(JoinSet::new()),
        });
        Ok(Self { server: Server::start(listener, Arc::clone(&shared))?, shared })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What `GET /calls` shows.
    pub fn calls(&self) -> BotCalls {
        self.shared.calls()
    }

    /// Takes no new call, waits until those that it has are over, and stops once all that was asked is answered.
    pub async fn drain(mut self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        while self.shared.lock().active > 0 {
            sleep(DRAIN_POLL).await;
        }
        self.server.finish().await;
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        lock(&self.shared.working).abort_all();
    }
}

#[derive(Debug)]
struct Shared {
    name: String,
    complain: fn(&str),
    /// Tells this run from the one before.
    life: Uuid,
    capacity: Option<usize>,
    own_callback: String,
    graph: Graph,
    behaviour: Behaviour,
    draining: AtomicBool,
    /// What the share of failures has added up to; one fails when it reaches 1. No dice, so that a test can count.
    due_to_fail: Mutex<f64>,
    ledger: Mutex<Ledger>,
    journal: Option<File>,
    working: Mutex<JoinSet<()>>,
}

/// A call that was just taken.
struct Fresh {
    id: String,
    callback: String,
    tenant: Option<String>,
}

impl Handle for Shared {
    async fn handle(self: Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/drain") => self.drain(true),
            (&Method::POST, "/resume") => self.drain(false),
            (&Method::POST, _) => {
                // Without a delay it has acted before it learns that nobody waits for the answer any more, as most bots have.
                if !self.behaviour.delay.is_zero() {
                    sleep(self.behaviour.delay).await;
                }
                match self.failure() {
                    Some(FailureMode::Status(status)) => {
                        error_response(status, "asked", "the bot was told to fail")
                    }
                    Some(FailureMode::Hang) => {
                        sleep(HANG_TIME).await;
                        hang_up()
                    }
                    Some(FailureMode::Reset) => hang_up(),
                    None => self.notified(&request),
                }
            }
            (&Method::GET | &Method::HEAD, "/healthz") => self.health(),
            (&Method::GET | &Method::HEAD, "/calls") => json_of(&self.calls()),
            (&Method::GET | &Method::HEAD, "/life") => {
                json_of(&Life { name: self.name.clone(), life: self.life })
            }
            (&Method::GET | &Method::HEAD, "/ledger") => json_of(&self.lock().brief()),
            (&Method::GET | &Method::HEAD, "/") => page::page(&self.calls()),
            (&Method::GET | &Method::HEAD, _) => error_response(
                StatusCode::NOT_FOUND,
                "notFound",
                "no such path: /, /calls, /healthz, /ledger and /life are there",
            ),
            _ => method_not_allowed("GET, POST"),
        }
    }
}

impl Shared {
    fn notified(self: &Arc<Self>, request: &Request<Bytes>) -> Response<Body> {
        let body: Value = match serde_json::from_slice(request.body()) {
            Ok(body) => body,
            Err(error) => return error_response(StatusCode::BAD_REQUEST, "badRequest", &error.to_string()),
        };
        if header_text(request.headers(), &CONTENT_TYPE)
            .is_some_and(|text| text.starts_with(ACTION_FAILED_TYPE))
        {
            return self.action_failed(&body);
        }
        let Some(values) = body.get("value").and_then(Value::as_array) else {
            // Legacy, most likely; a gateway in front never lets it through.
            let legacy = body.get("participants").is_some() && body.get("id").is_some();
            let message = "neither a Graph nor a legacy notification";
            return if legacy {
                empty(StatusCode::NO_CONTENT)
            } else {
                error_response(StatusCode::BAD_REQUEST, "badRequest", message)
            };
        };
        let items: Option<Vec<Item>> = values.iter().map(Item::read).collect();
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            let message = "an item names no call that fits into a path";
            return error_response(StatusCode::BAD_REQUEST, "badRequest", message);
        };

        let message_id =
            header_text(request.headers(), &HeaderName::from_static("x-microsoft-skype-message-id"))
                .filter(|id| id.len() <= ID_BYTES_MAX);
        let new_call_ids: Vec<String> =
            items.iter().filter(|item| item.new_call).map(|item| item.call_id.clone()).collect();
        let mut fresh = Vec::new();
        let mut established = Vec::new();
        let mut joining = false;
        {
            let mut ledger = self.lock();
            let new_calls = items.iter().filter(|item| item.new_call && !ledger.knows(&item.call_id)).count();
            let full = self.capacity.is_some_and(|capacity| ledger.active + new_calls > capacity);
            let draining = self.draining.load(Ordering::Relaxed);
            if new_calls > 0 && (full || draining) {
                ledger.refused += 1;
                return if draining {
                    error_response(StatusCode::SERVICE_UNAVAILABLE, "draining", "this instance is draining")
                } else {
                    error_response(StatusCode::SERVICE_UNAVAILABLE, "full", "this instance is full")
                };
            }
            for item in items {
                if item.new_call && !ledger.knows(&item.call_id) {
                    let call = self.take(&item, request);
                    let (id, callback) = (call.id.clone(), call.callback_uri.clone());
                    fresh.push(Fresh { id, callback, tenant: call.tenant.clone() });
                    ledger.take(call);
                }
                ledger.note(&item, message_id);
                self.write_down(&item, message_id);
                joining |= item.kind == "participant joining";
                if item.kind == "established"
                    && let Some(call) = ledger.call_mut(&item.call_id)
                {
                    established.push((call.id.clone(), call.tenant.clone(), call.recorded));
                }
            }
        }
        for (id, tenant, recorded) in established {
            let bot = Arc::clone(self);
            self.work(async move { bot.established(&id, tenant.as_deref(), recorded).await });
        }
        if joining {
            return self.admit();
        }
        // An action is for one call; a batch of several is answered through Graph, if at all. A call that comes again
        // gets its action again: the reply to the first one may never have reached the gateway.
        if let ([id], Some(action)) = (new_call_ids.as_slice(), self.action()) {
            if self.behaviour.answer != AnswerMode::Action {
                self.lock().declined(id);
            }
            return respond(StatusCode::OK, Some(ACTION_TYPE), Bytes::from(action.to_string()));
        }
        for call in fresh {
            let bot = Arc::clone(self);
            self.work(async move { bot.decide(&call).await });
        }
        // The real SDK, too, takes a notification with 202 and works on it afterwards.
        empty(StatusCode::ACCEPTED)
    }

    /// The gateway could not do what it was asked for.
    fn action_failed(&self, body: &Value) -> Response<Body> {
        let text = |pointer: &str| {
            let text = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            printable(&text.chars().take(TEXT_LETTERS_MAX).collect::<String>())
        };
        let id = text("/callId").to_ascii_lowercase();
        let unknown = body.pointer("/error/outcomeUnknown").and_then(Value::as_bool).unwrap_or(false);
        let failed = if unknown { "may have failed" } else { "failed" };
        let mut why = format!("the gateway's {} {failed}: {}", text("/action"), text("/error/code"));
        let message = text("/error/message");
        if !message.is_empty() {
            why.push_str("; ");
            why.push_str(&message);
        }
        if unknown {
            // What becomes of the call is told by its notifications.
            self.lock().action_in_doubt(&id, &why);
        } else {
            self.lock().action_failed(&id, &why);
        }
        self.complain(&id, &why);
        empty(StatusCode::ACCEPTED)
    }

    /// Adds a line to the journal before the notification is answered: what was acknowledged is in it, even if this
    /// process is killed the next moment.
    fn write_down(&self, item: &Item, message_id: Option<&str>) {
        let Some(mut journal) = self.journal.as_ref() else { return };
        let (name, life) = (&self.name, self.life);
        let entry = json!({"name": name, "life": life, "call": item.call_id, "kind": item.kind, "message": message_id});
        // In one write, so that lines stay whole. A line that is missing is found missing by who reads them.
        let _ = journal.write_all(format!("{entry}\n").as_bytes());
    }

    /// Tells whoever watches the bot.
    fn complain(&self, id: &str, why: &str) {
        (self.complain)(&format!("call {id}: {why}"));
    }

    fn take(&self, item: &Item, request: &Request<Bytes>) -> BotCall {
        let header = |name| {
            let value = header_text(request.headers(), &HeaderName::from_static(name));
            value.filter(|value| value.len() <= HEADER_BYTES_MAX).map(str::to_owned)
        };
        let tenant = item.tenant.clone().filter(|tenant| tenant.len() <= ID_BYTES_MAX);
        BotCall {
            id: item.call_id.clone(),
            state: "taken".to_owned(),
            // Without a gateway the platform posts to the bot itself.
            callback_uri: header("switchboard-callback-uri").unwrap_or_else(|| self.own_callback.clone()),
            // What the token said goes before what the body says.
            tenant: header("switchboard-tenant-id").or(tenant),
            recorded: item.recorded,
            notifications: Vec::new(),
            count: 0,
            duplicates: 0,
            failure: None,
        }
    }

    /// Answers, rejects or redirects through Graph.
    async fn decide(&self, call: &Fresh) {
        let (action, mut body) = match self.behaviour.answer {
            // A batch of several calls leaves no other way.
            AnswerMode::Graph | AnswerMode::Action => {
                ("answer", answer_body(self.behaviour.delta_roster, self.behaviour.participant_capacity))
            }
            AnswerMode::Reject | AnswerMode::ActionReject => ("reject", reject_body()),
            AnswerMode::Redirect | AnswerMode::ActionRedirect => ("redirect", redirect_body()),
            AnswerMode::None => return,
        };
        if let Some(members) = body.as_object_mut() {
            members.insert("callbackUri".to_owned(), call.callback.as_str().into());
        }
        let result = self.graph.act(&call.id, action, &body, call.tenant.as_deref()).await;
        match result {
            Ok(()) if action == "answer" => self.lock().answered(&call.id),
            Ok(()) => self.lock().declined(&call.id),
            Err(failure) => {
                let why = format!("{action} failed: {failure}");
                self.complain(&call.id, &why);
                self.lock().fail(&call.id, why);
            }
        }
    }

    /// The body with which a gateway is asked to act.
    fn action(&self) -> Option<Value> {
        let (action, mut body) = match self.behaviour.answer {
            AnswerMode::Action => {
                ("answer", answer_body(self.behaviour.delta_roster, self.behaviour.participant_capacity))
            }
            AnswerMode::ActionReject => ("reject", reject_body()),
            AnswerMode::ActionRedirect => ("redirect", redirect_body()),
            AnswerMode::Graph | AnswerMode::Reject | AnswerMode::Redirect | AnswerMode::None => return None,
        };
        if let Some(members) = body.as_object_mut() {
            members.insert("action".to_owned(), action.into());
        }
        Some(body)
    }

    /// A recording bot announces its recording; one that is told to hangs up after a while.
    async fn established(&self, id: &str, tenant: Option<&str>, recorded: bool) {
        // No action of a gateway sets it; a bot that lets one answer does so if it has the means.
        let may_act = match self.behaviour.answer {
            AnswerMode::Graph => true,
            AnswerMode::Action => self.behaviour.credentials.is_some(),
            AnswerMode::Reject
            | AnswerMode::Redirect
            | AnswerMode::ActionReject
            | AnswerMode::ActionRedirect
            | AnswerMode::None => false,
        };
        if recorded && may_act {
            let body = json!({"clientContext": self.life.to_string(), "status": "recording"});
            // The call goes on either way.
            if let Err(failure) = self.graph.act(id, "updateRecordingStatus", &body, tenant).await {
                self.complain(id, &format!("updateRecordingStatus failed: {failure}"));
            }
        }
        if let Some(after) = self.behaviour.hang_up_after {
            sleep(after).await;
            if let Err(failure) = self.graph.hang_up(id, tenant).await {
                self.complain(id, &format!("hanging up failed: {failure}"));
            }
        }
    }

    /// Says whether it takes one more participant.
    fn admit(&self) -> Response<Body> {
        let body = match &self.behaviour.joining {
            JoinResponse::Accept => json!({"@odata.type": "#microsoft.graph.acceptJoinResponse"}),
            JoinResponse::Reject => {
                json!({"@odata.type": "#microsoft.graph.rejectJoinResponse", "reason": "busy"})
            }
            JoinResponse::Invite(url) => {
                json!({"@odata.type": "#microsoft.graph.inviteNewBotResponse", "inviteUri": url.as_str()})
            }
            JoinResponse::Silent => return empty(StatusCode::ACCEPTED),
        };
        json_response(StatusCode::OK, &body)
    }

    fn failure(&self) -> Option<FailureMode> {
        let fail = self.behaviour.fail?;
        let mut due = lock(&self.due_to_fail);
        *due += fail.share;
        // Ten times a tenth is a little less than one.
        if *due < 1.0 - 1e-9 {
            return None;
        }
        *due -= 1.0;
        Some(fail.how)
    }

    fn drain(&self, draining: bool) -> Response<Body> {
        self.draining.store(draining, Ordering::Relaxed);
        self.health()
    }

    fn health(&self) -> Response<Body> {
        let active = self.lock().active;
        let full = self.capacity.is_some_and(|capacity| active >= capacity);
        let state = match (self.draining.load(Ordering::Relaxed), full) {
            (true, _) => "draining",
            (false, true) => "full",
            (false, false) => "ready",
        };
        let mut health = json!({"state": state, "calls": active});
        if let (Some(capacity), Some(health)) = (self.capacity, health.as_object_mut()) {
            health.insert("capacity".to_owned(), capacity.into());
        }
        json_response(StatusCode::OK, &health)
    }

    fn calls(&self) -> BotCalls {
        self.lock().show(&self.name, self.draining.load(Ordering::Relaxed))
    }

    /// Goes on with something after the notification was answered.
    fn work(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut working = lock(&self.working);
        while working.try_join_next().is_some() {}
        working.spawn(task);
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

fn json_of(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_value(value) {
        Ok(document) => json_response(StatusCode::OK, &document),
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a bot asks the gateway in front of it to act on a call.
const ACTION_TYPE: &str = "application/vnd.switchboard.action+json";

/// How the gateway says that it could not.
const ACTION_FAILED_TYPE: &str = "application/vnd.switchboard.action-failed+json";

const HEADER_BYTES_MAX: usize = 2_048;

const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Longer than any text of a failure that is worth a line.
const TEXT_LETTERS_MAX: usize = 300;

/// Longer than anybody waits.
const HANG_TIME: Duration = Duration::from_secs(60);
