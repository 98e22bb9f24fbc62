//! One HTTP request of the platform or of a bot: a connection, a request, an answer, a time limit.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslMethod},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_openssl::SslStream;
use url::{Host, Origin, Url};

/// Sends requests, each over a connection of its own unless it is told to keep them.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<SslConnector>,
    /// Connections that wait for the next request, per origin; the latest one last.
    idle: Arc<Mutex<HashMap<Origin, Vec<Idle>>>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// `Connection: close`, as the platform has said it since 2023.
    Off,
    /// It serves the next request, as it did before.
    On,
}

impl Client {
    /// Trusts the system's certificate authorities and, where given, those of a PEM file.
    ///
    /// # Errors
    /// OpenSSL refuses the file.
    pub fn new(ca: Option<&Path>) -> Result<Self, ErrorStack> {
        let mut tls = SslConnector::builder(SslMethod::tls_client())?;
        if let Some(ca) = ca {
            tls.set_ca_file(ca)?;
        }
        Ok(Self { tls: Arc::new(tls.build()), idle: Arc::default() })
    }

    /// Sends a request, over a connection that waits for one if it may be kept, and reads its whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
        url: &Url,
        within: Duration,
        after: KeepAlive,
    ) -> Result<ClientResponse, SendError> {
        let exchange = async {
            let request = prepare(request, url, after)?;
            let (sender, response) = match after {
                KeepAlive::Off => self.exchange(request, url).await?,
                KeepAlive::On => self.exchange_over_idle(request, url).await?,
            };
            let (head, body) = response.into_parts();
            let body =
                Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| SendError::ResponseBody)?;
            if after == KeepAlive::On {
                self.keep(url.origin(), sender);
            }
            Ok(ClientResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        timeout(within, exchange).await.unwrap_or(Err(SendError::TimedOut { within }))
    }

    /// Sends a request; the caller reads the body.
    pub(crate) async fn open(
        &self,
        request: Request<Bytes>,
        url: &Url,
        within: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let exchange = async {
            let request = prepare(request, url, KeepAlive::Off)?;
            self.exchange(request, url).await.map(|(_, response)| response)
        };
        timeout(within, exchange).await.unwrap_or(Err(SendError::TimedOut { within }))
    }

    /// Tries the connections that wait, as long as none of them took a byte of the request; then a new one.
    async fn exchange_over_idle(
        &self,
        mut request: Request<Full<Bytes>>,
        url: &Url,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), SendError> {
        while let Some(mut sender) = self.waiting(&url.origin()) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((sender, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Exchange(error.into_error())),
                },
            }
        }
        self.exchange(request, url).await
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        url: &Url,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), SendError> {
        let host = url.host().ok_or(SendError::BadUrl)?;
        let port = url.port_or_known_default().ok_or(SendError::BadUrl)?;
        let connected = match &host {
            Host::Domain(name) => TcpStream::connect((*name, port)).await,
            Host::Ipv4(address) => TcpStream::connect((*address, port)).await,
            Host::Ipv6(address) => TcpStream::connect((*address, port)).await,
        };
        let stream = connected.map_err(SendError::Connect)?;
        let _ = stream.set_nodelay(true);
        if url.scheme() != "https" {
            return exchange_over(TokioIo::new(stream), request).await;
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let session =
            self.tls.configure().and_then(|tls| tls.into_ssl(name)).map_err(|_| SendError::BadUrl)?;
        let mut stream = SslStream::new(session, stream).map_err(|_| SendError::BadUrl)?;
        std::pin::Pin::new(&mut stream).connect().await.map_err(SendError::Tls)?;
        exchange_over(TokioIo::new(stream), request).await
    }

    fn waiting(&self, origin: &Origin) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.lock_idle();
        let connections = idle.get_mut(origin)?;
        // The latest one was used last; once it is too old all are.
        let latest = connections.pop()?;
        if latest.since.elapsed() > IDLE_TIME_MAX {
            connections.clear();
            return None;
        }
        Some(latest.sender)
    }

    fn keep(&self, origin: Origin, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.lock_idle();
        if !idle.contains_key(&origin) && idle.len() >= ORIGINS_MAX {
            idle.clear();
        }
        let connections = idle.entry(origin).or_default();
        if connections.len() < IDLE_MAX && !sender.is_closed() {
            connections.push(Idle { sender, since: Instant::now() });
        }
    }

    fn lock_idle(&self) -> MutexGuard<'_, HashMap<Origin, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request as it goes to the host of the URL.
fn prepare(
    mut request: Request<Bytes>,
    url: &Url,
    after: KeepAlive,
) -> Result<Request<Full<Bytes>>, SendError> {
    let host = url.host().ok_or(SendError::BadUrl)?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    *request.uri_mut() = target.parse().map_err(|_| SendError::BadUrl)?;
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    };
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(&authority).map_err(|_| SendError::BadUrl)?);
    if after == KeepAlive::Off {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(request.map(Full::new))
}

async fn exchange_over<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), SendError>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.map_err(SendError::Exchange)?;
    // Ends by itself: when the answer was read, or when the sender is dropped.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(SendError::Exchange)?;
    Ok((sender, response))
}

/// Gets a JSON document as text.
///
/// # Errors
/// Nothing came, or something other than 200.
pub async fn fetch_json(client: &Client, url: &Url) -> Result<String, SendError> {
    let request = Request::get("/").header(header::ACCEPT, "application/json").body(Bytes::new());
    let answer =
        client.send(request.map_err(|_| SendError::BadUrl)?, url, FETCH_TIME_MAX, KeepAlive::Off).await?;
    if answer.status != StatusCode::OK {
        return Err(SendError::Refused(format!("{url} answered {}", answer.status)));
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct ClientResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL has no host, no port or a path that HTTP cannot carry.
    #[error("not a URL that can be asked")]
    BadUrl,
    /// No connection.
    #[error("could not connect: {0}")]
    Connect(io::Error),
    /// The peer's certificate or its TLS was refused.
    #[error("tls failed: {}{}", .0, tls_hint(.0))]
    Tls(openssl::ssl::Error),
    /// The connection broke, or what came back is not HTTP.
    #[error("the connection broke before an answer came: {0}")]
    Exchange(hyper::Error),
    /// The answer's body broke off or is too large.
    #[error("the answer's body broke off or is larger than {ANSWER_BYTES_MAX} bytes")]
    ResponseBody,
    /// Nothing came in time.
    #[error("no answer within {within:.1?}")]
    TimedOut {
        /// The limit.
        within: Duration,
    },
    /// The peer answered, but not what was asked for.
    #[error("{0}")]
    Refused(String),
}

impl SendError {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadUrl => "bad_url",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Exchange(_) => "exchange",
            Self::ResponseBody => "answer_body",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused(_) => "refused",
        }
    }
}

/// What would be right, where the error tells.
fn tls_hint(error: &openssl::ssl::Error) -> &'static str {
    let reasons = error.ssl_error().map(ErrorStack::errors).unwrap_or_default();
    let is = |text: &str| reasons.iter().any(|error| error.reason() == Some(text));
    if is("certificate verify failed") {
        "; name the certificate authority that is to be trusted with --ca"
    } else if is("wrong version number") {
        "; the peer does not speak TLS: is it http?"
    } else {
        ""
    }
}

const FETCH_TIME_MAX: Duration = Duration::from_secs(10);

/// A bot answers with a short document or nothing; what it tells of thousands of calls has a MiB or two.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Shorter than what servers grant an idle connection, so that a request seldom meets one that is being closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);
const IDLE_MAX: usize = 512;
const ORIGINS_MAX: usize = 64;
