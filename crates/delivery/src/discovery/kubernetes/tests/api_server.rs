//! A fake API server for EndpointSlices and pods, which lists and watches as the Kubernetes API concepts
//! describe: pages with `limit` and `continue`, watches from a `resourceVersion`, bookmarks, 410 Gone. It can
//! be away, and can send scripted responses.
//!
//! The end-to-end tests of the server also use it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The server. Dropping it closes all its connections.
#[derive(Debug)]
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Notified whenever `state` changes.
    changed: watch::Sender<()>,
    connections: JoinSet<()>,
    /// Bound and never listening, so that no other process takes the port while the server is away.
    _reserved: TcpSocket,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    /// Changes before this one are forgotten.
    oldest: u64,
    slices: BTreeMap<String, Value>,
    /// The pods that the server has, by name.
    pods: BTreeMap<String, Value>,
    /// True if every request for a pod is refused.
    pods_forbidden: bool,
    /// Lines of a watch by version.
    history: Vec<(u64, String)>,
    /// The positions that `continue` tokens refer to.
    snapshots: HashMap<String, (u64, Vec<Value>)>,
    /// Complete responses for the next requests, instead of real ones.
    scripted: VecDeque<Vec<u8>>,
    /// The number of cuts. Watches that started before the last one end.
    cuts: u64,
    page_max: usize,
    requests: Vec<Seen>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) authorization: Option<String>,
}

impl Seen {
    pub(crate) fn is_pod(&self) -> bool {
        self.path.starts_with(PODS)
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let state = State { version: 100, page_max: usize::MAX, ..State::default() };
        let reserved = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut server = Self {
            address: reserved.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(()),
            connections: JoinSet::new(),
            _reserved: reserved,
        };
        server.come_back();
        server
    }

    /// Stops to listen, and cuts all connections.
    pub(crate) async fn go_away(&mut self) {
        self.connections.shutdown().await;
    }

    pub(crate) fn come_back(&mut self) {
        let listener = socket(self.address).listen(64).unwrap();
        let (state, changed) = (Arc::clone(&self.state), self.changed.clone());
        self.connections.spawn(accept(listener, state, changed));
    }

    /// Writes a slice, new or changed.
    pub(crate) fn put(&self, name: &str, slice: Value) {
        self.change(|state| {
            let known = state.slices.contains_key(name);
            let slice = state.stamped(name, slice);
            state.slices.insert(name.to_owned(), slice.clone());
            state.record(if known { "MODIFIED" } else { "ADDED" }, &slice);
        });
    }

    pub(crate) fn delete(&self, name: &str) {
        self.change(|state| {
            let slice = state.slices.remove(name).unwrap();
            let slice = state.stamped(name, slice);
            state.record("DELETED", &slice);
        });
    }

    /// Writes a pod that runs, new or changed. Its uid starts with eight times `digit`.
    pub(crate) fn put_pod(&self, name: &str, digit: char) {
        self.put_pod_in_phase(name, digit, "Running");
    }

    pub(crate) fn put_pod_in_phase(&self, name: &str, digit: char, phase: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "media", "uid": uid(digit), "resourceVersion": "7"},
            "spec": {"containers": [{"name": "bot", "image": "bot"}]},
            "status": {"phase": phase, "podIP": "10.0.0.1"}
        });
        self.change(|state| drop(state.pods.insert(name.to_owned(), pod)));
    }

    pub(crate) fn delete_pod(&self, name: &str) {
        self.change(|state| drop(state.pods.remove(name).unwrap()));
    }

    /// Refuses all further requests for pods: the role does not have that right.
    pub(crate) fn forbid_pods(&self) {
        self.change(|state| state.pods_forbidden = true);
    }

    /// Sends all watches a bookmark: nothing changed up to a new version.
    pub(crate) fn bookmark(&self) {
        self.change(|state| {
            let slice = state.stamped("", Value::Null);
            let version = slice["metadata"]["resourceVersion"].clone();
            let object = json!({
                "apiVersion": API_VERSION, "kind": "EndpointSlice",
                "metadata": {"resourceVersion": version, "creationTimestamp": null},
                "endpoints": null, "ports": null, "addressType": ""
            });
            state.record("BOOKMARK", &object);
        });
    }

    /// Sends any line to all watches.
    pub(crate) fn say(&self, line: &str) {
        self.change(|state| {
            state.version += 1;
            state.history.push((state.version, line.to_owned()));
        });
    }

    /// Forgets the versions up to now, as after a compaction.
    pub(crate) fn forget(&self) {
        self.change(|state| {
            state.version += 1;
            state.oldest = state.version;
            state.history.clear();
        });
    }

    /// Cuts all watches.
    pub(crate) fn drop_watches(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Responds to the next request with these bytes, and hangs up.
    pub(crate) fn script(&self, response: impl Into<Vec<u8>>) {
        self.change(|state| state.scripted.push_back(response.into()));
    }

    /// Puts at most this many slices on a page, whatever `limit` says.
    pub(crate) fn page_max(&self, slices: usize) {
        self.change(|state| state.page_max = slices);
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.state().requests.clone()
    }

    pub(crate) fn version(&self) -> String {
        self.state().version.to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }
}

