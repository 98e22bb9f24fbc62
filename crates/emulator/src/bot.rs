//! A small bot instance: takes calls, answers them through Graph, remembers and shows them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};
use url::Url;

use crate::{
    client::Client,
    server::{
        Body, Handle, Server, empty, error_response, header_text, json_response, method_not_allowed, respond,
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
    /// The address cannot be bound.
    pub async fn start(settings: BotSettings, client: Client) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: settings.name,
            platform: settings.platform,
            capacity: settings.capacity,
            own_callback: format!("http://{address}/callbacks"),
            client,
            ledger: Mutex::new(Ledger::default()),
            answering: Mutex::new(JoinSet::new()),
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
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.shared.lock_answering().abort_all();
    }
}

/// The calls of a bot: `GET /calls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BotCalls {
    /// The bot's name.
    pub name: String,
    /// Calls that are alive now.
    pub active: usize,
    /// New calls taken since the start.
    pub taken: u64,
    /// New calls refused because the bot was full.
    pub refused: u64,
    /// Notifications about calls that this bot was never given.
    pub strays: u64,
    /// The latest of those: call id and kind.
    pub stray_calls: Vec<Stray>,
    /// The calls, oldest first. Only the latest ended ones are remembered.
    pub calls: Vec<BotCall>,
}

/// One call of a bot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BotCall {
    /// The call id.
    pub id: String,
    /// `taken`, `answering`, `answered`, `establishing`, `established`, `ended` or `failed`.
    pub state: String,
    /// Where callbacks were asked for.
    pub callback_uri: String,
    /// The tenant, as the gateway says it.
    pub tenant: Option<String>,
    /// The kinds of its notifications in order; the first 64.
    pub notifications: Vec<String>,
    /// How many notifications came, whether or not they are listed.
    pub count: u64,
    /// How many of them came again under a message id that was seen before.
    pub duplicates: u64,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A notification about a call that is not the bot's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stray {
    /// The call id.
    pub id: String,
    /// What it was about.
    pub kind: String,
}

#[derive(Debug)]
struct Shared {
    name: String,
    platform: Url,
    capacity: Option<usize>,
    own_callback: String,
    client: Client,
    ledger: Mutex<Ledger>,
    answering: Mutex<JoinSet<()>>,
}

/// What the bot remembers.
#[derive(Debug, Default)]
struct Ledger {
    calls: BTreeMap<String, Entry>,
    /// Ids of calls in the order in which they were taken.
    order: VecDeque<String>,
    active: usize,
    taken: u64,
    refused: u64,
    strays: u64,
    stray_calls: VecDeque<Stray>,
}

#[derive(Debug)]
struct Entry {
    call: BotCall,
    message_ids: VecDeque<String>,
    over: bool,
}

/// One item of a notification, as far as a bot looks at it.
struct Item {
    call_id: String,
    kind: String,
    new_call: bool,
    end: bool,
}

impl Handle for Shared {
    async fn handle(self: Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, _) => self.notified(&request),
            (&Method::GET | &Method::HEAD, "/healthz") => self.health(),
            (&Method::GET | &Method::HEAD, "/calls") => match serde_json::to_value(self.calls()) {
                Ok(calls) => json_response(StatusCode::OK, &calls),
                Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
            },
            (&Method::GET | &Method::HEAD, "/") => self.page(),
            (&Method::GET | &Method::HEAD, _) => error_response(
                StatusCode::NOT_FOUND,
                "notFound",
                "no such path: /, /calls and /healthz are there",
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
        let mut fresh = Vec::new();
        {
            let mut ledger = self.lock();
            let new_calls = items
                .iter()
                .filter(|item| item.new_call && !ledger.calls.contains_key(&item.call_id))
                .count();
            if new_calls > 0 && self.capacity.is_some_and(|capacity| ledger.active + new_calls > capacity) {
                ledger.refused += 1;
                return error_response(StatusCode::SERVICE_UNAVAILABLE, "full", "this instance is full");
            }
            for item in items {
                if item.new_call && !ledger.calls.contains_key(&item.call_id) {
                    let call = self.take(&item.call_id, request);
                    fresh.push((call.id.clone(), call.callback_uri.clone()));
                    ledger.take(call);
                }
                ledger.note(&item, message_id);
            }
        }
        for (id, callback) in fresh {
            let bot = Arc::clone(self);
            let mut answering = self.lock_answering();
            while answering.try_join_next().is_some() {}
            answering.spawn(async move { bot.answer(&id, &callback).await });
        }
        // The real SDK, too, takes a notification with 202 and works on it afterwards.
        empty(StatusCode::ACCEPTED)
    }

