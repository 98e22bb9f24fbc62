//! The API server, asked for the EndpointSlices of one service: bounded in bytes and in time.

use std::{env, error::Error};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::{
    Client, Config,
    client::{AuthError, Body},
    config::{KubeConfigOptions, KubeconfigError},
};
use tokio::time::{Duration, timeout};
use tracing::{Dispatch, instrument::WithSubscriber};
use url::form_urlencoded::Serializer;

use super::{
    super::source::{SourceError, loggable},
    slices::Slices,
    wire,
};
use crate::settings::{KubernetesSettings, PodPort};

/// The way to an API server.
pub(super) struct Api {
    client: Client,
    namespace: Box<str>,
    service: Box<str>,
}

/// Why there is nothing more to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The watch is over, as each is now and then. The next one goes on from the last version.
    Ended,
    /// The server has forgotten the version (410 Gone).
    Expired,
    /// No answer. The last version may still do.
    Unreached(SourceError),
    /// An answer that is none: what is known of the version cannot be relied on.
    Misread(SourceError),
}

impl Api {
    /// As the kubeconfig that `KUBECONFIG` names says; without one, as a pod's surroundings do; elsewhere as `~/.kube/config`.
    pub(super) async fn connect(settings: &KubernetesSettings) -> Result<Self, SourceError> {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let config = if !is_set("KUBECONFIG") && is_set("KUBERNETES_SERVICE_HOST") {
            Config::incluster().map_err(|error| no_way(&error))
        } else {
            let read = quietly(Config::from_kubeconfig(&KubeConfigOptions::default())).await;
            read.map_err(|error| {
                // It would quote the file, in which there may be a token.
                let is_quoting = matches!(error, KubeconfigError::Parse(_));
                if is_quoting {
                    SourceError::Unanswered("the kubeconfig is not valid".into())
                } else {
                    no_way(&error)
                }
            })
        };
        // A kubeconfig may name a program that prints a credential. kube waits for it, and other tasks need this thread.
        let (config, settings) = (config?, settings.clone());
        let made = tokio::task::spawn_blocking(move || Self::new(config, &settings)).await;
        made.unwrap_or_else(|_| Err(SourceError::Unanswered("the client of the API was not made".into())))
    }

    pub(super) fn new(mut config: Config, settings: &KubernetesSettings) -> Result<Self, SourceError> {
        let namespace: Box<str> = settings.namespace.as_deref().unwrap_or(&config.default_namespace).into();
        if !KubernetesSettings::is_label(&namespace) {
            return Err(SourceError::Unanswered("the default namespace is not a DNS label".into()));
        }
        // Whoever calls us knows when to try again.
        config.default_retry = false;
        config.connect_timeout = Some(ANSWER_TIME);
        let client = Client::try_from(config).map_err(|error| told(&error))?;
        Ok(Self { client, namespace, service: settings.service.clone() })
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All slices of the service, and the version from which to watch.
    pub(super) async fn list(&self, port: &PodPort) -> Result<(Slices, Box<str>), ReadEnd> {
        let unfinished = || ReadEnd::Unreached(SourceError::Unanswered("the list took too long".into()));
        timeout(LIST_TIME, self.pages(port)).await.unwrap_or_else(|_| Err(unfinished()))
    }

    async fn pages(&self, port: &PodPort) -> Result<(Slices, Box<str>), ReadEnd> {
        let mut slices = Slices::default();
        let mut more: Option<Box<str>> = None;
        for _ in 0..PAGES_MAX {
            let limit = PAGE_SLICES.to_string();
            let mut query = vec![("limit", &*limit)];
            query.extend(more.as_deref().map(|more| ("continue", more)));
            let body = Limited::new(self.get(&query).await?.into_body(), PAGE_BYTES_MAX);
            let page = quietly(body.collect()).await.map_err(|error| {
                let text = chain(&*error);
                if error.is::<http_body_util::LengthLimitError>() {
                    ReadEnd::Misread(SourceError::Nonsense(format!(
                        "a page of more than {PAGE_BYTES_MAX} bytes"
                    )))
                } else {
                    ReadEnd::Unreached(SourceError::Unanswered(text))
                }
            })?;
            let page = wire::page(&page.to_bytes(), port).map_err(ReadEnd::Misread)?;
            for (name, slice) in page.slices {
                slices.put(name, slice).map_err(ReadEnd::Misread)?;
            }
            match page.more {
                Some(next) => more = Some(next),
                None => return Ok((slices, page.version)),
            }
        }
        Err(ReadEnd::Misread(SourceError::Nonsense(format!("a list of more than {PAGES_MAX} pages"))))
    }

    /// The changes after `version`.
    pub(super) async fn watch(&self, version: &str) -> Result<Watch, ReadEnd> {
        let seconds = WATCH_TIME.as_secs().to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &*seconds),
            ("resourceVersion", version),
        ];
        Ok(Watch { body: self.get(&query).await?.into_body(), read: BytesMut::new(), searched: 0 })
    }

    async fn get(&self, query: &[(&str, &str)]) -> Result<Response<Body>, ReadEnd> {
        let (namespace, service) = (&self.namespace, &self.service);
        let query = Serializer::new(String::new())
            .append_pair("labelSelector", &format!("kubernetes.io/service-name={service}"))
            .extend_pairs(query)
            .finish();
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{query}");
        let request =
            Request::get(path).header(http::header::ACCEPT, "application/json").body(Body::empty()).map_err(
                |_| ReadEnd::Misread(SourceError::Nonsense("a version or token that fits no request".into())),
            )?;
        let response = timeout(ANSWER_TIME, quietly(self.client.send(request)))
            .await
            .map_err(|_| ReadEnd::Unreached(SourceError::Unanswered("no answer in time".into())))?
            .map_err(|error| ReadEnd::Unreached(told(&error)))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::GONE => Err(ReadEnd::Expired),
            status => {
                let body = Limited::new(response.into_body(), STATUS_BYTES_MAX).collect();
                let body = timeout(ANSWER_TIME, quietly(body)).await.ok().and_then(Result::ok);
                let why = body.and_then(|body| wire::status_message(&body.to_bytes())).unwrap_or_default();
                let fault = SourceError::Unanswered(loggable(&format!("{status} {why}")));
                // A server that is not able, or not willing, says nothing about the version. One that waited in vain for it
                // (504) was put back to an earlier state.
                let is_unable = status.is_server_error() && status != StatusCode::GATEWAY_TIMEOUT;
                let is_unwilling = matches!(
                    status,
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
                );
                Err(if is_unable || is_unwilling {
                    ReadEnd::Unreached(fault)
                } else {
                    ReadEnd::Misread(fault)
                })
            }
        }
    }
}

