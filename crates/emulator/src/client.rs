//! One HTTP request of the platform or of a bot: a connection, a request, an answer, a time limit.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap,
    body::Incoming,
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslMethod},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_openssl::SslStream;
use url::{Host, Url};

/// Sends requests, each over a connection of its own: the platform says `Connection: close` too.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<SslConnector>,
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
        Ok(Self { tls: Arc::new(tls.build()) })
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
        url: &Url,
        within: Duration,
    ) -> Result<Answer, SendError> {
        let exchange = async {
            let (head, body) = self.exchange(request, url).await?.into_parts();
            let body =
                Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| SendError::AnswerBody)?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
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
        timeout(within, self.exchange(request, url)).await.unwrap_or(Err(SendError::TimedOut { within }))
    }

    async fn exchange(
        &self,
        mut request: Request<Bytes>,
        url: &Url,
    ) -> Result<Response<Incoming>, SendError> {
        let host = url.host().ok_or(SendError::BadUrl)?;
        let port = url.port_or_known_default().ok_or(SendError::BadUrl)?;
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
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let request = request.map(Full::new);

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
}

async fn exchange_over<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.map_err(SendError::Exchange)?;
    // Ends by itself: when the answer was read, or when the sender below is dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(SendError::Exchange)
}

/// Gets a JSON document as text.
///
/// # Errors
/// Nothing came, or something other than 200.
pub async fn fetch_json(client: &Client, url: &Url) -> Result<String, SendError> {
    let request = Request::get("/").header(header::ACCEPT, "application/json").body(Bytes::new());
    let answer = client.send(request.map_err(|_| SendError::BadUrl)?, url, FETCH_TIME_MAX).await?;
    if answer.status != StatusCode::OK {
        return Err(SendError::Refused(format!("{url} answered {}", answer.status)));
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
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
    #[error("tls failed: {0}")]
    Tls(openssl::ssl::Error),
    /// The connection broke, or what came back is not HTTP.
    #[error("the connection broke before an answer came: {0}")]
    Exchange(hyper::Error),
    /// The answer's body broke off or is too large.
    #[error("the answer's body broke off or is larger than {ANSWER_BYTES_MAX} bytes")]
    AnswerBody,
    /// Nothing came in time.
    #[error("no answer within {within:?}")]
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
            Self::AnswerBody => "answer_body",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused(_) => "refused",
        }
    }
}

const FETCH_TIME_MAX: Duration = Duration::from_secs(10);

/// A bot answers with a short document or nothing; more is a fault.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
