//! A bot instance that records each request and responds as the test specifies.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    http::{Kind, Message},
    port::Port,
    soon,
};

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: String,
    port: Port,
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Message>,
    server: JoinSet<()>,
}

/// The reaction of an instance to one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The bytes of a response; the connection stays open.
    Bytes(Vec<u8>),
    /// Bytes, after which the connection is closed.
    Cut(Vec<u8>),
    /// No response.
    Never,
    /// The connection is reset.
    Reset,
    /// The given reaction, after `release` was called.
    Held(Box<Self>),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::with(status, &[], "")
    }

    pub(crate) fn with(status: u16, fields: &[(&str, &str)], body: &str) -> Self {
        let mut text = format!("HTTP/1.1 {status} X\r\n");
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if status != 204 {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        Self::Bytes(format!("{text}\r\n{body}").into_bytes())
    }

    pub(crate) fn held(self) -> Self {
        Self::Held(Box::new(self))
    }
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    requests: mpsc::UnboundedSender<Message>,
    released: watch::Sender<bool>,
}

#[derive(Debug)]
struct Script {
    /// Reactions to the next requests.
    next: VecDeque<Reply>,
    /// The reaction to all other requests.
    always: Reply,
    /// The reaction to a probe.
    probe: Reply,
}

impl Instance {
    /// Starts an instance that responds with 202 and reports that it is ready.
    pub(crate) fn start(name: &str) -> Self {
        let script = Script {
            next: VecDeque::new(),
            always: Reply::status(202),
            probe: Reply::with(200, &[("Content-Type", "application/json")], r#"{"state":"ready"}"#),
        };
        let (sender, requests) = mpsc::unbounded_channel();
        let shared =
            Shared { script: Mutex::new(script), requests: sender, released: watch::Sender::new(false) };
        let mut instance = Self {
            name: name.into(),
            port: Port::reserve(),
            shared: Arc::new(shared),
            requests,
            server: JoinSet::new(),
        };
        instance.restart();
        instance
    }

    /// Starts one instance per name.
    pub(crate) fn start_all<const N: usize>(names: [&str; N]) -> [Self; N] {
        names.map(Self::start)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/calls", self.port.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.address.port()
    }

    /// Stops like a killed process: connections end, new ones are refused.
    pub(crate) async fn stop(&mut self) {
        self.server.shutdown().await;
    }

    pub(crate) fn restart(&mut self) {
        self.server.spawn(serve(self.port.listen(), Arc::clone(&self.shared)));
    }

    pub(crate) fn always(&self, reply: Reply) {
        self.shared.script.lock().unwrap().always = reply;
    }

    pub(crate) fn next(&self, reply: Reply) {
        self.shared.script.lock().unwrap().next.push_back(reply);
    }

    /// Removes the reactions to the next requests.
    pub(crate) fn clear_next(&self) {
        self.shared.script.lock().unwrap().next.clear();
    }

    /// Sets the reaction to all further probes.
    pub(crate) fn probe(&self, reply: Reply) {
        self.shared.script.lock().unwrap().probe = reply;
    }

    /// Sends all held responses; later ones are no longer held.
    pub(crate) fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Waits for the next request.
    #[track_caller]
    pub(crate) fn request(&mut self) -> impl Future<Output = Message> {
        let next = self.requests.recv();
        soon(&format!("a request to {}", self.name), async { next.await.unwrap() })
    }

    /// Returns the next request if it has arrived already.
    pub(crate) fn request_now(&mut self) -> Option<Message> {
        self.requests.try_recv().ok()
    }

    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        if let Some(request) = self.request_now() {
            panic!("{} received {request:?}", self.name);
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve_connection(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = Message::read(&mut stream, Kind::Request).await {
        // A request for a token of a managed identity is a GET, too.
        let is_probe = request.method() == "GET" && !request.target().contains("api-version=");
        let mut reply = {
            let mut script = shared.script.lock().unwrap();
            if is_probe {
                script.probe.clone()
            } else {
                script.next.pop_front().unwrap_or_else(|| script.always.clone())
            }
        };
        if !is_probe && shared.requests.send(request).is_err() {
            return;
        }
        while let Reply::Held(after) = reply {
            let _ = shared.released.subscribe().wait_for(|released| *released).await;
            reply = *after;
        }
        match reply {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Reply::Cut(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Never | Reply::Held(_) => std::future::pending().await,
            Reply::Reset => {
                let stream = stream.into_inner().into_std().unwrap();
                let socket = TcpStream::from_std(stream).unwrap();
                socket.set_zero_linger().unwrap();
                return;
            }
        }
    }
}

/// Waits for the next request to any of `instances`. Returns the index of the instance and the request.
pub(crate) async fn first_request(instances: &mut [Instance]) -> (usize, Message) {
    let mut ticks = super::every(5);
    let any = async {
        loop {
            ticks.tick().await;
            for (at, instance) in instances.iter_mut().enumerate() {
                if let Some(request) = instance.request_now() {
                    return (at, request);
                }
            }
        }
    };
    soon("a request to any instance", any).await
}

/// A value of `placement.attempt`: long enough for an attempt on a busy machine, short enough for a test.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(1500);
