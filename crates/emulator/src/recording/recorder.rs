//! The recorder: forwards notifications unchanged, and saves them without secrets.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use serde_json::Value;
use tokio::{net::TcpListener, time::Instant};
use url::Url;

use super::{
    file::{RecordedNotification, RecordingFile},
    scrub::Scrubber,
};
use crate::{
    client::{Client, KeepAlive},
    clock,
    server::{Body, Handle, Server, error_response, header_text, method_not_allowed, respond},
};

/// The settings of a recorder.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// The address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The scheme, host and port of the bot or of the gateway. The path of each request is kept.
    pub forward_to: Url,
    /// The folder for the recording, created if absent.
    pub folder: PathBuf,
    /// Receives each notification.
    pub on_received: fn(&Received),
}

/// A notification that was forwarded.
#[derive(Clone, Debug)]
pub struct Received {
    /// The state of the call, or another short name. It has words of the protocol only.
    pub what: String,
    /// The status of the response; `None` if there was no response.
    pub status: Option<StatusCode>,
    /// The reason why it was not saved; `None` if it was.
    pub not_saved: Option<String>,
}

/// A running recorder. It stops when it is dropped.
#[derive(Debug)]
pub struct NotificationRecorder {
    forwarder: Arc<Forwarder>,
    server: Server,
}

impl NotificationRecorder {
    /// Creates the file, binds the address, and serves on the current runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the file cannot be created.
    pub async fn start(settings: RecorderSettings, client: Client) -> Result<Self, RecorderStartError> {
        let RecorderSettings { listen, forward_to, folder, on_received } = settings;
        let not_bound = |cause| RecorderStartError::Bind { address: listen, cause };
        let listener = TcpListener::bind(listen).await.map_err(not_bound)?;
        let file = RecordingFile::create(&folder, clock::now())
            .map_err(|cause| RecorderStartError::File { folder, cause })?;
        let scrubber = Scrubber::new().map_err(io::Error::other).map_err(not_bound)?;
        let state = Mutex::new(State { file, scrubber, first: None });
        let forwarder = Arc::new(Forwarder { client, forward_to, on_received, state });
        let server = Server::start_for_any_host(listener, Arc::clone(&forwarder)).map_err(not_bound)?;
        Ok(Self { forwarder, server })
    }

    /// Returns the bound address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the file of the recording.
    pub fn file(&self) -> PathBuf {
        let state = self.forwarder.state.lock().unwrap_or_else(PoisonError::into_inner);
        let path: &Path = state.file.path();
        path.to_owned()
    }

    /// Accepts no more notifications, and saves those in flight.
    pub async fn finish(mut self) {
        self.server.finish().await;
    }
}

struct Forwarder {
    client: Client,
    forward_to: Url,
    on_received: fn(&Received),
    state: Mutex<State>,
}

/// The debug form has no body and no replaced value.
impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("forward_to", &self.forward_to.as_str()).finish_non_exhaustive()
    }
}

struct State {
    file: RecordingFile,
    scrubber: Scrubber,
    first: Option<Instant>,
}

impl Handle for Forwarder {
    async fn handle(self: Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        if request.method() != Method::POST {
            return method_not_allowed("POST");
        }
        let at_ms = self.arrived();
        let (head, body) = request.into_parts();
        let response = self.forward(&head, body.clone()).await;
        let status = response.as_ref().ok().map(Response::status);
        let saved = self.save(&head.headers, &body, at_ms, status);
        (self.on_received)(&Received { what: name_of(&body), status, not_saved: saved.err() });
        response.unwrap_or_else(|reason| {
            let message = format!("the recorder got no response from {}: {reason}", self.forward_to);
            error_response(StatusCode::BAD_GATEWAY, "badGateway", &message)
        })
    }
}

impl Forwarder {
    /// Returns the milliseconds since the first notification arrived.
    fn arrived(&self) -> u64 {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *state.first.get_or_insert(now);
        u64::try_from(now.saturating_duration_since(first).as_millis()).unwrap_or(u64::MAX)
    }

