//! Requests to the API server for the EndpointSlices of one service and for its pods, bounded in bytes and in
//! time.

use std::{env, error::Error, iter};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::{
    Client, Config,
    client::{AuthError, Body},
    config::{KubeConfigOptions, KubeconfigError},
};
use switchboard_routing::Name;
use tokio::time::{Duration, timeout};
use tracing::{Dispatch, instrument::WithSubscriber};
use url::form_urlencoded::Serializer;

use super::{
    super::source::{SourceError, loggable},
    slices::Slices,
    wire,
};
use crate::{
    error_chain::chain,
    settings::{KubernetesSettings, PodPort},
};

/// A client of an API server.
pub(super) struct Api {
    client: Client,
    namespace: Box<str>,
    service: Box<str>,
}

/// The reason for which there is nothing more to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The watch is over, as every watch is at some time. The next one continues from the last version.
    Ended,
    /// The server has forgotten the version (410 Gone).
    Expired,
    /// There was no response. The last version may still be valid.
    Unreached(SourceError),
    /// The response makes no sense: the known version cannot be relied on.
    Misread(SourceError),
}

/// The reason for which it is not known whether a pod exists.
#[derive(Debug)]
pub(super) enum PodError {
    /// The gateway may not get pods.
    Forbidden(SourceError),
    /// There was no response, or none that makes sense.
    Unreached,
}

impl Api {
    /// A client configured by the kubeconfig that `KUBECONFIG` names. Without one, by the environment of a
    /// pod; elsewhere by `~/.kube/config`.
    pub(super) async fn connect(settings: &KubernetesSettings) -> Result<Self, SourceError> {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let config = if !is_set("KUBECONFIG") && is_set("KUBERNETES_SERVICE_HOST") {
            Config::incluster().map_err(|error| no_configuration(&error))
        } else {
            let read = quietly(Config::from_kubeconfig(&KubeConfigOptions::default())).await;
            read.map_err(|error| {
                // The error would quote the file, which may contain a token.
                let is_quoting = matches!(error, KubeconfigError::Parse(_));
                if is_quoting {
                    SourceError::NoResponse("the kubeconfig is not valid".into())
                } else {
                    no_configuration(&error)
                }
            })
        };
        // A kubeconfig may name a program that prints a credential. kube blocks on it, and other tasks need
        // this thread.
        let (config, settings) = (config?, settings.clone());
        let made = tokio::task::spawn_blocking(move || Self::new(config, &settings)).await;
        made.unwrap_or_else(|_| Err(SourceError::NoResponse("the API client could not be created".into())))
    }