impl State {
    /// Adds the version that this change creates.
    fn stamped(&mut self, name: &str, mut slice: Value) -> Value {
        self.version += 1;
        slice["metadata"]["name"] = json!(name);
        slice["metadata"]["resourceVersion"] = json!(self.version.to_string());
        slice
    }

    fn record(&mut self, kind: &str, object: &Value) {
        let mut object = object.clone();
        object["apiVersion"] = json!(API_VERSION);
        object["kind"] = json!("EndpointSlice");
        self.history.push((self.version, json!({"type": kind, "object": object}).to_string()));
    }

    fn pod(&self, name: &str) -> Vec<u8> {
        if self.pods_forbidden {
            return status(403, "Forbidden", "pods is forbidden: User cannot get resource");
        }
        match self.pods.get(name) {
            Some(pod) => ok(&pod.to_string()),
            None => status(404, "NotFound", "pods not found"),
        }
    }

    fn list(&mut self, query: &HashMap<String, String>) -> Vec<u8> {
        let (version, items) = match query.get("continue") {
            None => (self.version, self.slices.values().cloned().collect()),
            Some(token) => match self.snapshots.remove(token) {
                Some(snapshot) if snapshot.0 >= self.oldest => snapshot,
                Some(_) | None => {
                    return status(410, "Expired", "The provided continue parameter is too old");
                }
            },
        };
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let mut page: Vec<Value> = items;
        let rest = page.split_off(page.len().min(limit).min(self.page_max));
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if !rest.is_empty() {
            // Not valid in a query without escapes, like a real token.
            let token = format!("eyJ2{}+/={}&", version, rest.len());
            metadata["continue"] = json!(token);
            metadata["remainingItemCount"] = json!(rest.len());
            self.snapshots.insert(token, (version, rest));
        }
        let list = json!({
            "kind": "EndpointSliceList", "apiVersion": API_VERSION, "metadata": metadata, "items": page
        });
        ok(&list.to_string())
    }
}

/// The data of one slice, as the controller writes it. `endpoints` come from [`pod`].
pub(crate) fn slice(family: &str, port: (&str, u16), endpoints: &[Value]) -> Value {
    let (name, number) = port;
    json!({
        "metadata": {
            "generateName": "bots-", "namespace": "media", "generation": 1,
            "labels": {
                "kubernetes.io/service-name": "bots",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"
            },
            "managedFields": [{
                "manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:endpoints": {}}
            }]
        },
        "addressType": family,
        // Empty lists are null, as Go writes them.
        "endpoints": if endpoints.is_empty() { Value::Null } else { json!(endpoints) },
        "ports": [
            {"name": "metrics", "protocol": "TCP", "port": 1},
            {"name": name, "protocol": "TCP", "port": number}
        ]
    })
}

/// An endpoint of a pod whose uid starts with eight times `digit`.
pub(crate) fn pod(name: &str, digit: char, address: &str, conditions: Value) -> Value {
    let mut endpoint = json!({
        "addresses": [address],
        "nodeName": "node-1", "zone": "westeurope-1", "hints": {"forZones": [{"name": "westeurope-1"}]},
        "targetRef": {"kind": "Pod", "namespace": "media", "name": name, "uid": uid(digit)}
    });
    endpoint["conditions"] = conditions;
    endpoint
}

