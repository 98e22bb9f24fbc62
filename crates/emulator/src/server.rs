//! A small HTTP server with limits, used by the platform and by the bot.

use std::{
    convert::Infallible, fmt::Write as _, future::Future, io, net::SocketAddr, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use openssl::ssl::{Ssl, SslAcceptor};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_openssl::SslStream;

/// A response body.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A handler of whole requests.
pub(crate) trait Handle: Send + Sync + 'static {
    /// Responds to one request. Its body was read within the limits.
    fn handle(self: Arc<Self>, request: Request<Bytes>) -> impl Future<Output = Response<Body>> + Send;
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    finishing: watch::Sender<bool>,
}

impl Server {
    /// Starts to serve the connections of a listener.
    pub(crate) fn start<H: Handle>(listener: TcpListener, handler: Arc<H>) -> io::Result<Self> {
        Self::start_with(listener, handler, None)
    }

    /// Starts to serve the connections of a listener, for requests with any `Host`: a tunnel keeps its own
    /// name there.
    pub(crate) fn start_for_any_host<H: Handle>(listener: TcpListener, handler: Arc<H>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (finishing, finished) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, handler, None, false, finished));
        Ok(Self { address, accepting, finishing })
    }

    /// Starts to serve the connections of a listener, over TLS if there is an acceptor.
    pub(crate) fn start_with<H: Handle>(
        listener: TcpListener,
        handler: Arc<H>,
        tls: Option<SslAcceptor>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (finishing, finished) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, handler, tls, address.ip().is_loopback(), finished));
        Ok(Self { address, accepting, finishing })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, finishes the requests in flight, and closes the connections.
    pub(crate) async fn finish(&mut self) {
        self.finishing.send_replace(true);
        // A slower connection is cut when the server is dropped.
        let _ = timeout(FINISH_TIME_MAX, &mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The task owns the set of connections, so they end with it.
        self.accepting.abort();
    }
}

async fn accept<H: Handle>(
    listener: TcpListener,
    handler: Arc<H>,
    tls: Option<SslAcceptor>,
    loopback: bool,
    mut finishing: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // While this waits, a flood of connections stays in the kernel's backlog.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = finishing.wait_for(|finishing| *finishing) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (handler, tls, finishing) = (Arc::clone(&handler), tls.clone(), finishing.clone());
                connections.spawn(async move {
                    serve_connection(stream, handler, tls, loopback, finishing).await;
                    drop(permit);
                });
            }
            // Most likely no file descriptor is left: to accept again at once would spin.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection, from its TLS handshake to its end.
async fn serve_connection<H: Handle>(
    stream: TcpStream,
    handler: Arc<H>,
    tls: Option<SslAcceptor>,
    loopback: bool,
    finishing: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve(stream, handler, loopback, finishing).await };
    if let Some(stream) = secured(stream, &tls).await {
        serve(stream, handler, loopback, finishing).await;
    }
}

/// Returns the stream after its handshake; `None` if the peer refuses the certificate, is too slow, or speaks
/// no TLS.
async fn secured(stream: TcpStream, tls: &SslAcceptor) -> Option<SslStream<TcpStream>> {
    let mut stream = SslStream::new(Ssl::new(tls.context()).ok()?, stream).ok()?;
    timeout(HANDSHAKE_TIME_MAX, std::pin::Pin::new(&mut stream).accept()).await.ok()?.ok()?;
    Some(stream)
}

async fn serve<H: Handle>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Arc<H>,
    loopback: bool,
    mut finishing: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move {
            let response = respond_to(request, handler, loopback).await;
            // hyper closes the connection without a byte when there is no response.
            if hangs_up(&response) { Err(HangUp) } else { Ok(response) }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // An error here is the peer's: it closed the connection, was too slow, or speaks no HTTP. hyper has
        // responded where it could.
        _ = connection.as_mut() => return,
        _ = finishing.wait_for(|finishing| *finishing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn respond_to<H: Handle>(
    request: Request<Incoming>,
    handler: Arc<H>,
    loopback: bool,
) -> Response<Body> {
    if let Some(refusal) = refuse_web_pages(request.headers(), loopback) {
        return refusal;
    }
    let (head, body) = request.into_parts();
    let too_large = || {
        let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
        error_response(StatusCode::PAYLOAD_TOO_LARGE, "bodyTooLarge", &message)
    };
    if body.size_hint().lower() > BODY_BYTES_MAX.try_into().unwrap_or(u64::MAX) {
        return too_large();
    }
    let body = match timeout(BODY_TIME_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return too_large(),
        Ok(Err(_)) => return error_response(StatusCode::BAD_REQUEST, "badRequest", "the body ended early"),
        Err(_) => return error_response(StatusCode::REQUEST_TIMEOUT, "tooSlow", "the body took too long"),
    };
    handler.handle(Request::from_parts(head, body)).await
}

/// Refuses requests of web pages, which must not drive a server on the developer's machine.
///
/// A page's request carries its origin. A host name that was rebound to loopback is not a name of loopback.
fn refuse_web_pages(headers: &HeaderMap, loopback: bool) -> Option<Response<Body>> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(HeaderValue::to_str), hosts.next()) else {
        return Some(error_response(
            StatusCode::BAD_REQUEST,
            "badRequest",
            "exactly one Host header is needed",
        ));
    };
    if headers.contains_key(header::ORIGIN) && !is_own_origin(headers, host) {
        let message = "requests of web pages are refused, except those of the emulator's own page at an IP \
                       address, localhost or a name in .test";
        return Some(error_response(StatusCode::FORBIDDEN, "forbidden", message));
    }
    if loopback && !is_loopback_host(host) && !is_test_host(host) {
        let message =
            "this server listens on loopback only: ask it as localhost, 127.0.0.1, [::1], or a name in .test";
        return Some(error_response(StatusCode::FORBIDDEN, "forbidden", message));
    }
    None
}

