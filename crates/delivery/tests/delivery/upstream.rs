//! A scripted instance that records its requests.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// The action on a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Send these bytes and wait for the next request.
    Send(Vec<u8>),
    /// Wait, then send these bytes and wait for the next request.
    SendAfter(Duration, Vec<u8>),
    /// Send these bytes and close the connection.
    SendAndClose(Vec<u8>),
    /// Send these bytes and reset the connection.
    SendAndReset(Vec<u8>),
    /// Send the first bytes once, then the others until the connection ends.
    Flood(Vec<u8>, Vec<u8>),
    /// Send these bytes, then wait until the sender gives up.
    SendAndStall(Vec<u8>),
}

impl Act {
    /// A response without a body, on a connection that stays idle long enough for a busy machine.
    pub(crate) fn status(code: u16) -> Self {
        Self::body(code, "Keep-Alive: timeout=60\r\n", "")
    }

    /// A response with a body.
    pub(crate) fn body(code: u16, fields: &str, body: &str) -> Self {
        let length = body.len();
        Self::Send(
            format!("HTTP/1.1 {code} Whatever\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
                .into_bytes(),
        )
    }

    pub(crate) fn stall() -> Self {
        Self::SendAndStall(Vec::new())
    }

    pub(crate) fn raw(text: &str) -> Self {
        Self::Send(text.as_bytes().to_vec())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    /// Request line and fields.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl SeenRequest {
    /// The value of the only field of this name.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice: {}", self.head);
        value
    }

    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

type Script = dyn Fn(&SeenRequest) -> Act + Send + Sync;

/// A listening instance. Stops when it is dropped.
pub(crate) struct ScriptedInstance {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<SeenRequest>>>,
    accepted: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl ScriptedInstance {
    /// Does the same on each request.
    pub(crate) fn always(act: Act) -> Self {
        Self::scripted(move |_| act.clone())
    }

    /// Does the first act on the first request, and so on; the last one on all later requests.
    pub(crate) fn in_turn(acts: Vec<Act>) -> Self {
        let turn = AtomicUsize::new(0);
        Self::scripted(move |_| {
            let at = turn.fetch_add(1, Ordering::Relaxed).min(acts.len() - 1);
            acts[at].clone()
        })
    }

    pub(crate) fn scripted(script: impl Fn(&SeenRequest) -> Act + Send + Sync + 'static) -> Self {
        Self::on(Stopped::new(), script)
    }

    /// Starts to listen at the address of `stopped`.
    pub(crate) fn on(stopped: Stopped, script: impl Fn(&SeenRequest) -> Act + Send + Sync + 'static) -> Self {
        let Stopped { socket, address } = stopped;
        let listener = socket.listen(1024).unwrap();
        let (seen, accepted, closed) = (Arc::default(), Arc::default(), Arc::default());
        let task = tokio::spawn(accept(
            listener,
            Arc::clone(&seen),
            Arc::clone(&accepted),
            Arc::clone(&closed),
            Arc::new(script),
        ));
        Self { address, seen, accepted, closed, task }
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<SeenRequest> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn only(&self) -> SeenRequest {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// The connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The connections that have ended.
    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedInstance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that refuses connections, and that no other process can bind.
pub(crate) struct Stopped {
    socket: TcpSocket,
    pub(crate) address: SocketAddr,
}

impl Stopped {
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    /// The same port at several loopback addresses.
    pub(crate) fn all<const COUNT: usize>(addresses: [[u8; 4]; COUNT]) -> [Self; COUNT] {
        loop {
            let port = Self::new().address.port();
            let stopped = addresses.map(|address| Self::at((address, port).into()));
            if stopped.iter().all(Option::is_some) {
                return stopped.map(Option::unwrap);
            }
        }
    }

    fn at(address: SocketAddr) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).ok()?;
        let address = socket.local_addr().unwrap();
        Some(Self { socket, address })
    }

    /// Two of one address: a process and its successor.
    pub(crate) fn pair() -> [Self; 2] {
        let bound = |address: SocketAddr| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseport(true).unwrap();
            socket.bind(address).unwrap();
            let address = socket.local_addr().unwrap();
            Self { socket, address }
        };
        let first = bound("127.0.0.1:0".parse().unwrap());
        let second = bound(first.address);
        [first, second]
    }
}

async fn accept(
    listener: TcpListener,
    seen: Arc<Mutex<Vec<SeenRequest>>>,
    accepted: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    script: Arc<Script>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Ordering::SeqCst);
        let served = serve(stream, Arc::clone(&seen), Arc::clone(&script));
        let closed = Arc::clone(&closed);
        connections.spawn(async move {
            served.await;
            closed.fetch_add(1, Ordering::SeqCst);
        });
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<SeenRequest>>>, script: Arc<Script>) {
    while let Some(request) = read(&mut stream).await {
        seen.lock().unwrap().push(request.clone());
        match script(&request) {
            Act::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::SendAfter(time, bytes) => {
                tokio::time::sleep(time).await;
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::SendAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Act::SendAndReset(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.set_zero_linger();
                return;
            }
            Act::Flood(first, again) => {
                let _ = stream.write_all(&first).await;
                while stream.write_all(&again).await.is_ok() {}
                return;
            }
            Act::SendAndStall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                // Until the sender gives up.
                let _ = stream.read(&mut [0; 64]).await;
                return;
            }
        }
    }
}

/// One request, or `None` at the end of the connection.
pub(crate) async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<SeenRequest> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(head_end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let mut seen = SeenRequest { head, body: Vec::new() };
    let length: usize = seen.field("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    assert_eq!(body.len(), length, "bytes after the request");
    seen.body = body;
    Some(seen)
}
