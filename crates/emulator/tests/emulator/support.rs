//! Support for the tests: one set of keys, a bare HTTP client, a scripted webhook, and a token verifier.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use openssl::{bn::BigNum, hash::MessageDigest, pkey::PKey, rsa::Rsa, sign::Verifier};
use serde_json::Value;
use switchboard_emulator::{
    CallEnd, CallEvent, CallRequest, CallStep, Credential, Keys, Platform, PlatformSettings, Timeline,
    parse_http_url,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use uuid::Uuid;

pub(crate) const APP: Uuid = Uuid::from_u128(0x0efc_74f7_41c3_47a4_8775_7259_bfef_4241);
pub(crate) const TENANT: Uuid = Uuid::from_u128(0xaaaa_aaaa_2222_4333_8444_5555_5555_5555);

/// Starts a platform with the keys that all tests share: to make them takes longer than most tests.
pub(crate) async fn platform() -> Platform {
    platform_that_trusts(None).await
}

/// Starts a platform that trusts the authorities of a file besides the system's.
pub(crate) async fn platform_that_trusts(ca: Option<PathBuf>) -> Platform {
    platform_with(|settings| PlatformSettings { ca, ..settings }).await
}

/// Starts a platform with other settings.
pub(crate) async fn platform_with(change: impl FnOnce(PlatformSettings) -> PlatformSettings) -> Platform {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| Keys::generate().unwrap()).clone();
    let settings = PlatformSettings { apps: vec![APP], keys: Some(keys), ..PlatformSettings::loopback() };
    Platform::start(change(settings)).await.unwrap()
}

/// Starts a platform with a registered credential, whose Graph asks for tokens.
pub(crate) async fn guarded() -> Platform {
    platform_with(|settings| PlatformSettings {
        credentials: vec![(APP, Credential::secret("s"))],
        ..settings
    })
    .await
}

/// Returns a request for a call of 1 ms to a webhook.
pub(crate) fn call_to(url: &str) -> CallRequest {
    let mut call = CallRequest::new(parse_http_url(url).unwrap(), APP);
    call.tenant = TENANT;
    call.duration = std::time::Duration::from_millis(1);
    call
}

/// Waits for the end of a call, and returns its steps as `what status` and as they are, and its end.
pub(crate) async fn played(timeline: Timeline) -> (Vec<String>, Vec<CallStep>, CallEnd) {
    let mut steps = Vec::new();
    let mut end = None;
    for event in timeline.all().await {
        match event {
            CallEvent::Call(_) => assert!(steps.is_empty(), "the call is the first event"),
            CallEvent::Sent(_) => {}
            CallEvent::Step(step) => steps.push(*step),
            CallEvent::End(last) => end = Some(last),
        }
    }
    let words = steps.iter().map(|step| format!("{} {}", step.what, step.status.unwrap_or(0))).collect();
    (words, steps, end.expect("a call has an end"))
}

/// A whole HTTP response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &str) -> Reply {
    request(address, "POST", path, body).await
}

pub(crate) async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    exchange(address, &text).await
}

/// Sends a request with additional headers.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    exchange(address, &text).await
}

/// Sends bytes as they are and reads until the peer closes.
pub(crate) async fn exchange(address: SocketAddr, text: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut bytes = Vec::new();
    // A server that refuses early closes the connection before the request is written.
    let (_, _) = tokio::join!(writer.write_all(text.as_bytes()), reader.read_to_end(&mut bytes));
    let response = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response.as_str(), ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    Reply { status, head: head.to_owned(), body }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, data)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let (chunk, after) = data.split_at(size);
        body.push_str(chunk);
        rest = after.trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    body
}

