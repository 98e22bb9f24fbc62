//! The paths of the platform: those of the real hosts, all on one origin, and those of the control API.

mod control;
mod graph_path;
mod urls;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;

pub use self::urls::NamedUrl;
use self::{graph_path::GraphPath, urls::no_such_path};
use crate::{
    call::parse_http_url,
    caller,
    context::Context,
    control::faults_explained,
    entra::{self, Directory, IdentityForm, identity_variables},
    faults::{ErrorFormat, FaultName, regular_or_fault},
    graph::{
        Batch, CreateRequest, Gate, add_graph_headers, log_device_quality, unknown_segment, wrong_method,
    },
    issuer::{self, Authority, SKYPE_ISSUER, SKYPE_SLASH_ISSUER},
    page::{PageFile, wants_json},
    server::{Body, Handle, hang_up, header_text, json_response, method_not_allowed, reads},
};

/// The request handler of a platform.
#[derive(Debug)]
pub(crate) struct Routes {
    context: Arc<Context>,
    origin: String,
    scheme: &'static str,
    directory: Directory,
}

impl Routes {
    /// `address` is the address that the platform is bound to.
    pub(crate) fn new(
        context: Arc<Context>,
        scheme: &'static str,
        address: SocketAddr,
        directory: Directory,
    ) -> Self {
        Self { context, origin: format!("{scheme}://{address}"), scheme, directory }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }
}

impl Handle for Routes {
    async fn handle(self: Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            [""] if !wants_json(&request) => PageFile::Document.respond(&request),
            ["page.css"] => PageFile::Style.respond(&request),
            ["page.js"] => PageFile::Script.respond(&request),
            ["page.svg"] => PageFile::Icon.respond(&request),
            ["" | "emulator"] => document(&request, || self.index(&request)),
            ["emulator", rest @ ..] => {
                let default_app = self.directory.apps.first().copied();
                control::respond(&self.context, default_app, &request, rest).await
            }
            ["v1", ".well-known", "OpenIdConfiguration" | "openidconfiguration"] => {
                let make = || issuer::skype_configuration(&self.origin_of(&request), SKYPE_ISSUER);
                self.issuer_document(&request, FaultName::Skype, false, make).await
            }
            ["slash", "v1", ".well-known", "OpenIdConfiguration" | "openidconfiguration"] => {
                let make = || issuer::skype_configuration(&self.origin_of(&request), SKYPE_SLASH_ISSUER);
                self.issuer_document(&request, FaultName::Skype, false, make).await
            }
            ["v1", "keys"] => {
                let make = || issuer::skype_keys(&self.context.keys());
                self.issuer_document(&request, FaultName::Skype, true, make).await
            }
            // MSAL for Node writes a slash at the end.
            ["metadata", "identity", "oauth2", "token"] | ["metadata", "identity", "oauth2", "token", ""] => {
                self.managed_identity(&request, IdentityForm::Imds).await
            }
            ["MSI" | "msi", "token"] | ["MSI" | "msi", "token", ""] => {
                self.managed_identity(&request, IdentityForm::AppService).await
            }
            segments => {
                if let Some(path) = GraphPath::parse(segments) {
                    return self.graph(&request, &path).await;
                }
                let Some((authority, rest)) = segments.split_first() else { return no_such_path() };
                self.entra(&request, authority, rest).await.unwrap_or_else(no_such_path)
            }
        }
    }
}

