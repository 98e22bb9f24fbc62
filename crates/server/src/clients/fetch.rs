//! Small documents over HTTP: key sets, the health of peers, and the admin listener of a gateway.
//!
//! Each document has a connection of its own, made here and not by the pooling client of `graph`: that one
//! resumes TLS sessions, and a health check or a key set is worth no more than the certificate that was
//! checked for it. Each step has its limit in time, and names itself when it fails.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, DATE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslConnector, SslContext},
    x509::X509,
};
use switchboard_auth::{Fetch, FetchError};
use switchboard_delivery::TlsVerification;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_openssl::SslStream;
use url::{Host, Url};

use crate::telemetry::Chain;

/// A client that uses a new connection for each document: the documents of one host are minutes apart.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    tls: SslContext,
}

impl Fetcher {
    pub(crate) fn new(tls: SslConnector) -> Self {
        Self::sharing(tls.into_context())
    }

    /// A client with a context that others may use, too. It resumes no session of theirs.
    pub(crate) fn sharing(tls: SslContext) -> Self {
        Self { tls }
    }

    /// Sends a request without a body. Returns the status and the whole body of the response, within `limit`.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        url: &Url,
        authorization: Option<HeaderValue>,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let answer = self.answer(method, url, authorization, bytes_max, limit).await?;
        Ok((answer.status, answer.body))
    }

    /// The same, with what the response and its connection tell besides.
    pub(crate) async fn answer(
        &self,
        method: Method,
        url: &Url,
        authorization: Option<HeaderValue>,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<FetchedResponse, FetchError> {
        self.send(url, request(method, url, authorization, Bytes::new())?, bytes_max, limit).await
    }

    /// Posts `body` with these header fields. Returns the response, whatever its status.
    #[cfg(feature = "otlp")]
    pub(crate) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<FetchedResponse, FetchError> {
        let mut request = request(Method::POST, url, None, body)?;
        request.headers_mut().extend(headers);
        self.send(url, request, bytes_max, limit).await
    }

    /// Opens a stream of server-sent events, after the event `last_event_id`. Its head must arrive within
    /// `limit`.
    pub(crate) async fn stream(
        &self,
        url: &Url,
        authorization: Option<HeaderValue>,
        last_event_id: Option<HeaderValue>,
        limit: Duration,
    ) -> Result<FetchStream, FetchError> {
        let mut request = request(Method::GET, url, authorization, Bytes::new())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_event_id {
            request.headers_mut().insert("last-event-id", id);
        }
        timeout(limit, self.open(url, request))
            .await
            .unwrap_or_else(|_| Err(failed("timeout", format!("no response in {} s", limit.as_secs()))))
    }

    /// Gets the document at `url`; any status but 200 is an error.
    pub(crate) async fn document(
        &self,
        url: &Url,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<Bytes, FetchError> {
        self.answer(Method::GET, url, None, bytes_max, limit).await?.document()
    }

    /// Sends a request and reads the whole response.
    async fn send(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<FetchedResponse, FetchError> {
        let whole = async { self.open(url, request).await?.whole(bytes_max).await };
        timeout(limit, whole).await.unwrap_or_else(|_| {
            Err(failed("timeout", format!("no complete response in {} s", limit.as_secs())))
        })
    }

    /// Sends a request and reads the head of the response.
    async fn open(&self, url: &Url, request: Request<Full<Bytes>>) -> Result<FetchStream, FetchError> {
        let host = url.host().ok_or_else(|| failed("url", "the URL has no host".into()))?;
        let port = url.port_or_known_default().ok_or_else(|| failed("url", "the URL has no port".into()))?;
        let stream = timeout(CONNECT_TIME_MAX, connect(&host, port))
            .await
            .unwrap_or_else(|_| Err(failed("connect", "no connection in 2 s".into())))?;
        if url.scheme() == "https" {
            let stream = timeout(CONNECT_TIME_MAX, self.handshake(&host, stream))
                .await
                .unwrap_or_else(|_| Err(failed("tls", "no TLS handshake in 2 s".into())))?;
            let certificate = stream.ssl().peer_certificate();
            open(stream, request, certificate).await
        } else {
            open(stream, request, None).await
        }
    }

    async fn handshake(
        &self,
        host: &Host<&str>,
        stream: TcpStream,
    ) -> Result<SslStream<TcpStream>, FetchError> {
        let refused = |error: ErrorStack| failed("tls", Chain(&error).to_string());
        let mut session = Ssl::new(&self.tls).map_err(refused)?;
        let verification = TlsVerification::default();
        verification.verify(&mut session, host).map_err(refused)?;
        let mut stream = SslStream::new(session, stream).map_err(refused)?;
        let connected = Pin::new(&mut stream).connect().await;
        connected.map_err(|error| match verification.failure(&error) {
            Some(failure) if failure.is_untrusted() => failed(FetchError::UNTRUSTED, failure.to_string()),
            Some(failure) => failed("tls", failure.to_string()),
            None => failed("tls", Chain(&error).to_string()),
        })?;
        Ok(stream)
    }
}

/// A response, and what a diagnosis needs besides.
#[derive(Debug)]
pub(crate) struct FetchedResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The certificate of the server, verified; `None` without TLS.
    pub(crate) certificate: Option<X509>,
    pub(crate) body: Bytes,
}

impl FetchedResponse {
    /// The field `Date`.
    pub(crate) fn date(&self) -> Option<&str> {
        self.headers.get(DATE).and_then(|date| date.to_str().ok())
    }

    /// Returns the body; any status but 200 is an error.
    pub(crate) fn document(self) -> Result<Bytes, FetchError> {
        if self.status == StatusCode::OK {
            Ok(self.body)
        } else {
            Err(failed("status", format!("the response has status {}", self.status.as_u16())))
        }
    }
}

/// A response whose body has not been read.
#[derive(Debug)]
pub(crate) struct FetchStream {
    response: Response<Incoming>,
    certificate: Option<X509>,
    _connection: AbortOnDrop,
}

impl FetchStream {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Waits for the next bytes of the body, at most `limit`. Returns at most [`HEAD_BYTES_MAX`] of them,
    /// `None` at the end. Can be cancelled and called again.
    pub(crate) async fn next(&mut self, limit: Duration) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = timeout(limit, self.response.body_mut().frame()).await;
            let silent = |_| failed("timeout", format!("nothing arrives for {} s", limit.as_secs()));
            match frame.map_err(silent)?.transpose().map_err(|error| broken(&error))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads the whole body.
    async fn whole(self, bytes_max: usize) -> Result<FetchedResponse, FetchError> {
        let Self { response, certificate, _connection } = self;
        let (head, body) = response.into_parts();
        match Limited::new(body, bytes_max).collect().await {
            Ok(body) => Ok(FetchedResponse {
                status: head.status,
                headers: head.headers,
                certificate,
                body: body.to_bytes(),
            }),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(failed("too_large", format!("the response has more than {bytes_max} bytes")))
            }
            Err(error) => Err(failed("http", Chain(&*error).to_string())),
        }
    }
}