    fn take(&self, id: &str, request: &Request<Bytes>) -> BotCall {
        let header = |name| {
            let value = header_text(request.headers(), &HeaderName::from_static(name));
            value.filter(|value| value.len() <= HEADER_BYTES_MAX).map(str::to_owned)
        };
        BotCall {
            id: id.to_owned(),
            state: "taken".to_owned(),
            // Without a gateway the platform posts to the bot itself.
            callback_uri: header("switchboard-callback-uri").unwrap_or_else(|| self.own_callback.clone()),
            tenant: header("switchboard-tenant-id"),
            notifications: Vec::new(),
            count: 0,
            duplicates: 0,
            failure: None,
        }
    }

    /// Answers through Graph, again while the outcome is a passing fault.
    async fn answer(&self, id: &str, callback: &str) {
        let body = json!({
            "callbackUri": callback,
            "acceptedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
        });
        let body = Bytes::from(body.to_string());
        let give_up = Instant::now() + ANSWER_TIME_MAX;
        loop {
            let failure = match self.post_answer(id, body.clone()).await {
                Ok(StatusCode::ACCEPTED) => return,
                Ok(status) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    format!("Graph answered {status}")
                }
                Ok(status) => return self.lock().fail(id, format!("Graph answered {status}")),
                Err(failure) => failure,
            };
            if Instant::now() + ANSWER_PAUSE >= give_up {
                return self.lock().fail(id, failure);
            }
            sleep(ANSWER_PAUSE).await;
        }
    }

    async fn post_answer(&self, id: &str, body: Bytes) -> Result<StatusCode, String> {
        let path = format!("/v1.0/communications/calls/{id}/answer");
        let url = self.platform.join(&path).map_err(|error| error.to_string())?;
        let request = Request::post("/")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| error.to_string())?;
        let answer =
            self.client.send(request, &url, ANSWER_TRY_TIME_MAX).await.map_err(|error| error.to_string())?;
        Ok(answer.status)
    }

    fn health(&self) -> Response<Body> {
        let active = self.lock().active;
        let full = self.capacity.is_some_and(|capacity| active >= capacity);
        let mut health = json!({"state": if full { "full" } else { "ready" }, "calls": active});
        if let (Some(capacity), Some(health)) = (self.capacity, health.as_object_mut()) {
            health.insert("capacity".to_owned(), capacity.into());
        }
        json_response(StatusCode::OK, &health)
    }

    fn calls(&self) -> BotCalls {
        let ledger = self.lock();
        BotCalls {
            name: self.name.clone(),
            active: ledger.active,
            taken: ledger.taken,
            refused: ledger.refused,
            strays: ledger.strays,
            stray_calls: ledger.stray_calls.iter().cloned().collect(),
            calls: ledger
                .order
                .iter()
                .filter_map(|id| ledger.calls.get(id))
                .map(|entry| entry.call.clone())
                .collect(),
        }
    }

    fn page(&self) -> Response<Body> {
        let calls = self.calls();
        let mut rows = String::new();
        for call in calls.calls.iter().rev().take(PAGE_ROWS_MAX) {
            let state =
                call.failure.as_ref().map_or_else(|| call.state.clone(), |why| format!("failed: {why}"));
            let _ = writeln!(
                rows,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape_html(&call.id),
                escape_html(&state),
                escape_html(&call.notifications.join(", ")),
                call.count,
            );
        }
        if rows.is_empty() {
            rows.push_str("<tr><td colspan=4>No call yet.</td></tr>");
        }
        let name = escape_html(&calls.name);
        let (active, taken, refused, strays) = (calls.active, calls.taken, calls.refused, calls.strays);
        let page = format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>\
             <title>{name}</title><style>body{{font:16px system-ui;margin:2em}}td,th{{text-align:left;padding:.3em 1em .3em 0}}</style>\
             <h1>{name}</h1><p>{active} alive, {taken} taken, {refused} refused when full, \
             {strays} notifications about calls that are not mine.</p>\
             <table><tr><th>call<th>state<th>notifications<th>count</tr>{rows}</table>"
        );
        let mut response = respond(StatusCode::OK, Some("text/html; charset=utf-8"), Bytes::from(page));
        let policy = header::HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_answering(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.answering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn take(&mut self, call: BotCall) {
        while self.order.len() >= CALLS_MAX {
            // The oldest call that is over goes first; when all are alive the oldest one is forgotten.
            let over = self.order.iter().position(|id| self.calls.get(id).is_some_and(|entry| entry.over));
            let Some(id) = self.order.remove(over.unwrap_or(0)) else { break };
            if self.calls.remove(&id).is_some_and(|entry| !entry.over) {
                self.active = self.active.saturating_sub(1);
            }
        }
        self.active += 1;
        self.taken += 1;
        self.order.push_back(call.id.clone());
        self.calls.insert(call.id.clone(), Entry { call, message_ids: VecDeque::new(), over: false });
    }

    fn note(&mut self, item: &Item, message_id: Option<&str>) {
        let Some(entry) = self.calls.get_mut(&item.call_id) else {
            self.strays += 1;
            if self.stray_calls.len() >= STRAYS_MAX {
                self.stray_calls.pop_front();
            }
            self.stray_calls.push_back(Stray { id: item.call_id.clone(), kind: item.kind.clone() });
            return;
        };
        entry.call.count += 1;
        if let Some(id) = message_id {
            if entry.message_ids.iter().any(|seen| seen == id) {
                entry.call.duplicates += 1;
            } else {
                if entry.message_ids.len() >= MESSAGE_IDS_MAX {
                    entry.message_ids.pop_front();
                }
                entry.message_ids.push_back(id.to_owned());
            }
        }
        if entry.call.notifications.len() < NOTIFICATIONS_MAX {
            entry.call.notifications.push(item.kind.clone());
        }
        if matches!(item.kind.as_str(), "establishing" | "established") && !entry.over {
            entry.call.state.clone_from(&item.kind);
        }
        if item.end && !entry.over {
            entry.over = true;
            entry.call.state = "ended".to_owned();
            self.active = self.active.saturating_sub(1);
        }
    }

    fn fail(&mut self, id: &str, why: String) {
        if let Some(entry) = self.calls.get_mut(id)
            && !entry.over
        {
            entry.over = true;
            entry.call.state = "failed".to_owned();
            entry.call.failure = Some(why);
            self.active = self.active.saturating_sub(1);
        }
    }
}

