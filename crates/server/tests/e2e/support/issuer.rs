//! The metadata and key documents of two issuers on loopback. A test can rotate keys, or make the issuers
//! fail, stall and serve wrong documents.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use openssl::ssl::{Ssl, SslAcceptor};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinSet,
};
use tokio_openssl::SslStream;

use super::{
    http::{Kind, Message},
    port::Port,
    tls::Identity,
    token,
};

#[derive(Debug)]
pub(crate) struct Issuer {
    port: Port,
    state: Arc<Mutex<State>>,
    fetches: Arc<Mutex<Fetches>>,
    /// Ends the server when it is replaced.
    server: JoinSet<()>,
}

/// The number of requests for each key document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetches {
    pub(crate) skype: usize,
    pub(crate) entra: usize,
}

/// The response to a request for keys.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    /// The keys of these files.
    Keys(Vec<&'static str>),
    /// A status and a text.
    Text(u16, String),
    /// A body that never ends.
    Endless,
    /// No response.
    Never,
}

struct State {
    skype: Document,
    entra: Document,
    /// Serves TLS; `None` for plain HTTP.
    tls: Option<SslAcceptor>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("skype", &self.skype)
            .field("entra", &self.entra)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    pub(crate) fn start() -> Self {
        let mut issuer = Self::down();
        issuer.come_up();
        issuer
    }

    /// An issuer that serves TLS with this certificate.
    pub(crate) fn secure(identity: &Identity) -> Self {
        let issuer = Self::start();
        issuer.identify(identity);
        issuer
    }

    /// Serves TLS with this certificate from the next connection on.
    pub(crate) fn identify(&self, identity: &Identity) {
        self.state.lock().unwrap().tls = Some(identity.acceptor());
    }

    /// An issuer that refuses connections until `come_up`.
    pub(crate) fn down() -> Self {
        let [skype, entra] = ["skype-1", "entra-1"].map(|key| Document::Keys(vec![key]));
        let state = State { skype, entra, tls: None };
        Self {
            port: Port::reserve(),
            state: Arc::new(Mutex::new(state)),
            fetches: Arc::default(),
            server: JoinSet::new(),
        }
    }

    pub(crate) fn come_up(&mut self) {
        let listener = self.port.listen();
        let (state, fetches) = (Arc::clone(&self.state), Arc::clone(&self.fetches));
        self.server.spawn(serve(listener, state, fetches));
    }

    /// Closes all connections and refuses new ones.
    pub(crate) async fn go_down(&mut self) {
        self.server.shutdown().await;
    }

    pub(crate) fn skype(&self, document: Document) {
        self.state.lock().unwrap().skype = document;
    }

    pub(crate) fn entra(&self, document: Document) {
        self.state.lock().unwrap().entra = document;
    }

    pub(crate) fn metadata(&self, trust: &str) -> String {
        format!("{}/{trust}/metadata", origin(&self.state, self.port.address))
    }

    pub(crate) fn fetches(&self) -> Fetches {
        *self.fetches.lock().unwrap()
    }
}

/// A certificate is for a name, so an issuer with one has a name.
fn origin(state: &Mutex<State>, address: SocketAddr) -> String {
    match &state.lock().unwrap().tls {
        Some(_) => format!("https://localhost:{}", address.port()),
        None => format!("http://{address}"),
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, fetches: Arc<Mutex<Fetches>>) {
    let address = listener.local_addr().unwrap();
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (state, fetches) = (Arc::clone(&state), Arc::clone(&fetches));
        connections.spawn(async move {
            let tls = state.lock().unwrap().tls.clone();
            let origin = origin(&state, address);
            match tls {
                None => respond(stream, &origin, &state, &fetches).await,
                Some(tls) => {
                    let mut stream = SslStream::new(Ssl::new(tls.context()).unwrap(), stream).unwrap();
                    // A client that does not trust the certificate ends the handshake.
                    if Pin::new(&mut stream).accept().await.is_ok() {
                        respond(stream, &origin, &state, &fetches).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Responds to the requests of one connection.
async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    origin: &str,
    state: &Mutex<State>,
    fetches: &Mutex<Fetches>,
) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = Message::read(&mut stream, Kind::Request).await {
        let trust = request.target().split('/').nth(1).unwrap_or_default();
        let document = if request.target().ends_with("/metadata") {
            Document::Text(200, metadata(trust, &format!("{origin}/{trust}/keys")))
        } else {
            let mut fetches = fetches.lock().unwrap();
            match trust {
                "skype" => fetches.skype += 1,
                _ => fetches.entra += 1,
            }
            let state = state.lock().unwrap();
            if trust == "skype" { state.skype.clone() } else { state.entra.clone() }
        };
        if write(&mut stream, document).await.is_err() {
            return;
        }
    }
}

fn metadata(trust: &str, keys: &str) -> String {
    let issuer = match trust {
        "skype" => "https://api.botframework.com",
        _ => "https://login.microsoftonline.com/{tenantid}/v2.0",
    };
    json!({ "issuer": issuer, "jwks_uri": keys, "id_token_signing_alg_values_supported": ["RSA256"] })
        .to_string()
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, document: Document) -> std::io::Result<()> {
    let (status, text) = match document {
        Document::Keys(names) => {
            let keys: Vec<_> = names.into_iter().map(token::jwk).collect();
            (200, json!({ "keys": keys }).to_string())
        }
        Document::Text(status, text) => (status, text),
        Document::Never => std::future::pending().await,
        Document::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
    };
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{text}").as_bytes()).await?;
    stream.flush().await
}
