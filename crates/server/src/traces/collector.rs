//! `CollectorClient`: the HTTP client of the exporter, on hyper and OpenSSL like all clients of the gateway.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header::RETRY_AFTER};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use url::Url;

use crate::clients::fetch::Fetcher;

/// Posts the spans of a batch, with a new connection for each attempt.
///
/// A response is limited in size and time. Redirects are not followed.
#[derive(Debug)]
pub(super) struct CollectorClient {
    fetcher: Fetcher,
    endpoint: Url,
    /// Their values are marked as sensitive.
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    /// The problem of the last attempt.
    problem: Mutex<Option<String>>,
    rejected: AtomicU64,
}

impl CollectorClient {
    pub(super) fn new(
        fetcher: Fetcher,
        endpoint: Url,
        headers: Vec<(HeaderName, HeaderValue)>,
        timeout: Duration,
    ) -> Self {
        Self { fetcher, endpoint, headers, timeout, problem: Mutex::default(), rejected: AtomicU64::new(0) }
    }

    /// Takes the problem of the last attempt.
    pub(super) fn take_problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes the number of spans that the collector rejected in batches that it accepted.
    pub(super) fn take_rejected(&self) -> u64 {
        self.rejected.swap(0, Relaxed)
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        let problem = |text| *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = text;
        // In case the whole export is over before.
        problem(Some(format!("no complete response in {} s", self.timeout.as_secs())));
        let posted = self.fetcher.post(&self.endpoint, headers, body, RESPONSE_BYTES_MAX, self.timeout).await;
        let response = match posted {
            Ok(response) => response,
            Err(error) => {
                problem(Some(error.to_string()));
                // The library does not repeat a request after this one.
                let is_too_large = error.kind == "too_large";
                return Err(if is_too_large { ResponseBodyTooLarge::new().into() } else { error.into() });
            }
        };
        let status = response.status;
        problem((!status.is_success()).then(|| format!("the response has status {}", status.as_u16())));
        if status.is_success() {
            self.rejected.fetch_add(rejected_spans(&response.body), Relaxed);
        }
        let mut answer = Response::new(response.body);
        *answer.status_mut() = status;
        if let Some(after) = response.headers.get(RETRY_AFTER) {
            answer.headers_mut().insert(RETRY_AFTER, after.clone());
        }
        Ok(answer)
    }
}

impl HttpClient for CollectorClient {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(self.send(request))
    }
}

/// The number of rejected spans in the body of a success. A body that is none of the protocol names none.
fn rejected_spans(body: &[u8]) -> u64 {
    let response = ExportTraceServiceResponse::decode(body).ok();
    let partial = response.and_then(|response| response.partial_success);
    partial.and_then(|partial| u64::try_from(partial.rejected_spans).ok()).unwrap_or_default()
}

/// A response has a count and a message.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_partial_success_says_how_many_spans_were_rejected() {
        // Field 1, a message: field 1, the number 300; field 2, a text.
        assert_eq!(rejected_spans(b"\x0a\x08\x08\xac\x02\x12\x03bad"), 300);
        let negative = b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        for body in [&b""[..], b"\x0a\x00", negative, b"{}"] {
            assert_eq!(rejected_spans(body), 0, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
            rejected_spans(&body);
        }
    }
}