impl Item {
    /// `None` where the item names no call, or one whose id does not fit into a path segment.
    fn read(item: &Value) -> Option<Self> {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let path = text("resourceUrl").or_else(|| text("resource"))?;
        let mut segments = path.split('/').skip_while(|segment| *segment != "calls").skip(1);
        let call_id = segments.next()?;
        let fits = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
        if call_id.is_empty()
            || call_id.len() > ID_BYTES_MAX
            || !call_id.bytes().all(fits)
            || call_id.starts_with('.')
        {
            return None;
        }
        let change = text("changeType")?.to_ascii_lowercase();
        let state = item.pointer("/resourceData/state").and_then(Value::as_str).map(str::to_ascii_lowercase);
        let below = segments.next();
        let kind = match (below, state.as_deref()) {
            (None, Some(state)) => STATES.iter().find(|known| **known == state).copied().unwrap_or("call"),
            (None, None) if change == "deleted" => "deleted",
            (None, None) => "call",
            (Some("participants"), _) => "roster",
            (Some("operations"), _) => "operation",
            (Some("contentsharingsessions"), _) => "content sharing",
            (Some(_), _) => "other",
        };
        Some(Self {
            call_id: call_id.to_ascii_lowercase(),
            kind: kind.to_owned(),
            new_call: change == "created" && kind == "incoming",
            end: below.is_none() && (change == "deleted" || kind == "terminated"),
        })
    }
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// States that are shown by name; the platform's set is open, and a name is remembered for every notification.
const STATES: [&str; 11] = [
    "incoming",
    "establishing",
    "ringing",
    "established",
    "hold",
    "transferring",
    "transferaccepted",
    "redirecting",
    "terminating",
    "terminated",
    "unknownfuturevalue",
];

/// Bounds what a bot remembers, with those below: about 10 MiB at the very worst, 1 KiB a call as a rule.
const CALLS_MAX: usize = 1_000;
const NOTIFICATIONS_MAX: usize = 64;
const MESSAGE_IDS_MAX: usize = 32;
const STRAYS_MAX: usize = 100;
const ID_BYTES_MAX: usize = 128;
const HEADER_BYTES_MAX: usize = 2_048;
const PAGE_ROWS_MAX: usize = 100;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(12);
const ANSWER_TRY_TIME_MAX: Duration = Duration::from_secs(3);
const ANSWER_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(item: &Value, expected: Option<(&str, &str, bool, bool)>) {
        let item = Item::read(item);
        let seen =
            item.as_ref().map(|item| (item.call_id.as_str(), item.kind.as_str(), item.new_call, item.end));
        assert_eq!(seen, expected);
    }