impl Routes {
    /// Responds to a request below `/{tenant}`; `None` if there is no such path.
    async fn entra(&self, request: &Request<Bytes>, name: &str, rest: &[&str]) -> Option<Response<Body>> {
        let origin = self.origin_of(request);
        let make: Box<dyn FnOnce(Authority) -> Value + Send + '_> = match rest {
            ["oauth2", "v2.0", "token"] => return Some(self.login(request, name).await),
            ["discovery", "instance"] => {
                let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host);
                return Some(cached(request, || issuer::instance_discovery(&origin, host)));
            }
            ["v2.0", ".well-known", "openid-configuration"] => {
                Box::new(|authority| issuer::entra_configuration(&origin, authority))
            }
            [".well-known", "openid-configuration"] => {
                Box::new(|authority| issuer::entra_v1_configuration(&origin, authority))
            }
            ["discovery", "v2.0", "keys"] | ["discovery", "keys"] => {
                Box::new(|authority| issuer::entra_keys(&self.context.keys(), authority))
            }
            _ => return None,
        };
        let keys = rest.last() == Some(&"keys");
        Some(match self.directory.authority(name) {
            Some(authority) => {
                self.issuer_document(request, FaultName::Entra, keys, || make(authority)).await
            }
            None => entra::no_such_tenant(name, self.context.now()),
        })
    }

    /// Responds with metadata or a key set, unless a fault strikes.
    async fn issuer_document(
        &self,
        request: &Request<Bytes>,
        name: FaultName,
        keys: bool,
        make: impl FnOnce() -> Value,
    ) -> Response<Body> {
        let faults = &self.context.faults;
        let spared = !keys && faults.lock().is_of_keys(name);
        let fault = if spared { None } else { faults.strike(name) };
        let other_keys = fault.as_ref().is_some_and(|fault| fault.is_wrong_keys());
        let make = || if other_keys { self.with_other_keys(make()) } else { make() };
        let regular = async { cached(request, make) };
        regular_or_fault(fault, regular, ErrorFormat::Emulator).await
    }

    /// Replaces the keys of a set by a key that signs nothing, under the same key ids.
    fn with_other_keys(&self, mut set: Value) -> Value {
        let other = self.context.keys().unpublished().to_jwk();
        for key in set.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
            for member in ["n", "e", "x5c"] {
                if let (Some(key), Some(value)) = (key.as_object_mut(), other.get(member)) {
                    key.insert(member.to_owned(), value.clone());
                }
            }
        }
        set
    }

    async fn login(&self, request: &Request<Bytes>, authority: &str) -> Response<Body> {
        if request.method() != Method::POST {
            return method_not_allowed("POST");
        }
        let now = self.context.now();
        let regular = async {
            let (response, token) = self.directory.token(request, authority, &self.context.keys(), now);
            if let (Some(issued), Some(token)) = (&self.context.issued, token) {
                issued.remember(&token);
            }
            response
        };
        let fault = self.context.faults.strike(FaultName::Login);
        regular_or_fault(fault, regular, ErrorFormat::Entra { now }).await
    }

    /// Responds to a request for a token of a managed identity. The faults of the token endpoint strike it
    /// too: in the cloud it asks that endpoint.
    async fn managed_identity(&self, request: &Request<Bytes>, form: IdentityForm) -> Response<Body> {
        if request.method() != Method::GET {
            return method_not_allowed("GET");
        }
        let now = self.context.now();
        let regular = async {
            let (response, token) =
                self.directory.managed_identity_token(request, form, &self.context.keys(), now);
            if let (Some(issued), Some(token)) = (&self.context.issued, token) {
                issued.remember(&token);
            }
            response
        };
        let fault = self.context.faults.strike(FaultName::Login);
        regular_or_fault(fault, regular, ErrorFormat::ManagedIdentity { form }).await
    }

    /// Responds to a request to Graph, or to a batch of them.
    async fn graph(&self, request: &Request<Bytes>, path: &GraphPath<'_>) -> Response<Body> {
        match path.segments.as_slice() {
            ["$batch" | "%24batch"] => {
                let mut response = self.batch(request).await;
                add_graph_headers(request.headers(), &mut response);
                response
            }
            _ => self.graph_request(request, path).await,
        }
    }

    /// Responds to a batch as to each of its requests on its own: with the same faults and timelines.
    async fn batch(&self, request: &Request<Bytes>) -> Response<Body> {
        let mut batch = match Batch::parse(request, self.context.now()) {
            Ok(batch) => batch,
            Err(refusal) => return *refusal,
        };
        while let Some(part) = batch.next().await {
            let segments: Vec<&str> = part.uri().path().split('/').skip(1).collect();
            let response = match GraphPath::parse(&segments) {
                Some(path) => self.graph_request(&part, &path).await,
                None => no_such_path(),
            };
            if batch.add(response).await.is_err() {
                return hang_up();
            }
        }
        batch.response()
    }

    async fn graph_request(&self, request: &Request<Bytes>, path: &GraphPath<'_>) -> Response<Body> {
        let (id, path) = match path.segments.as_slice() {
            ["communications" | "app", "calls"] => return self.create_call(request).await,
            ["communications" | "app", "calls", id, path @ ..] => (*id, path),
            segments => {
                let last = segments.last().copied().unwrap_or_default();
                let mut response = unknown_segment(request, last, self.context.now());
                add_graph_headers(request.headers(), &mut response);
                return response;
            }
        };
        let now = self.context.now();
        let origin = self.origin_of(request);
        let gate = Gate { issued: self.context.issued.as_ref(), now, origin: &origin };
        let calls = &self.context.calls;
        let regular = async {
            if path.is_empty() && id == DEVICE_QUALITY {
                return log_device_quality(request, gate);
            }
            let mut response = calls.handle(request, id, path, gate);
            self.complete_location(request, &mut response);
            response
        };
        let fault = self.context.faults.strike(FaultName::Graph);
        // The page of a proxy does not come from Graph.
        let is_of_proxy = fault.as_ref().is_some_and(|fault| fault.is_of_proxy());
        let struck = fault.as_ref().map(|fault| (fault.to_string(), fault.graph_status().is_some()));
        if let Some((fault, false)) = &struck {
            calls.struck(request, id, path, fault, None);
        }
        let mut response = regular_or_fault(fault, regular, ErrorFormat::Graph { request, now }).await;
        if !is_of_proxy {
            add_graph_headers(request.headers(), &mut response);
        }
        if let Some((fault, true)) = &struck {
            calls.struck(request, id, path, fault, Some(&response));
        }
        response
    }

    /// Responds to a request to create a call.
    async fn create_call(&self, request: &Request<Bytes>) -> Response<Body> {
        let now = self.context.now();
        let origin = self.origin_of(request);
        let gate = Gate { issued: self.context.issued.as_ref(), now, origin: &origin };
        let mut created = None;
        let regular = async {
            if request.method() != Method::POST {
                return wrong_method(request, "POST", now);
            }
            let placed = match CreateRequest::read(request, gate, self.directory.apps.first().copied()) {
                Ok(create) => caller::call_out(&self.context, create),
                Err(refusal) => return refusal.response(request, now),
            };
            let mut response = match placed {
                Ok((id, document)) => {
                    created = Some(id);
                    CreateRequest::created(id, &document)
                }
                Err(error) => CreateRequest::not_placed(request, &error, gate),
            };
            self.complete_location(request, &mut response);
            response
        };
        let fault = self.context.faults.strike(FaultName::Graph);
        let is_of_proxy = fault.as_ref().is_some_and(|fault| fault.is_of_proxy());
        let mut response = regular_or_fault(fault, regular, ErrorFormat::Graph { request, now }).await;
        if !is_of_proxy {
            add_graph_headers(request.headers(), &mut response);
        }
        if let Some(id) = created {
            self.context.calls.created(request, id, &response);
        }
        response
    }

    /// Writes the origin in front of a `Location` that is a path.
    fn complete_location(&self, request: &Request<Bytes>, response: &mut Response<Body>) {
        let path = header_text(response.headers(), &header::LOCATION).filter(|path| path.starts_with('/'));
        let url = path.map(|path| format!("{}{path}", self.origin_of(request)));
        if let Some(url) = url.and_then(|url| header::HeaderValue::from_str(&url).ok()) {
            response.headers_mut().insert(header::LOCATION, url);
        }
    }

    /// Returns the index of the platform: every URL, the default app, and the values of the faults.
    fn index(&self, request: &Request<Bytes>) -> Value {
        let origin = self.origin_of(request);
        let mut index: serde_json::Map<String, Value> = NamedUrl::all(&origin)
            .into_iter()
            .map(|named| (named.name.to_owned(), named.url.into()))
            .collect();
        index.insert("app".to_owned(), self.directory.apps.first().map(Uuid::to_string).into());
        index.insert("fault_values".to_owned(), faults_explained());
        let variables = identity_variables(&origin).into_iter();
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into())).collect();
        index.insert("identity_variables".to_owned(), Value::Object(variables));
        Value::Object(index)
    }

    /// Returns the origin that the request names. A platform that listens on every address has several.
    fn origin_of(&self, request: &Request<Bytes>) -> String {
        header_text(request.headers(), &header::HOST)
            .and_then(|host| parse_http_url(&format!("{}://{host}/", self.scheme)).ok())
            .map_or_else(|| self.origin.clone(), |url| url.origin().ascii_serialization())
    }
}

fn document(request: &Request<Bytes>, make: impl FnOnce() -> Value) -> Response<Body> {
    if reads(request.method()) { json_response(StatusCode::OK, &make()) } else { method_not_allowed("GET") }
}

/// A document with the `Cache-Control` of the real ones. A client must read a key set again sooner.
fn cached(request: &Request<Bytes>, make: impl FnOnce() -> Value) -> Response<Body> {
    let mut response = document(request, make);
    let day = header::HeaderValue::from_static("max-age=86400, private");
    response.headers_mut().insert(header::CACHE_CONTROL, day);
    response
}

/// The action below `/communications/calls` that is about no call.
const DEVICE_QUALITY: &str = "logTeleconferenceDeviceQuality";
