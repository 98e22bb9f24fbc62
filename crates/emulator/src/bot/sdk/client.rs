//! Sending a request as the calling SDK does: its headers, its repetitions and its redirects.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use tokio::time::sleep;
use url::Url;

use crate::client::{Client, ClientResponse, KeepAlive, SendError};

/// A request before its headers are written. It has no `Debug`, because it has a token.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<String>,
    pub(super) token: Option<String>,
    pub(super) scenario: Option<String>,
    /// New for each request, and the same in its repetitions. Not written on the GETs of a rehydration.
    pub(super) client_request_id: Option<String>,
    /// The name of the application.
    pub(super) application: String,
}

/// Sends a request and returns the response, whatever its status: no status is repeated.
///
/// Without a connection, or without a response within 15 s, the request is sent three times more.
pub(super) async fn send(client: &Client, outgoing: &Outgoing) -> Result<ClientResponse, String> {
    let mut repetition = 0;
    loop {
        let error = match follow(client, outgoing).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        if repetition == REPETITIONS {
            return Err(error);
        }
        repetition += 1;
        sleep(PAUSE).await;
    }
}

/// Sends a request once, and follows redirects: 307 and 308 with the same request, others with a GET.
async fn follow(client: &Client, outgoing: &Outgoing) -> Result<ClientResponse, String> {
    let mut url = outgoing.url.clone();
    let mut method = outgoing.method.clone();
    let mut body = outgoing.body.as_deref();
    // .NET sends the token to the first URL only.
    let mut token = outgoing.token.as_deref();
    for _ in 0..HOPS_MAX {
        let request = request(outgoing, &method, body, token).map_err(|error| error.to_string())?;
        let failed = |error: SendError| format!("the request to {} failed: {error}", outgoing.url);
        let response = client.send(request, &url, RESPONSE_TIME_MAX, KeepAlive::On).await.map_err(failed)?;
        let location = response.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
        let to = location.and_then(|location| url.join(location).ok());
        let (Some(to), true) = (to, is_followed(response.status)) else { return Ok(response) };
        token = None;
        url = to;
        if !matches!(response.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
            (method, body) = (Method::GET, None);
        }
    }
    Err(format!("redirected {HOPS_MAX} times"))
}

fn is_followed(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

fn request(
    outgoing: &Outgoing,
    method: &Method,
    body: Option<&str>,
    token: Option<&str>,
) -> Result<Request<Bytes>, http::Error> {
    let user_agent = format!("GraphCommunicationsClient-{}/{SDK_VERSION}", outgoing.application);
    let mut request = Request::builder().method(method).header(header::USER_AGENT, user_agent);
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    for (name, value) in
        [("scenario-id", &outgoing.scenario), ("client-request-id", &outgoing.client_request_id)]
    {
        if let Some(value) = value {
            request = request.header(HeaderName::from_static(name), value);
        }
    }
    match body {
        Some(_) => request = request.header(header::CONTENT_TYPE, "application/json; charset=utf-8"),
        None if method == Method::POST => request = request.header(header::CONTENT_LENGTH, "0"),
        None => {}
    }
    request.body(Bytes::from(body.unwrap_or_default().to_owned()))
}

/// The version that the SDK writes into its requests and responses.
pub(super) const SDK_VERSION: &str = "1.2.0.18742";

const REPETITIONS: usize = 3;
const PAUSE: Duration = Duration::from_secs(3);
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(15);

/// .NET follows 50. A test that redirects in a circle ends sooner with these.
const HOPS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_connection_is_repeated_three_times() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let outgoing = Outgoing {
            method: Method::POST,
            url,
            body: None,
            token: None,
            scenario: None,
            client_request_id: None,
            application: "bot-0".to_owned(),
        };
        let began = tokio::time::Instant::now();
        assert!(send(&Client::new(None).unwrap(), &outgoing).await.is_err());
        // Three pauses; on a slow machine attempts may end by their time limit.
        assert!(began.elapsed() >= PAUSE * 3, "{:?}", began.elapsed());
        assert!(began.elapsed() <= PAUSE * 3 + (RESPONSE_TIME_MAX + PAUSE) * 4, "{:?}", began.elapsed());
    }
}