pub(crate) fn uid(digit: char) -> String {
    format!("{}-0000-4000-8000-000000000000", digit.to_string().repeat(8))
}

pub(crate) fn ready() -> Value {
    json!({"ready": true, "serving": true, "terminating": false})
}

pub(crate) fn unready() -> Value {
    json!({"ready": false, "serving": false, "terminating": false})
}

pub(crate) fn terminating() -> Value {
    json!({"ready": false, "serving": true, "terminating": true})
}

/// A response with a JSON body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    response(200, body)
}

/// A response with a status of the API.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Vec<u8> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code
    });
    response(code, &status.to_string())
}

fn response(code: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {length}");
    format!("{head}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, changed: watch::Sender<()>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (state, changed) = (Arc::clone(&state), changed.subscribe());
        connections.spawn(async move {
            // The client may hang up before the end.
            let _ = serve(stream, &state, changed).await;
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    state: &Mutex<State>,
    changed: watch::Receiver<()>,
) -> Result<(), std::io::Error> {
    let mut head = String::new();
    let mut reader = BufReader::new(&mut stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let field = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    };
    let seen = Seen {
        path: path.to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        authorization: head.lines().find_map(field),
    };
    let response = {
        let mut state = state.lock().unwrap();
        state.requests.push(seen.clone());
        let selector = seen.query.get("labelSelector").map(String::as_str);
        match state.scripted.pop_front() {
            Some(scripted) => Some(scripted),
            None if seen.is_pod() => Some(state.pod(seen.path.strip_prefix(PODS).unwrap())),
            None if path != PATH || selector != Some("kubernetes.io/service-name=bots") => {
                Some(status(404, "NotFound", "the server could not find the requested resource"))
            }
            None if seen.is_watch() => None,
            None => Some(state.list(&seen.query)),
        }
    };
    match response {
        Some(bytes) => stream.write_all(&bytes).await,
        None => serve_watch(stream, state, changed, &seen.query).await,
    }
}

async fn serve_watch(
    mut stream: TcpStream,
    state: &Mutex<State>,
    mut changed: watch::Receiver<()>,
    query: &HashMap<String, String>,
) -> Result<(), std::io::Error> {
    let seconds: u64 = query["timeoutSeconds"].parse().unwrap();
    let bookmarks = query.get("allowWatchBookmarks").map(String::as_str) == Some("true");
    let mut sent_up_to: u64 = query["resourceVersion"].parse().unwrap();
    let cuts = state.lock().unwrap().cuts;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(end);
    loop {
        changed.mark_unchanged();
        let (lines, over) = {
            let state = state.lock().unwrap();
            let expired = json!({
                "type": "ERROR",
                "object": {
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "reason": "Expired", "code": 410,
                    "message": format!("too old resource version: {sent_up_to} ({})", state.oldest)
                }
            });
            let news = state.history.iter().filter(|(version, _)| *version > sent_up_to);
            let wanted = news.filter(|(_, line)| bookmarks || !line.contains("\"BOOKMARK\""));
            let lines: Vec<String> = if sent_up_to < state.oldest {
                vec![expired.to_string()]
            } else {
                wanted.map(|(_, line)| line.clone()).collect()
            };
            let over = sent_up_to < state.oldest || state.cuts > cuts;
            sent_up_to = state.version;
            (lines, over)
        };
        for line in lines {
            let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
            // In two parts: no reader may treat a write as a line.
            let (start, rest) = chunk.as_bytes().split_at(chunk.len() / 2);
            stream.write_all(start).await?;
            stream.flush().await?;
            stream.write_all(rest).await?;
        }
        if over {
            // Half a line, and no last chunk: the connection broke.
            return stream.write_all(b"10\r\n{\"type\":").await;
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = &mut end => return stream.write_all(b"0\r\n\r\n").await,
        }
    }
}

const API_VERSION: &str = "discovery.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/media/pods/";
const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/media/endpointslices";