fn request(
    method: Method,
    url: &Url,
    authorization: Option<HeaderValue>,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, FetchError> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("switchboard/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|error| failed("url", error.to_string()))?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    Ok(request)
}

async fn connect(host: &Host<&str>, port: u16) -> Result<TcpStream, FetchError> {
    let connected = match host {
        Host::Domain(name) => TcpStream::connect((*name, port)).await,
        Host::Ipv4(address) => TcpStream::connect((*address, port)).await,
        Host::Ipv6(address) => TcpStream::connect((*address, port)).await,
    };
    connected.map_err(|error| failed("connect", error.to_string()))
}

/// Sends the request and reads the head of the response.
async fn open<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    certificate: Option<X509>,
) -> Result<FetchStream, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADER_FIELDS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let connection = AbortOnDrop(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    Ok(FetchStream { response, certificate, _connection: connection })
}

impl Fetch for Fetcher {
    fn get(
        &self,
        url: &Url,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        let url = url.clone();
        Box::pin(async move { self.document(&url, bytes_max, KEY_DOCUMENT_TIME_MAX).await })
    }
}

/// Stops the task that drives a connection when its exchange ends.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<hyper::Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn broken(error: &hyper::Error) -> FetchError {
    failed("http", Chain(error).to_string())
}

fn failed(kind: &'static str, detail: String) -> FetchError {
    FetchError { kind, detail }
}

/// The time for one document of an issuer. It also ends a response that arrives byte by byte.
pub(crate) const KEY_DOCUMENT_TIME_MAX: Duration = Duration::from_secs(5);
/// The time for a connection, its name look-up included, and again for its TLS handshake. A host that is
/// slower is treated as down.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most header fields of a response.
const HEADER_FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests;