/// A watch, line by line.
pub(super) struct Watch {
    body: Body,
    read: BytesMut,
    /// How much of `read` has no line's end in it.
    searched: usize,
}

impl Watch {
    /// The next line; `None` after the last, or where the connection broke. Nothing is lost if it is dropped half-way.
    pub(super) async fn line(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            if let Some(at) = self.read.iter().skip(self.searched).position(|byte| *byte == b'\n') {
                let line = self.read.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.read.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(SourceError::Nonsense(format!("a line of more than {LINE_BYTES_MAX} bytes")));
            }
            match quietly(self.body.frame()).await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

/// kube logs each failure as an error of its own. We tell it once, where it is handled.
async fn quietly<T>(future: impl Future<Output = T>) -> T {
    future.with_subscriber(Dispatch::none()).await
}

fn no_way(error: &dyn Error) -> SourceError {
    SourceError::Unanswered(format!("no way to an API server: {}", chain(error)))
}

fn told(error: &kube::Error) -> SourceError {
    // What a credential plugin printed may be the credential.
    let text = if let kube::Error::Auth(AuthError::AuthExecRun { out, .. }) = error {
        format!("the credential plugin ended with {}", out.status)
    } else if let kube::Error::Auth(AuthError::AuthExecParse(_)) = error {
        "the credential plugin's answer is none".into()
    } else {
        chain(error)
    };
    SourceError::Unanswered(text)
}

/// An error and its sources in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Some repeat their source.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    loggable(&text)
}

/// Until the head of an answer: the server is a neighbour, or away.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// A whole list. Twenty pages of a large fleet take a few seconds.
const LIST_TIME: Duration = Duration::from_secs(60);
/// How long a watch is asked to last. A server that has vanished without a word is noticed after that.
const WATCH_TIME: Duration = Duration::from_secs(120);
/// When we end it, should the server not do so.
pub(super) const WATCH_TIME_MAX: Duration = Duration::from_secs(130);
/// A slice has up to a thousand endpoints, a hundred by default, of some 500 bytes each.
const PAGE_SLICES: usize = 20;
/// Some servers send all slices in one page: those of 20,000 pods in both families.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Ten times those of the largest fleet, with a hundred endpoints to a slice.
const PAGES_MAX: usize = 200;
/// A slice of a thousand endpoints; the store of a cluster holds nothing larger than 1.5 MiB.
const LINE_BYTES_MAX: usize = 4 << 20;
/// What an error says.
const STATUS_BYTES_MAX: usize = 16 << 10;
