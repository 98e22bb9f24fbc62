//! Small documents over HTTP: key sets, the health of peers, and the admin listener of a gateway.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, USER_AGENT},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use openssl::{error::ErrorStack, ssl::SslConnectorBuilder};
use switchboard_auth::{Fetch, FetchError};
use tokio::time::timeout;
use url::Url;

use crate::{
    clients::http_client::{FailedStep, HttpClient, HttpClientLimits, failed_step, http_client},
    telemetry::Chain,
};

/// A client that opens a new connection for each document. Documents are rare, and a health check must
/// include the connection.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    client: HttpClient,
}

impl Fetcher {
    pub(crate) fn new(tls: SslConnectorBuilder) -> Result<Self, ErrorStack> {
        Ok(Self { client: http_client(tls, LIMITS)? })
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
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .body(Full::default())
            .map_err(|error| failed("url", error.to_string()))?;
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        timeout(limit, self.send(request, bytes_max)).await.unwrap_or_else(|_| {
            Err(failed("timeout", format!("no complete response in {} s", limit.as_secs())))
        })
    }

    /// Gets the document at `url`; any status but 200 is an error.
    pub(crate) async fn document(
        &self,
        url: &Url,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<Bytes, FetchError> {
        let (status, body) = self.exchange(Method::GET, url, None, bytes_max, limit).await?;
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(failed("status", format!("the response has status {}", status.as_u16())))
        }
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let response = self.client.request(request).await.map_err(|error| {
            let kind = match failed_step(&error) {
                FailedStep::Connect => "connect",
                FailedStep::Tls => "tls",
                FailedStep::Exchange => "http",
            };
            failed(kind, Chain(&error).to_string())
        })?;
        let status = response.status();
        match Limited::new(response.into_body(), bytes_max).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(failed("too_large", format!("the response has more than {bytes_max} bytes")))
            }
            Err(error) => Err(failed("http", Chain(&*error).to_string())),
        }
    }
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

fn failed(kind: &'static str, detail: String) -> FetchError {
    FetchError { kind, detail }
}

/// The time for one document of an issuer. A slow drip ends here.
const KEY_DOCUMENT_TIME_MAX: Duration = Duration::from_secs(5);

const LIMITS: HttpClientLimits =
    HttpClientLimits { head_bytes_max: 16 * 1024, idle_max: 0, idle: Duration::ZERO };

#[cfg(test)]
mod tests;
