//! One HTTP request to a metadata, health or admin URL: no redirects, certificate checked, everything bounded.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use openssl::ssl::SslConnector;
use switchboard_auth::{Fetch, FetchError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use url::{Host, Url};

/// `switchboard_auth::Fetch` over hyper.
#[derive(Debug)]
pub(crate) struct HttpsFetch {
    tls: SslConnector,
}

impl HttpsFetch {
    pub(crate) fn new(tls: SslConnector) -> Self {
        Self { tls }
    }
}

impl Fetch for HttpsFetch {
    fn get(
        &self,
        url: &Url,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        let url = url.clone();
        Box::pin(async move {
            let whole = timeout(TOTAL, get(&self.tls, &url, bytes_max)).await;
            let (status, body) =
                whole.unwrap_or_else(|_| Err(failed("timeout", "no whole answer in 5 s".into())))?;
            if status == StatusCode::OK {
                Ok(body)
            } else {
                Err(failed("status", format!("the answer was {}", status.as_u16())))
            }
        })
    }
}

/// Whether a GET of `url` is answered 200 in time; for the health of peers.
pub(crate) async fn is_ok(tls: &SslConnector, url: &Url, limit: Duration) -> Result<(), FetchError> {
    let (status, _) = timeout(limit, get(tls, url, HEALTH_BYTES_MAX))
        .await
        .unwrap_or_else(|_| Err(failed("timeout", "no answer in time".into())))?;
    if status == StatusCode::OK {
        Ok(())
    } else {
        Err(failed("status", format!("the answer was {}", status.as_u16())))
    }
}

async fn get(tls: &SslConnector, url: &Url, bytes_max: usize) -> Result<(StatusCode, Bytes), FetchError> {
    ask(tls, Method::GET, url, None, bytes_max).await
}

/// A request without a body, and the whole answer. Only the connection has a limit in time of its own.
pub(crate) async fn ask(
    tls: &SslConnector,
    method: Method,
    url: &Url,
    authorization: Option<HeaderValue>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), FetchError> {
    let head = Head { method, url, authorization };
    let host = url.host().ok_or_else(|| failed("url", "the URL has no host".into()))?;
    let port = url.port_or_known_default().ok_or_else(|| failed("url", "the URL has no port".into()))?;
    let stream = timeout(CONNECT, connect(&host, port))
        .await
        .unwrap_or_else(|_| Err(failed("connect", "no connection in 2 s".into())))?;
    if url.scheme() == "https" {
        let stream = timeout(CONNECT, handshake(tls, &host, stream))
            .await
            .unwrap_or_else(|_| Err(failed("tls", "no TLS handshake in 2 s".into())))?;
        exchange(stream, head, bytes_max).await
    } else {
        exchange(stream, head, bytes_max).await
    }
}

async fn connect(host: &Host<&str>, port: u16) -> Result<TcpStream, FetchError> {
    let connected = match host {
        Host::Domain(name) => TcpStream::connect((*name, port)).await,
        Host::Ipv4(address) => TcpStream::connect((*address, port)).await,
        Host::Ipv6(address) => TcpStream::connect((*address, port)).await,
    };
    connected.map_err(|error| failed("connect", error.to_string()))
}

async fn handshake(
    tls: &SslConnector,
    host: &Host<&str>,
    stream: TcpStream,
) -> Result<tokio_openssl::SslStream<TcpStream>, FetchError> {
    let broken = |error: &dyn std::fmt::Display| failed("tls", error.to_string());
    let name = match host {
        Host::Domain(name) => (*name).to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let session = tls.configure().and_then(|configuration| configuration.into_ssl(&name));
    let session = session.map_err(|error| broken(&error))?;
    let mut stream = tokio_openssl::SslStream::new(session, stream).map_err(|error| broken(&error))?;
    Pin::new(&mut stream).connect().await.map_err(|error| broken(&error))?;
    Ok(stream)
}

/// What is asked.
struct Head<'a> {
    method: Method,
    url: &'a Url,
    authorization: Option<HeaderValue>,
}

async fn exchange<S>(stream: S, head: Head<'_>, bytes_max: usize) -> Result<(StatusCode, Bytes), FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Head { method, url, authorization } = head;
    let broken = |error: hyper::Error| failed("http", error.to_string());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driver = AbortOnDrop(tokio::spawn(connection));
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
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed("url", error.to_string()))?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(failed("too_large", format!("the answer has more than {bytes_max} bytes")));
            }
            bytes.extend_from_slice(&data);
        }
    }
    drop(driver);
    Ok((status, bytes.freeze()))
}

fn failed(kind: &'static str, detail: String) -> FetchError {
    FetchError { kind, detail }
}

/// Ends the task that drives a connection with the exchange it was made for.
struct AbortOnDrop(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An issuer that does not accept within this time is down for us.
const CONNECT: Duration = Duration::from_secs(2);
/// For one document; a slow drip ends here.
const TOTAL: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const HEALTH_BYTES_MAX: usize = 4096;