    pub(super) fn new(mut config: Config, settings: &KubernetesSettings) -> Result<Self, SourceError> {
        let namespace: Box<str> = settings.namespace.as_deref().unwrap_or(&config.default_namespace).into();
        if !KubernetesSettings::is_label(&namespace) {
            return Err(SourceError::NoResponse("the default namespace is not a DNS label".into()));
        }
        // The caller decides when to send a request again.
        config.default_retry = false;
        config.connect_timeout = Some(RESPONSE_TIME);
        let client = Client::try_from(config).map_err(|error| client_error(&error))?;
        Ok(Self { client, namespace, service: settings.service.clone() })
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All slices of the service, and the version to watch from.
    pub(super) async fn list(&self, port: &PodPort) -> Result<(Slices, Box<str>), ReadEnd> {
        let unfinished = || ReadEnd::Unreached(SourceError::NoResponse("the list took too long".into()));
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
                let text = loggable(&chain(&*error));
                if error.is::<http_body_util::LengthLimitError>() {
                    ReadEnd::Misread(SourceError::Nonsense(format!(
                        "a page of more than {PAGE_BYTES_MAX} bytes"
                    )))
                } else {
                    ReadEnd::Unreached(SourceError::NoResponse(text))
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

    /// Returns true if the server has a pod of this name and uid that has not finished.
    ///
    /// The name is that of an instance. A pod with a name that is too long for one is not found.
    pub(super) async fn has_pod(&self, name: &Name, incarnation: &Name) -> Result<bool, PodError> {
        let path = format!("/api/v1/namespaces/{}/pods/{name}", self.namespace);
        let response = self.send(path).await.map_err(|_| PodError::Unreached)?;
        match response.status() {
            StatusCode::OK => {
                let body = Limited::new(response.into_body(), LINE_BYTES_MAX).collect();
                let body = timeout(RESPONSE_TIME, quietly(body)).await.ok().and_then(Result::ok);
                let pod = body.and_then(|body| wire::pod(&body.to_bytes()).ok());
                let pod = pod.ok_or(PodError::Unreached)?;
                Ok(pod.incarnation == *incarnation && !pod.has_finished)
            }
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::FORBIDDEN => Err(PodError::Forbidden(status_error(response).await)),
            _ => Err(PodError::Unreached),
        }
    }

    async fn get(&self, query: &[(&str, &str)]) -> Result<Response<Body>, ReadEnd> {
        let (namespace, service) = (&self.namespace, &self.service);
        let query = Serializer::new(String::new())
            .append_pair("labelSelector", &format!("kubernetes.io/service-name={service}"))
            .extend_pairs(query)
            .finish();
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{query}");
        let response = self.send(path).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::GONE => Err(ReadEnd::Expired),
            status => {
                let error = status_error(response).await;
                // A server that cannot respond, or refuses to, says nothing about the version. A server that
                // waited for the version until a timeout (504) was restored to an earlier state.
                let is_unable = status.is_server_error() && status != StatusCode::GATEWAY_TIMEOUT;
                let is_unwilling = matches!(
                    status,
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
                );
                Err(if is_unable || is_unwilling {
                    ReadEnd::Unreached(error)
                } else {
                    ReadEnd::Misread(error)
                })
            }
        }
    }

    /// Sends a GET and waits for the head of the response.
    async fn send(&self, path: String) -> Result<Response<Body>, ReadEnd> {
        let request =
            Request::get(path).header(http::header::ACCEPT, "application/json").body(Body::empty()).map_err(
                |_| ReadEnd::Misread(SourceError::Nonsense("a version or token that fits no request".into())),
            )?;
        timeout(RESPONSE_TIME, quietly(self.client.send(request)))
            .await
            .map_err(|_| ReadEnd::Unreached(SourceError::NoResponse("no response in time".into())))?
            .map_err(|error| ReadEnd::Unreached(client_error(&error)))
    }
}

/// The status and the message of an error response.
async fn status_error(response: Response<Body>) -> SourceError {
    let status = response.status();
    let body = Limited::new(response.into_body(), STATUS_BYTES_MAX).collect();
    let body = timeout(RESPONSE_TIME, quietly(body)).await.ok().and_then(Result::ok);
    let why = body.and_then(|body| wire::status_message(&body.to_bytes())).unwrap_or_default();
    SourceError::NoResponse(loggable(&format!("{status} {why}")))
}

/// A watch, line by line.
pub(super) struct Watch {
    body: Body,
    read: BytesMut,
    /// The length of the start of `read` that contains no line end.
    searched: usize,
}

impl Watch {
    /// The next line; `None` after the last one, or after the connection broke. Dropping the future loses
    /// nothing.
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

/// Runs a future without logging. kube logs each failure itself; the gateway logs it once, where it is
/// handled.
async fn quietly<T>(future: impl Future<Output = T>) -> T {
    future.with_subscriber(Dispatch::none()).await
}

fn no_configuration(error: &dyn Error) -> SourceError {
    SourceError::NoResponse(format!("no configuration for an API server: {}", loggable(&chain(error))))
}

fn client_error(error: &kube::Error) -> SourceError {
    // kube hides the error of a credential plugin in another one if the credential is renewed.
    let first: &(dyn Error + 'static) = error;
    let errors = iter::successors(Some(first), |&error| error.source());
    // The output of a credential plugin may be the credential.
    let text = match errors.filter_map(|error| error.downcast_ref()).next() {
        Some(AuthError::AuthExecRun { out, .. }) => {
            format!("the credential plugin exited with {}", out.status)
        }
        Some(AuthError::AuthExecParse(_)) => "the credential plugin's output is not valid".into(),
        _ => loggable(&chain(error)),
    };
    SourceError::NoResponse(text)
}

/// The time until the head of a response: the server is near, or away.
const RESPONSE_TIME: Duration = Duration::from_secs(10);
/// The time for a whole list. Twenty pages of a large fleet take a few seconds.
const LIST_TIME: Duration = Duration::from_secs(60);
/// The duration that a watch asks for. A server that vanished silently is noticed after it.
const WATCH_TIME: Duration = Duration::from_secs(120);
/// The time after which the gateway ends a watch itself.
pub(super) const WATCH_TIME_MAX: Duration = Duration::from_secs(130);
/// Slices per page. A slice has up to a thousand endpoints, a hundred by default, of some 500 bytes each.
const PAGE_SLICES: usize = 20;
/// The largest page. Some servers send all slices in one page: 20,000 pods in both families.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Ten times the pages of the largest fleet, with a hundred endpoints per slice.
const PAGES_MAX: usize = 200;
/// The longest line, and the largest pod: more than a slice of a thousand endpoints. The store of a cluster
/// holds nothing larger than 1.5 MiB.
const LINE_BYTES_MAX: usize = 4 << 20;
/// The largest body of an error response.
const STATUS_BYTES_MAX: usize = 16 << 10;

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt,
        process::{ExitStatus, Output},
    };

    use super::*;

    #[test]
    fn the_output_of_a_credential_plugin_is_not_shown() {
        let failed = || {
            let status = ExitStatus::from_raw(0x100);
            let out = Output { status, stdout: b"a token".to_vec(), stderr: Vec::new() };
            AuthError::AuthExecRun { cmd: "plugin".into(), out: Box::new(out) }
        };
        let expected = "no usable response: the credential plugin exited with exit status: 1";
        // At the first use, and when the credential is renewed.
        for error in [kube::Error::Auth(failed()), kube::Error::Service(Box::new(failed()))] {
            assert_eq!(client_error(&error).to_string(), expected);
        }
    }
}
