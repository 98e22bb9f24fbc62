//! The emulator as processes: the platform, its bots, and the sound files that it fetches.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{APP, Client, Gateway, Request, Response, Settings, TENANT, gateway::BINARY, soon, until};

/// A process of the emulator. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) origin: String,
    child: Child,
    /// Open, so that the process can write.
    _stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a command of the emulator, which prints its URL as the member `origin` or `url`.
    ///
    /// `None` without the program, which tests of this crate alone do not build; with `CI=true` that is a
    /// failure.
    fn start(arguments: &[&str]) -> Option<Self> {
        let program = Path::new(BINARY).with_file_name("switchboard-emulator");
        if !program.is_file() {
            let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            assert!(!is_ci, "{} is not built", program.display());
            return None;
        }
        let mut command = Command::new(program);
        command.args(arguments).args(["--json", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let origin =
            started.get("origin").or_else(|| started.get("url")).unwrap().as_str().unwrap().to_owned();
        Some(Self { origin, child, _stdout: stdout })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Sends a request, with a bearer token unless it is empty.
    pub(crate) async fn send(&self, method: &str, target: &str, token: &str, body: &str) -> Response {
        let address = self.address();
        let mut request =
            Request::post(target, token, body).method(method).replace("Host", &address.to_string());
        if token.is_empty() {
            request = request.without("Authorization");
        }
        Client::connect(address).await.exchange(request.bytes()).await
    }

    /// Returns a token for Graph in the tenant of the calls.
    pub(crate) async fn token(&self) -> String {
        let secret = SECRET.replace('=', "%3D");
        let form = format!(
            "grant_type=client_credentials&client_id={APP}&client_secret={secret}\
             &scope=https://graph.microsoft.com/.default"
        );
        let address = self.address();
        let request = Request::post(&format!("/{TENANT}/oauth2/v2.0/token"), "", form)
            .without("Authorization")
            .replace("Content-Type", "application/x-www-form-urlencoded")
            .replace("Host", &address.to_string());
        let token = Client::connect(address).await.exchange(request.bytes()).await.json();
        token["access_token"].as_str().unwrap_or_else(|| panic!("{token}")).to_owned()
    }

    pub(crate) async fn get(&self, target: &str) -> Value {
        self.send("GET", target, "", "").await.json()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The platform, a gateway, and the bots behind it.
#[derive(Debug)]
pub(crate) struct Testbed {
    pub(crate) platform: Process,
    pub(crate) gateway: Gateway,
    pub(crate) bots: Vec<Process>,
}

impl Testbed {
    /// Starts a platform, `count` bots like the SDK with these further arguments, and a gateway.
    pub(crate) async fn with_sdk_bots(count: usize, arguments: &[&str]) -> Option<Self> {
        let platform = Self::platform()?;
        let bot = |number: usize| {
            let name = format!("bot-{number}");
            let own = ["bot", "--like", "sdk", "--name", &name, "--platform", &platform.origin];
            Process::start(&[&own, &CREDENTIALS[..], arguments].concat())
        };
        let bots: Vec<_> = (0..count).map_while(bot).collect();
        let urls: Vec<_> = bots.iter().map(|bot| format!("{}/api/calls", bot.origin)).collect();
        let gateway = Self::gateway(&platform, &urls, |settings| settings).await;
        Some(Self { platform, gateway, bots })
    }

    /// Starts a platform whose Graph requires tokens.
    pub(crate) fn platform() -> Option<Process> {
        Process::start(&[&["serve", "--duration", "600s"], &CREDENTIALS[..]].concat())
    }

    /// Starts a gateway that trusts the platform, before instances at these URLs.
    pub(crate) async fn gateway(
        platform: &Process,
        urls: &[String],
        change: impl FnOnce(Settings) -> Settings,
    ) -> Gateway {
        // The callback URIs have the port, so it must be known before the start.
        let public = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut settings = Settings::of_platform(&platform.origin, public);
        for (number, url) in urls.iter().enumerate() {
            settings = settings.instance(&format!("bot-{number}"), url, "");
        }
        let probe = "path = \"/healthz\"\ninterval = \"200ms\"";
        Gateway::start(&change(settings.line("fleet.probe", probe))).await
    }

    /// Places a call through the gateway and returns its id.
    pub(crate) async fn place(&self, more: &Value) -> String {
        place(&self.platform, &self.gateway, more).await
    }

    /// Sends one request of the SDK from a bot, and returns its outcome.
    pub(crate) async fn ask(&self, bot: usize, name: &str, call: &str, arguments: &Value) -> Value {
        let target = format!("/sdk/{name}?call={call}");
        self.bots[bot].send("POST", &target, "", &arguments.to_string()).await.json()
    }

    /// Returns the number of the bot that has the call, once it is established there.
    pub(crate) async fn owner(&self, call: &str) -> usize {
        until("an established call", async || {
            for (number, bot) in self.bots.iter().enumerate() {
                let calls = bot.get("/calls").await;
                let has = |found: &Value| found["id"] == call && found["state"] == "established";
                if calls["calls"].as_array().unwrap().iter().any(has) {
                    return Some(number);
                }
            }
            None
        })
        .await
    }
}

/// Places a call that lasts until it is ended, and returns its id.
pub(crate) async fn place(platform: &Process, gateway: &Gateway, more: &Value) -> String {
    let mut body = json!({
        "to": format!("http://{}/api/calls", gateway.public),
        "app": APP,
        "tenant": TENANT,
        "duration": "600s",
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let request = Request::post("/emulator/calls", "", body.to_string())
        .without("Authorization")
        .replace("Host", &platform.address().to_string());
    let mut stream = TcpStream::connect(platform.address()).await.unwrap();
    stream.write_all(&request.bytes()).await.unwrap();
    let mut lines = tokio::io::BufReader::new(stream).lines();
    let id = soon("the first event", async {
        let mut seen = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("{\"event\":\"call\"") {
                let event: Value = serde_json::from_str(&line).unwrap();
                return event["call"].as_str().unwrap().to_owned();
            }
            seen.push_str(&line);
        }
        panic!("not placed: {seen}");
    })
    .await;
    // The events are read from the history. Reading them here keeps the stream from filling up.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    id
}

/// The requests of a call so far, in the order of their ends.
pub(crate) async fn steps(platform: &Process, call: &str) -> Vec<Value> {
    let shown = platform.get(&format!("/emulator/calls/{call}")).await;
    let events = shown["events"].as_array().unwrap_or_else(|| panic!("{shown}"));
    events.iter().filter(|event| event["event"] == "step").cloned().collect()
}

/// Waits for the end of a call and returns it: the outcome, the reason, …
pub(crate) async fn end(platform: &Process, call: &str) -> Value {
    until("the end of the call", async || {
        let shown = platform.get(&format!("/emulator/calls/{call}")).await;
        shown["events"].as_array().unwrap().iter().find(|event| event["event"] == "end").cloned()
    })
    .await
}

/// Returns a step as `what status`.
pub(crate) fn word(step: &Value) -> String {
    format!("{} {}", step["what"].as_str().unwrap(), step["status"])
}

/// Returns the body of the request or of the response of a step.
pub(crate) fn body_of(step: &Value, part: &str) -> Value {
    let text = step[part]["body"].as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

/// Serves a WAV file of silence (16 kHz, mono, 16 bit) at every path, and returns its URL.
pub(crate) async fn sound(milliseconds: u32) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sound.wav", listener.local_addr().unwrap());
    let size = 16 * milliseconds * 2;
    let mut file = b"RIFF".to_vec();
    file.extend((size + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(16_000_u32.to_le_bytes());
    file.extend(32_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(size.to_le_bytes());
    file.resize(file.len() + usize::try_from(size).unwrap(), 0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut reader = tokio::io::BufReader::new(&mut stream);
            let _ = super::http::Message::read(&mut reader, super::http::Kind::Request).await;
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len());
            let _ = stream.write_all(&[head.as_bytes(), &file].concat()).await;
        }
    });
    url
}

/// The secret of the app, as `app.graph` of a gateway under test has it.
pub(crate) const SECRET: &str = super::settings::SEALS[1].1;

/// The app and its secret on the command line.
const CREDENTIALS: [&str; 4] = ["--app-id", APP, "--secret", SECRET];