/// Returns true if a request comes from a page of this server: its origin is the host that it asks.
///
/// A name of a public domain does not count, because its owner can rebind it to this server.
fn is_own_origin(headers: &HeaderMap, host: &str) -> bool {
    let origin = header_text(headers, &header::ORIGIN);
    let origin =
        origin.and_then(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")));
    let url = url::Url::parse(&format!("http://{host}/")).ok();
    let is_address =
        matches!(url.as_ref().and_then(url::Url::host), Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)));
    origin == Some(host) && (is_address || is_loopback_host(host) || is_test_host(host))
}

/// Returns true for `localhost`, an address of 127.0.0.0/8 or `::1`, with or without a port.
fn is_loopback_host(host: &str) -> bool {
    match url::Url::parse(&format!("http://{host}/")).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns true for a name in `.test`, with or without a port.
///
/// A fleet that DNS names can then run on loopback. No page has such a name in the public DNS (RFC 6761
/// section 6.2), so none can be rebound.
fn is_test_host(host: &str) -> bool {
    let url = url::Url::parse(&format!("http://{host}/")).ok();
    matches!(url.as_ref().and_then(url::Url::host), Some(url::Host::Domain(name)) if name.ends_with(".test"))
}

/// Returns true if a URL's host is this machine.
pub(crate) fn is_loopback_url(url: &url::Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// Returns the sign to close the connection without a response.
pub(crate) fn hang_up() -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    response.extensions_mut().insert(HangUp);
    response
}

/// Returns true for the sign of [`hang_up`].
pub(crate) fn hangs_up(response: &Response<Body>) -> bool {
    response.extensions().get::<HangUp>().is_some()
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("closed without a response")]
struct HangUp;

/// The body of a response that is sent whole, for the timeline.
#[derive(Clone, Debug)]
struct WholeBody(Bytes);

/// Returns the body of a response that is sent whole; nothing for a stream.
pub(crate) fn whole_body(response: &Response<Body>) -> Bytes {
    response.extensions().get::<WholeBody>().map(|body| body.0.clone()).unwrap_or_default()
}

/// Returns a response without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    respond(status, None, Bytes::new())
}

/// Returns a response with a JSON document.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    respond(status, Some("application/json; charset=utf-8"), Bytes::from(value.to_string()))
}

/// Returns an error response with a code and a message.
pub(crate) fn error_response(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json_response(status, &json!({"error": {"code": code, "message": message}}))
}

/// Returns the response to a method that the path does not take.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let message = format!("this path takes {allowed}");
    let mut response = error_response(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", &message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Returns a response with a body of any content type.
pub(crate) fn respond(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body.clone()).boxed_unsync());
    response.extensions_mut().insert(WholeBody(body));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

/// Returns a header's text; `None` if it is absent, repeated or not visible ASCII.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Returns true for GET, and for HEAD, to which hyper responds without the body.
pub(crate) fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Returns text that is safe in a terminal and in one line.
///
/// Control characters, line separators and marks that change the direction of text become escapes.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        let changes_direction_or_line = matches!(
            letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        if letter.is_control() || changes_direction_or_line {
            let _ = write!(safe, "{}", letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Enough for 2,000 calls at once, each with a bot that calls Graph.
const CONNECTIONS_MAX: usize = 4_096;
/// Rosters of big meetings are large.
const BODY_BYTES_MAX: usize = 4 << 20;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// A bearer token has at most a few KiB; hyper may read one buffer beyond this before it refuses.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Applies to an idle connection too.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Long enough for the response to a notification that was read.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_of_this_machine_are_loopback() {
        for host in ["localhost", "localhost:4000", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "LOCALHOST"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in
            ["", "example.com", "127.0.0.1.example.com", "localhost.example", "10.0.0.1", "[::2]", "a b", "@"]
        {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn only_names_in_the_domain_for_tests_are_names_of_tests() {
        for host in ["bot-0.bots.test", "bot-0.bots.test:3978", "BOT.TEST"] {
            assert!(is_test_host(host), "{host}");
        }
        for host in ["", "test", "bots.test.example", "bots.latest", "bots.test@example.com", "a b.test"] {
            assert!(!is_test_host(host), "{host}");
        }
    }

    #[test]
    fn printable_text_has_no_control_characters() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{202e}"), "a\\u{1b}[31mb\\nc\\u{202e}");
        assert_eq!(printable("a\u{2028}b\u{200f}"), "a\\u{2028}b\\u{200f}");
        assert_eq!(printable("é ok"), "é ok");
    }
}
