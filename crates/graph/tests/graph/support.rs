//! A transport that sends scripted responses and records the requests.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use serde_json::Value;
use switchboard_graph::{
    Action, CallbackUri, Calls, Cloud, Credential, GraphCallId, GraphError, GraphRequest, GraphResponse,
    GraphResponseBody, GraphSettings, Hosts, Transport, TransportError, TransportErrorKind,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The scripted response to one request.
#[derive(Debug)]
pub(super) struct Reply {
    after: Duration,
    result: Result<GraphResponse, TransportError>,
}

impl Reply {
    pub(super) fn new(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let body = GraphResponseBody::Whole(body.as_bytes().to_vec());
        Self { after: Duration::ZERO, result: Ok(GraphResponse { status, headers, body }) }
    }

    pub(super) fn status(status: u16) -> Self {
        Self::new(status, &[], "")
    }

    pub(super) fn unread(status: u16, body: GraphResponseBody) -> Self {
        Self { after: Duration::ZERO, result: Ok(GraphResponse { status, headers: Vec::new(), body }) }
    }

    pub(super) fn error(kind: TransportErrorKind) -> Self {
        let detail = "Connection refused (os error 111)".to_owned();
        Self { after: Duration::ZERO, result: Err(TransportError { kind, detail }) }
    }

    pub(super) fn token(text: &str, expires_in: u64) -> Self {
        let body = format!(r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"{text}"}}"#);
        Self::new(200, &[], &body)
    }

    pub(super) fn after(self, seconds: u64) -> Self {
        Self { after: Duration::from_secs(seconds), ..self }
    }

    /// A response that never arrives.
    pub(super) fn never() -> Self {
        Self::status(200).after(1_000_000)
    }
}

/// The transport. When its replies are used up, the token endpoint issues `token.1`, `token.2`, …, each valid
/// for an hour, and Graph responds 202.
#[derive(Debug, Default)]
pub(super) struct Script {
    token_replies: Mutex<VecDeque<Reply>>,
    graph_replies: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<(Instant, GraphRequest)>>,
}

impl Script {
    pub(super) fn new(
        token: impl IntoIterator<Item = Reply>,
        graph: impl IntoIterator<Item = Reply>,
    ) -> Arc<Self> {
        Arc::new(Self {
            token_replies: Mutex::new(token.into_iter().collect()),
            graph_replies: Mutex::new(graph.into_iter().collect()),
            seen: Mutex::default(),
        })
    }

    pub(super) fn graph(replies: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        Self::new([], replies)
    }

    fn requests<T>(&self, token: bool, see: impl Fn(&Instant, &GraphRequest) -> T) -> Vec<T> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(_, it)| is_token(it) == token).map(|(at, it)| see(at, it)).collect()
    }

    /// Returns the number of token requests.
    pub(super) fn token_requests(&self) -> usize {
        self.requests(true, |_, _| ()).len()
    }

    /// Returns the form of each token request.
    pub(super) fn forms(&self) -> Vec<Vec<(String, String)>> {
        self.requests(true, |_, request| {
            url::form_urlencoded::parse(&request.body)
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect()
        })
    }

    /// Returns method and URL of each request, in order.
    pub(super) fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, it)| format!("{} {}", it.method.as_str(), it.url)).collect()
    }

    /// Returns the value of header `name` in each request to Graph.
    pub(super) fn headers(&self, name: &str) -> Vec<Option<String>> {
        self.requests(false, |_, request| header(request, name))
    }

    /// Returns the value of header `name` in each token request.
    pub(super) fn token_headers(&self, name: &str) -> Vec<Option<String>> {
        self.requests(true, |_, request| header(request, name))
    }

    /// Returns the bodies that Graph received.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        self.requests(false, |_, request| request.body.clone())
    }

    /// Returns the time of each request to Graph, in milliseconds since the first.
    pub(super) fn times(&self) -> Vec<u128> {
        self.times_of(false)
    }

    /// Returns the time of each token request, in milliseconds since the first.
    pub(super) fn token_times(&self) -> Vec<u128> {
        self.times_of(true)
    }

    fn times_of(&self, token: bool) -> Vec<u128> {
        let times = self.requests(token, |at, _| *at);
        times.iter().map(|at| at.duration_since(times[0]).as_millis()).collect()
    }

    /// Returns the `Debug` text of all requests.
    pub(super) fn debug(&self) -> String {
        format!("{:?}", self.seen.lock().unwrap())
    }
}

fn header(request: &GraphRequest, name: &str) -> Option<String> {
    request.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone())
}

fn is_token(request: &GraphRequest) -> bool {
    request.url.path().ends_with("/token")
}

impl Transport for Script {
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
        let token = is_token(&request);
        self.seen.lock().unwrap().push((Instant::now(), request));
        let replies = if token { &self.token_replies } else { &self.graph_replies };
        let reply = replies.lock().unwrap().pop_front();
        let reply = reply.unwrap_or_else(|| match token {
            true => Reply::token(&format!("token.{}", self.token_requests()), 3599),
            false => Reply::status(202),
        });
        Box::pin(async move {
            if reply.after > Duration::ZERO {
                sleep(reply.after).await;
            }
            reply.result
        })
    }
}

pub(super) fn settings(credential: Credential) -> GraphSettings {
    GraphSettings::new(APP.parse().unwrap(), Cloud::Public, Hosts::default(), credential).unwrap()
}

pub(super) fn calls(script: &Arc<Script>) -> Calls {
    let script: Arc<Script> = Arc::clone(script);
    Calls::new(settings(Credential::secret(SECRET).unwrap()), script)
}

/// 2027-01-15.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(super) fn tenant() -> Uuid {
    TENANT.parse().unwrap()
}

pub(super) fn call() -> GraphCallId {
    GraphCallId::parse(CALL).unwrap()
}

pub(super) fn callback() -> CallbackUri {
    CallbackUri::parse("https://gw.contoso.com/cb/p7/a31f5a00-44dc-4b21-9c3e-0d07d53b1001").unwrap()
}

/// Rejects the call, with `seconds` to the deadline.
pub(super) async fn reject(calls: &Calls, seconds: u64) -> Result<(), GraphError> {
    let action = Action::parse(br#"{"action":"reject","reason":"busy"}"#).unwrap();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    calls.act(tenant(), &call(), &action, &callback(), deadline, now()).await
}

pub(super) const APP: &str = "9fd00000-f7af-4f74-947d-000000000abc";
pub(super) const TENANT: &str = "11111111-2222-4333-8444-555555555555";
pub(super) const CALL: &str = "a31f5a00-44dc-4b21-9c3e-0d07d53b1001";
pub(super) const SECRET: &str = "s3cr3t~Value&With=Signs";

/// JSON of these leaves, and of lists and of objects with members of these names around them.
pub(super) fn nested(
    leaf: impl Strategy<Value = Value> + 'static,
    names: impl Into<Vec<&'static str>>,
) -> impl Strategy<Value = Value> {
    let names = prop::sample::select(names.into());
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(names.clone(), inner, 0..4).prop_map(|members| {
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}
