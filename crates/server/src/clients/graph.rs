//! `switchboard_graph::Transport` over hyper: the way to Graph and to the token endpoint.

use std::{error::Error, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use openssl::{error::ErrorStack, ssl::SslConnectorBuilder};
use switchboard_graph::{
    GraphRequest, GraphResponse, GraphResponseBody, Transport, TransportError, TransportErrorKind,
};
use tokio::time::timeout_at;

use crate::telemetry::Chain;

/// A pooled client. Other than on the way to instances there are few requests here and each waits for the platform, so a
/// well-kept library serves better than a pool of our own.
///
/// A connection is driven by the runtime that opened it and used by any: one that ends would cut the requests of others.
/// So it is used on the control thread alone, within `Tasks`.
#[derive(Debug)]
pub(crate) struct GraphTransport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl GraphTransport {
    pub(crate) fn new(tls: SslConnectorBuilder) -> Result<Self, ErrorStack> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false); // the scheme is the TLS layer's business
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(HttpsConnector::with_connector(tcp, tls)?);
        Ok(Self { client })
    }

    async fn exchange(&self, request: GraphRequest) -> Result<GraphResponse, TransportError> {
        let failed = |failure, detail: String| TransportError { failure, detail };
        let deadline = request.deadline;
        let mut outgoing = http::Request::builder().method(request.method.as_str()).uri(request.url.as_str());
        for (name, value) in &request.headers {
            outgoing = outgoing.header(*name, value);
        }
        let outgoing = outgoing
            .body(Full::new(Bytes::from(request.body)))
            .map_err(|error| failed(TransportErrorKind::Unreachable, error.to_string()))?;
        let response = match timeout_at(deadline, self.client.request(outgoing)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(failure(&error), Chain(&error).to_string())),
            Err(_) => return Err(failed(TransportErrorKind::TimedOut, "no answer by the deadline".into())),
        };
        let (head, body) = response.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
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

/// What a failed request may have done. The client's connector fails before a byte of the request is written.
fn failure(error: &hyper_util::client::legacy::Error) -> TransportErrorKind {
    if !error.is_connect() {
        return TransportErrorKind::Lost;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<openssl::ssl::Error>() || cause.is::<ErrorStack>() {
            return TransportErrorKind::Tls;
        }
        source = cause.source();
    }
    TransportErrorKind::Unreachable
}

/// Of TCP; TLS and the answer have what is left until the deadline.
const CONNECT: Duration = Duration::from_secs(2);
/// Graph's balancers keep idle connections for minutes, so that a request meets none that is just being closed.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 32 * 1024;