    #[test]
    fn items_are_told_apart() {
        let call = |change: &str, path: &str, data: Value| json!({"changeType": change, "resource": path, "resourceData": data});
        check(
            &call("Created", "/app/calls/A1", json!({"state": "Incoming"})),
            Some(("a1", "incoming", true, false)),
        );
        check(
            &call("updated", "/app/calls/a1", json!({"state": "established"})),
            Some(("a1", "established", false, false)),
        );
        check(
            &call("updated", "communications/calls/a1/participants", json!([])),
            Some(("a1", "roster", false, false)),
        );
        check(
            &call("deleted", "/app/calls/a1/operations/2", json!({})),
            Some(("a1", "operation", false, false)),
        );
        check(&call("deleted", "/app/calls/a1", json!({})), Some(("a1", "deleted", false, true)));
        check(
            &call("updated", "/app/calls/a1", json!({"state": "x".repeat(9_000)})),
            Some(("a1", "call", false, false)),
        );
        check(&call("created", "/app/calls/..", json!({})), None);
        check(&call("created", "/app/calls/a%2fb", json!({})), None);
        check(&call("created", "/app/calls", json!({})), None);
        check(&json!({"changeType": "created"}), None);
        check(&json!(7), None);
    }

    #[test]
    fn memory_is_bounded_and_living_calls_are_kept_longest() {
        let mut ledger = Ledger::default();
        let call = |id: usize| BotCall {
            id: id.to_string(),
            state: "taken".to_owned(),
            callback_uri: String::new(),
            tenant: None,
            notifications: Vec::new(),
            count: 0,
            duplicates: 0,
            failure: None,
        };
        for id in 0..CALLS_MAX {
            ledger.take(call(id));
        }
        ledger.fail("5", "for the test".to_owned());
        ledger.take(call(CALLS_MAX));
        assert_eq!((ledger.calls.len(), ledger.active), (CALLS_MAX, CALLS_MAX));
        assert!(!ledger.calls.contains_key("5") && ledger.calls.contains_key("0"));
        ledger.take(call(CALLS_MAX + 1));
        assert_eq!((ledger.calls.len(), ledger.active), (CALLS_MAX, CALLS_MAX));
        assert!(!ledger.calls.contains_key("0"));
    }

    #[test]
    fn a_page_shows_names_as_text() {
        assert_eq!(escape_html("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#39;");
    }
}
