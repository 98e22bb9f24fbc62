//! `switchboard_graph::Transport` over hyper-util: requests to Graph and to the token endpoint.

mod connector;

use std::{error::Error, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use openssl::error::ErrorStack;
use switchboard_delivery::{TlsClient, TlsFailure};
use switchboard_graph::{
    GraphRequest, GraphResponse, GraphResponseBody, Transport, TransportError, TransportErrorKind,
};
use tokio::time::timeout_at;

use self::connector::ExplainingConnector;
use crate::telemetry::Chain;

/// A client that keeps idle connections.
///
/// The runtime that opens a connection drives it, and any thread may use it. If that runtime stopped, it
/// would cut off the requests of other threads. So only the control thread uses this client, within `Tasks`.
#[derive(Debug)]
pub(crate) struct GraphTransport {
    client: GraphHttpClient,
}

impl GraphTransport {
    pub(crate) fn new(tls: &TlsClient) -> Self {
        Self { client: http_client(tls) }
    }

    async fn exchange(&self, request: GraphRequest) -> Result<GraphResponse, TransportError> {
        let failed = |kind, detail: String| TransportError { kind, detail };
        let deadline = request.deadline;
        let mut outgoing = http::Request::builder().method(request.method.as_str()).uri(request.url.as_str());
        for (name, value) in &request.headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|error| failed(TransportErrorKind::Unreachable, error.to_string()))?;
            value.set_sensitive(*name == AUTHORIZATION.as_str());
            outgoing = outgoing.header(*name, value);
        }
        let outgoing = outgoing
            .body(Full::new(Bytes::from(request.body)))
            .map_err(|error| failed(TransportErrorKind::Unreachable, error.to_string()))?;
        let response = match timeout_at(deadline, self.client.request(outgoing)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let kind = match failed_step(&error) {
                    FailedStep::Connect => TransportErrorKind::Unreachable,
                    FailedStep::Tls => TransportErrorKind::Tls,
                    FailedStep::Exchange => TransportErrorKind::Lost,
                };
                return Err(failed(kind, Chain(&error).to_string()));
            }
            Err(_) => {
                return Err(failed(TransportErrorKind::TimedOut, "no response by the deadline".into()));
            }
        };
        let (head, body) = response.into_parts();
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers =
            head.headers.iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect();
        let body = match timeout_at(deadline, Limited::new(body, request.body_bytes_max).collect()).await {
            Ok(Ok(whole)) => GraphResponseBody::Whole(whole.to_bytes().to_vec()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => GraphResponseBody::TooLarge,
            Ok(Err(_)) | Err(_) => GraphResponseBody::CutOff,
        };
        Ok(GraphResponse { status: head.status.as_u16(), headers, body })
    }
}

impl Transport for GraphTransport {
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
        Box::pin(self.exchange(request))
    }
}

/// A client whose request bodies are whole. It follows no redirects.
type GraphHttpClient = Client<ExplainingConnector, Full<Bytes>>;

fn http_client(tls: &TlsClient) -> GraphHttpClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false); // the TLS layer checks the scheme
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_idle_timeout(IDLE_TIME)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .build(ExplainingConnector(tls.connector(tcp)))
}

/// The step at which a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailedStep {
    /// Before TLS: no byte was written.
    Connect,
    /// In the TLS handshake: no byte of the request was written.
    Tls,
    /// After the connection was made: a part of the request may have been written.
    Exchange,
}

/// Returns the step at which a request failed. The client's connector fails before a byte of the request is
/// written.
fn failed_step(error: &legacy::Error) -> FailedStep {
    if !error.is_connect() {
        return FailedStep::Exchange;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<TlsFailure>() || cause.is::<ErrorStack>() {
            return FailedStep::Tls;
        }
        source = cause.source();
    }
    FailedStep::Connect
}

/// The time for a TCP connection. A host that does not accept within it is treated as down.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// The largest response head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The idle connections that are kept per host.
const IDLE_MAX: usize = 64;
/// The time after which an idle connection is closed. Graph's balancers keep one for minutes.
const IDLE_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
