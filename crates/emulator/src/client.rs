//! The HTTP client: one request, one response, a time limit.

use std::{error::Error, net::Ipv6Addr, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use openssl::{
    error::ErrorStack,
    ssl::{self, ConnectConfiguration, SslConnector, SslMethod},
};
use tokio::time::timeout;
use url::Url;

/// Sends requests over HTTP/1.1, with or without TLS.
#[derive(Clone, Debug)]
pub struct Client {
    /// Opens a connection for each request.
    unpooled: Connections,
    /// Keeps connections for the next request to the same origin.
    pooled: Connections,
}

type Connections = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The use of the connection by other requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// A connection of its own, with `Connection: close`. The platform has done so since 2023.
    Off,
    /// An idle connection if there is one. The connection is kept afterwards.
    On,
}

impl Client {
    /// Trusts the certificate authorities of the system and, if given, those of a PEM file.
    ///
    /// # Errors
    /// OpenSSL cannot read the file.
    pub fn new(ca: Option<&Path>) -> Result<Self, ErrorStack> {
        let mut tls = SslConnector::builder(SslMethod::tls_client())?;
        if let Some(ca) = ca {
            tls.set_ca_file(ca)?;
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let mut connector = HttpsConnector::with_connector(tcp, tls)?;
        connector.set_callback(verify_ipv6_host);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let unpooled = builder.pool_max_idle_per_host(0).build(connector.clone());
        let pooled = builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Self { unpooled, pooled })
    }

    /// Sends a request to `url`, which replaces the URI of the request, and reads the whole response.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
        url: &Url,
        within: Duration,
        keep_alive: KeepAlive,
    ) -> Result<ClientResponse, SendError> {
        let exchange = async {
            let (head, body) = self.exchange(request, url, keep_alive).await?.into_parts();
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await;
            let body = body.map_err(|_| SendError::ResponseBody)?.to_bytes();
            Ok(ClientResponse { status: head.status, headers: head.headers, body })
        };
        timeout(within, exchange).await.unwrap_or(Err(SendError::TimedOut { within }))
    }

    /// Sends a request to `url` over a connection of its own. Reading the body has no time limit.
    pub(crate) async fn open(
        &self,
        request: Request<Bytes>,
        url: &Url,
        within: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let exchange = self.exchange(request, url, KeepAlive::Off);
        timeout(within, exchange).await.unwrap_or(Err(SendError::TimedOut { within }))
    }

    async fn exchange(
        &self,
        mut request: Request<Bytes>,
        url: &Url,
        keep_alive: KeepAlive,
    ) -> Result<Response<Incoming>, SendError> {
        *request.uri_mut() = url.as_str().parse::<Uri>().map_err(|_| SendError::BadUrl)?;
        let connections = match keep_alive {
            KeepAlive::Off => {
                request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                &self.unpooled
            }
            KeepAlive::On => &self.pooled,
        };
        connections.request(request.map(Full::new)).await.map_err(SendError::from_exchange)
    }
}

/// Checks the certificate of an IPv6 host: the connector leaves the brackets on, which no certificate has.
fn verify_ipv6_host(tls: &mut ConnectConfiguration, uri: &Uri) -> Result<(), ErrorStack> {
    let host = uri.host().and_then(|host| host.strip_prefix('[')?.strip_suffix(']'));
    let Some(address) = host.and_then(|host| host.parse::<Ipv6Addr>().ok()) else { return Ok(()) };
    tls.set_use_server_name_indication(false);
    tls.set_verify_hostname(false);
    tls.param_mut().set_ip(address.into())
}

/// Gets a JSON document as text.
///
/// # Errors
/// The request failed, or its status is not 200.
pub async fn fetch_json(client: &Client, url: &Url) -> Result<String, SendError> {
    let request = Request::get("/").header(header::ACCEPT, "application/json").body(Bytes::new());
    let request = request.map_err(|_| SendError::BadUrl)?;
    let response = client.send(request, url, FETCH_TIME_MAX, KeepAlive::Off).await?;
    if response.status != StatusCode::OK {
        return Err(SendError::Refused(format!("{url} responded {}", response.status)));
    }
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

/// A whole HTTP response.
#[derive(Debug)]
pub(crate) struct ClientResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The reason why a request has no usable response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL has no host, no port, or a path that HTTP cannot carry.
    #[error("not a URL that a request can be sent to")]
    BadUrl,
    /// The connection was not established.
    #[error("could not connect: {}", root_cause(.0))]
    Connect(legacy::Error),
    /// The TLS handshake failed, or the certificate of the peer is not trusted.
    #[error("TLS handshake failed: {}{}", cause(.0), tls_hint(.0))]
    Tls(legacy::Error),
    /// The connection broke, or the response is not HTTP.
    #[error("the connection broke before a response came: {}", root_cause(.0))]
    Exchange(legacy::Error),
    /// The body of the response broke off or is too large.
    #[error("the body of the response broke off or is larger than {RESPONSE_BYTES_MAX} bytes")]
    ResponseBody,
    /// No response came within the time limit.
    #[error("no response within {within:.1?}")]
    TimedOut {
        /// The limit.
        within: Duration,
    },
    /// The peer refused the request; the text says why.
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

    fn from_exchange(error: legacy::Error) -> Self {
        match (error.is_connect(), tls_error(&error)) {
            (true, Some(_)) => Self::Tls(error),
            (true, None) => Self::Connect(error),
            (false, _) => Self::Exchange(error),
        }
    }
}

/// The causes of an error, from the outermost to the root.
fn causes<'a>(error: &'a legacy::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn cause(error: &legacy::Error) -> String {
    causes(error).next().map_or_else(|| error.to_string(), ToString::to_string)
}

fn root_cause(error: &legacy::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn tls_error(error: &legacy::Error) -> Option<&ssl::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// A hint for the user, for the errors that have one usual reason.
fn tls_hint(error: &legacy::Error) -> &'static str {
    let reasons =
        tls_error(error).and_then(ssl::Error::ssl_error).map(ErrorStack::errors).unwrap_or_default();
    let is = |text: &str| reasons.iter().any(|error| error.reason() == Some(text));
    if is("certificate verify failed") {
        "; name the certificate authority to trust with --ca"
    } else if is("wrong version number") {
        "; the peer does not speak TLS: is it http?"
    } else {
        ""
    }
}

const FETCH_TIME_MAX: Duration = Duration::from_secs(10);

/// A bot sends a short document or nothing. Its ledger of thousands of calls has one or two MiB.
const RESPONSE_BYTES_MAX: usize = 4 << 20;

/// Shorter than the idle time that servers allow. A request then rarely meets a connection that closes.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);
const IDLE_MAX: usize = 512;

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_certificate_of_an_ipv6_host_is_verified() {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = crate::tls::acceptor(folder.path()).unwrap();
        for (url, trusted) in [
            ("https://localhost/", true),
            ("https://[::1]:1/", true),
            ("https://[::2]:1/", false),
            ("https://bot.example/", false),
        ] {
            let (client, server) = UnixStream::pair().unwrap();
            let acceptor = acceptor.clone();
            let accepting = std::thread::spawn(move || acceptor.accept(server).is_ok());
            let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
            builder.set_ca_file(folder.path().join("ca.pem")).unwrap();
            let mut tls = builder.build().configure().unwrap();
            let uri: Uri = url.parse().unwrap();
            verify_ipv6_host(&mut tls, &uri).unwrap();
            assert_eq!(tls.connect(uri.host().unwrap(), client).is_ok(), trusted, "{url}");
            accepting.join().unwrap();
        }
    }
}