/// A request that a webhook received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns `legacy`, the state of the call, or the subject of the first item.
    pub(crate) fn kind(&self) -> String {
        let Some(item) = self.body.pointer("/value/0") else { return "legacy".to_owned() };
        match item.pointer("/resourceData/state").and_then(Value::as_str) {
            Some(state) => state.to_owned(),
            None => item["resourceUrl"].as_str().unwrap().split('/').nth(4).unwrap_or("none").to_owned(),
        }
    }

    pub(crate) fn is_new_call(&self) -> bool {
        self.body.pointer("/value/0/changeType").is_some_and(|change| change == "created")
    }

    pub(crate) fn call_id(&self) -> String {
        self.body
            .pointer("/value/0/resourceUrl")
            .unwrap()
            .as_str()
            .unwrap()
            .split('/')
            .nth(3)
            .unwrap()
            .to_owned()
    }
}

/// The reaction of a webhook to one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Responds with a status, and with a `Location`.
    Status(u16, Option<String>),
    /// Sends a request about the call to the platform first, then responds 202.
    Ask { method: &'static str, action: &'static str, body: String },
    /// Closes the connection without a response.
    Hang,
}

impl Act {
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, None)
    }

    pub(crate) fn answer(callback: &str) -> Self {
        let body = serde_json::json!({
            "callbackUri": callback,
            "acceptedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
        });
        Self::Ask { method: "POST", action: "/answer", body: body.to_string() }
    }
}

/// A webhook with a scripted reaction to each request. It stops when it is dropped.
pub(crate) struct Webhook {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// Starts the webhook. `script` gets the request and the number of earlier ones.
    pub(crate) async fn start(
        platform: &Platform,
        script: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let graph = platform.address();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let changed = Arc::new(Notify::new());
        let (seen_here, changed_here) = (Arc::clone(&seen), Arc::clone(&changed));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read_request(&mut stream).await else { continue };
                let before = {
                    let mut seen = seen_here.lock().unwrap();
                    seen.push(request.clone());
                    seen.len() - 1
                };
                changed_here.notify_waiters();
                let (status, location) = match script(&request, before) {
                    Act::Status(status, location) => (status, location),
                    Act::Ask { method, action, body } => {
                        let path = format!("/v1.0/communications/calls/{}{action}", request.call_id());
                        let reply = self::request(graph, method, &path, &body).await;
                        assert!((200..300).contains(&reply.status), "{reply:?}");
                        (202, None)
                    }
                    Act::Hang => continue,
                };
                let location = location.map(|to| format!("Location: {to}\r\n")).unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, seen, changed, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/calls", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.seen().iter().map(Seen::kind).collect()
    }

    /// Waits until the last request is of this kind.
    pub(crate) async fn until(&self, kind: &str) -> Seen {
        loop {
            let changed = self.changed.notified();
            if let Some(last) = self.seen().last().filter(|last| last.kind() == kind) {
                return last.clone();
            }
            changed.await;
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
            if body.len() >= length {
                return Some(Seen { path, headers, body: serde_json::from_str(body).ok()? });
            }
        }
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

/// Verifies a compact token with OpenSSL against a key set, and returns the header, the claims and the key.
pub(crate) fn verify(token: &str, key_set: &Value) -> Result<(Value, Value, Value), String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { return Err("not three parts".to_owned()) };
    let header_json: Value = serde_json::from_slice(&decode(header)).unwrap();
    let claims: Value = serde_json::from_slice(&decode(payload)).unwrap();
    if header_json["alg"] != "RS256" {
        return Err(format!("alg {}", header_json["alg"]));
    }
    let key = key_set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header_json["kid"]);
    let key = key.ok_or("no such key")?;
    let number = |name: &str| BigNum::from_slice(&decode(key[name].as_str().unwrap())).unwrap();
    let public = PKey::from_rsa(Rsa::from_public_components(number("n"), number("e")).unwrap()).unwrap();
    let mut verifier = Verifier::new(MessageDigest::sha256(), &public).unwrap();
    let signed = format!("{header}.{payload}");
    if verifier.verify_oneshot(&decode(signature), signed.as_bytes()).unwrap_or(false) {
        Ok((header_json, claims, key.clone()))
    } else {
        Err("wrong signature".to_owned())
    }
}

/// Decodes base64url without padding.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let mut standard = text.replace('-', "+").replace('_', "/");
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    openssl::base64::decode_block(&standard).unwrap()
}