    /// Forwards a request and returns the response, both with their headers.
    async fn forward(&self, head: &http::request::Parts, body: Bytes) -> Result<Response<Body>, String> {
        let mut url = self.forward_to.clone();
        url.set_path(head.uri.path());
        url.set_query(head.uri.query());
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.headers_mut() = end_to_end(&head.headers);
        let sent = self.client.send(request, &url, RESPONSE_TIME_MAX, KeepAlive::Off).await;
        let received = sent.map_err(|error| error.to_string())?;
        let mut response = respond(received.status, None, received.body);
        *response.headers_mut() = end_to_end(&received.headers);
        Ok(response)
    }

    fn save(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        at_ms: u64,
        status: Option<StatusCode>,
    ) -> Result<(), String> {
        // Its sender did not prove to be the platform.
        if let Some(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) = status {
            return Err(format!("refused with {}", status.as_u16()));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { file, scrubber, .. } = &mut *state;
        let mut kept = BTreeMap::new();
        let mut removed_headers = Vec::new();
        for name in headers.keys() {
            match header_text(headers, name).filter(|_| KEPT_HEADERS.contains(&name.as_str())) {
                Some(value) => {
                    kept.insert(name.as_str().to_owned(), scrubber.header(value));
                }
                None => removed_headers.push(name.as_str().to_owned()),
            }
        }
        let status = status.unwrap_or(StatusCode::BAD_GATEWAY).as_u16();
        let body = scrubber.body(body);
        let notification = RecordedNotification { at_ms, headers: kept, removed_headers, body, status };
        match file.append(&notification) {
            Ok(true) => Ok(()),
            Ok(false) => Err("the recording is full".to_owned()),
            Err(error) => Err(format!("cannot write the recording: {error}")),
        }
    }
}

/// Returns the headers without those of one connection (RFC 9110 section 7.6.1) and without the host, which
/// belongs to the URL. The length is that of the body.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut kept = headers.clone();
    for name in &named {
        kept.remove(name);
    }
    for name in CONNECTION_HEADERS {
        kept.remove(&name);
    }
    kept
}

/// Names a notification for people, by words of the protocol only.
fn name_of(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return "not JSON".to_owned() };
    let word = |pointer: &str| {
        let text = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let letters = text.trim_start_matches("#microsoft.graph.");
        let fits = letters.len() <= 40 && letters.bytes().all(|byte| byte.is_ascii_alphabetic());
        if fits { letters.to_owned() } else { String::new() }
    };
    if body.get("value").is_none() {
        return "legacy".to_owned();
    }
    let parts = [word("/value/0/changeType"), word("/value/0/resourceData/@odata.type")];
    let state = word("/value/0/resourceData/state");
    let parts: Vec<String> = parts.into_iter().chain([state]).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "notification".to_owned() } else { parts.join(" ") }
}

/// The reason why a recorder did not start.
#[derive(Debug, thiserror::Error)]
pub enum RecorderStartError {
    /// The address is in use or not an address of this machine.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// The requested address.
        address: SocketAddr,
        /// The error of the system.
        cause: io::Error,
    },
    /// The file cannot be created.
    #[error("cannot create a recording in {}: {cause}", .folder.display())]
    File {
        /// The requested folder.
        folder: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}

/// The headers of the platform whose values are ids or words. Ids are replaced as in bodies.
const KEPT_HEADERS: [&str; 8] = [
    "client-request-id",
    "ms-teams-partition",
    "ms-teams-region",
    "ms-teams-ring",
    "scenario-id",
    "x-microsoft-skype-caller-region",
    "x-microsoft-skype-chain-id",
    "x-microsoft-skype-message-id",
];

const CONNECTION_HEADERS: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Longer than the 15 s that a bot has to answer a call.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(20);
