//! `switchboard_graph::Transport` over hyper-util: requests to Graph and to the token endpoint.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use openssl::{error::ErrorStack, ssl::SslConnectorBuilder};
use switchboard_graph::{
    GraphRequest, GraphResponse, GraphResponseBody, Transport, TransportError, TransportErrorKind,
};
use tokio::time::timeout_at;

use crate::{
    clients::http_client::{FailedStep, HttpClient, HttpClientLimits, failed_step, http_client},
    telemetry::Chain,
};

/// A client that keeps idle connections.
///
/// The runtime that opens a connection drives it, and any thread may use it. If that runtime stopped, it
/// would cut off the requests of other threads. So only the control thread uses this client, within `Tasks`.
#[derive(Debug)]
pub(crate) struct GraphTransport {
    client: HttpClient,
}

impl GraphTransport {
    pub(crate) fn new(tls: SslConnectorBuilder) -> Result<Self, ErrorStack> {
        Ok(Self { client: http_client(tls, LIMITS)? })
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

/// Graph's balancers keep idle connections for minutes. A connection that was idle for 30 s is not being
/// closed.
const LIMITS: HttpClientLimits =
    HttpClientLimits { head_bytes_max: 32 * 1024, idle_max: 64, idle: Duration::from_secs(30) };
