//! The JSON of lists and watches of EndpointSlices (`discovery.k8s.io/v1`), and of pods (`v1`).

use std::net::IpAddr;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use switchboard_routing::Name;

use super::{
    super::{
        pod::{pod_incarnation, pod_instance},
        source::{SourceError, loggable},
    },
    slices::{LeftOut, Pod, Slice},
};
use crate::{member::SourceState, settings::PodPort};

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListPage {
    pub(super) slices: Vec<(Box<str>, Slice)>,
    pub(super) version: Box<str>,
    /// The token with which to request the next page.
    pub(super) more: Option<Box<str>>,
}

/// A line of a watch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WatchEvent {
    pub(super) change: SliceChange,
    /// The version to continue from.
    pub(super) version: Option<Box<str>>,
}

/// The change that a line of a watch describes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SliceChange {
    /// A bookmark: only the version changed.
    None,
    Put(Box<str>, Slice),
    Removed(Box<str>),
    /// The version is no longer known.
    Expired,
    /// Another error, with the text of the server.
    Refused(String),
}

/// A pod, as the server has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FoundPod {
    pub(super) incarnation: Name,
    pub(super) has_finished: bool,
}

/// Reads a page of a list.
pub(super) fn page(body: &[u8], port: &PodPort) -> Result<ListPage, SourceError> {
    let RawList { api_version, kind, metadata, items } = parse(body)?;
    if (&*api_version, &*kind) != (API_VERSION, "EndpointSliceList") {
        return Err(SourceError::Nonsense(loggable(&format!("a {kind} of {api_version}"))));
    }
    let slices = items.unwrap_or_default().into_iter();
    Ok(ListPage {
        slices: slices.map(|slice| slice.read(port)).collect::<Result<_, _>>()?,
        version: version(metadata.resource_version)?,
        more: metadata.more.filter(|more| !more.is_empty()),
    })
}

/// Reads a line of a watch.
pub(super) fn event(line: &[u8], port: &PodPort) -> Result<WatchEvent, SourceError> {
    let RawEvent { kind, object } = parse(line)?;
    let object = object.get().as_bytes();
    if kind == "ERROR" {
        let RawStatus { code, message } = parse(object)?;
        let change = match code {
            Some(410) => SliceChange::Expired,
            code => SliceChange::Refused(loggable(&format!(
                "{} {}",
                code.unwrap_or_default(),
                message.unwrap_or_default()
            ))),
        };
        return Ok(WatchEvent { change, version: None });
    }
    let RawObject { api_version, kind: object_kind, metadata } = parse(object)?;
    if (&*api_version, &*object_kind) != (API_VERSION, "EndpointSlice") {
        return Err(SourceError::Nonsense(loggable(&format!("a {object_kind} of {api_version}"))));
    }
    let version = version(metadata.resource_version)?;
    let change = match kind.as_str() {
        "BOOKMARK" => SliceChange::None,
        "ADDED" | "MODIFIED" => {
            let (name, slice) = parse::<RawSlice>(object)?.read(port)?;
            SliceChange::Put(name, slice)
        }
        "DELETED" => SliceChange::Removed(parse::<RawSlice>(object)?.name()?),
        _ => return Err(SourceError::Nonsense(loggable(&format!("an event {kind}")))),
    };
    Ok(WatchEvent { change, version: Some(version) })
}

/// Reads a pod.
pub(super) fn pod(body: &[u8]) -> Result<FoundPod, SourceError> {
    let RawPod { metadata, status } = parse(body)?;
    let incarnation = metadata.uid.as_deref().and_then(pod_incarnation);
    let incarnation = incarnation.ok_or_else(|| SourceError::Nonsense("a pod without a uid".into()))?;
    // All its containers have ended, and none will be restarted. Its address may belong to another pod.
    let has_finished =
        matches!(status.and_then(|status| status.phase).as_deref(), Some("Succeeded" | "Failed"));
    Ok(FoundPod { incarnation, has_finished })
}

/// The message in the body of an error response, if there is one.
pub(super) fn status_message(body: &[u8]) -> Option<Box<str>> {
    parse::<RawStatus>(body).ok()?.message
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(text).map_err(|error| SourceError::Nonsense(loggable(&error.to_string())))
}

/// Checks the length of a version. It is sent back to the server unchanged.
fn version(text: Option<Box<str>>) -> Result<Box<str>, SourceError> {
    match text {
        Some(text) if (1..=VERSION_BYTES_MAX).contains(&text.len()) => Ok(text),
        Some(_) | None => Err(SourceError::Nonsense("no version, or one that is too long".into())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList {
    api_version: Box<str>,
    kind: Box<str>,
    metadata: RawListMetadata,
    items: Option<Vec<RawSlice>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawListMetadata {
    resource_version: Option<Box<str>>,
    #[serde(rename = "continue")]
    more: Option<Box<str>>,
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "type")]
    kind: String,
    object: Box<RawValue>,
}

#[derive(Deserialize)]
struct RawStatus {
    code: Option<u16>,
    message: Option<Box<str>>,
}

/// The members that all objects have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawObject {
    api_version: Box<str>,
    kind: Box<str>,
    metadata: RawMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata {
    name: Option<Box<str>>,
    resource_version: Option<Box<str>>,
}

/// A slice. Empty lists may be `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSlice {
    metadata: RawMetadata,
    address_type: Box<str>,
    endpoints: Option<Vec<RawEndpoint>>,
    ports: Option<Vec<RawPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEndpoint {
    addresses: Option<Vec<Box<str>>>,
    conditions: Option<RawConditions>,
    target_ref: Option<RawReference>,
}

/// The conditions of an endpoint. `serving` is `ready` without regard to `terminating`, and is not used.
#[derive(Default, Deserialize)]
struct RawConditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct RawPod {
    metadata: RawPodMetadata,
    status: Option<RawPodStatus>,
}

#[derive(Deserialize)]
struct RawPodMetadata {
    uid: Option<Box<str>>,
}

#[derive(Deserialize)]
struct RawPodStatus {
    phase: Option<Box<str>>,
}

#[derive(Deserialize)]
struct RawReference {
    kind: Option<Box<str>>,
    name: Option<Box<str>>,
    uid: Option<Box<str>>,
}

#[derive(Deserialize)]
struct RawPort {
    name: Option<Box<str>>,
    port: Option<u16>,
    protocol: Option<Box<str>>,
}

impl RawSlice {
    fn name(self) -> Result<Box<str>, SourceError> {
        match self.metadata.name {
            Some(name) if (1..=OBJECT_NAME_BYTES_MAX).contains(&name.len()) => Ok(name),
            Some(_) | None => {
                Err(SourceError::Nonsense("a slice without a name, or with one that is too long".into()))
            }
        }
    }

    fn read(mut self, port: &PodPort) -> Result<(Box<str>, Slice), SourceError> {
        let port = self.port(port);
        let endpoints = self.endpoints.take().unwrap_or_default();
        // Host names instead of addresses (`FQDN`) are deprecated, and no controller of Kubernetes writes
        // them.
        let has_addresses = matches!(&*self.address_type, "IPv4" | "IPv6");
        let mut slice = Slice { pods: Vec::with_capacity(endpoints.len()), left_out: LeftOut::default() };
        for endpoint in endpoints {
            match (endpoint.read(has_addresses)?, port) {
                (None, _) => slice.left_out.no_pods += 1,
                (Some(_), None) => slice.left_out.without_port += 1,
                (Some((name, incarnation, address, source_state)), Some(port)) => {
                    slice.pods.push(Pod { name, incarnation, address, port, source_state });
                }
            }
        }
        Ok((self.name()?, slice))
    }

    /// The number of the port in this slice.
    fn port(&self, port: &PodPort) -> Option<u16> {
        let wanted = match port {
            PodPort::Number(number) => return Some(*number),
            PodPort::Named(name) => name,
        };
        let mut ports = self.ports.iter().flatten();
        let has_it = |port: &&RawPort| {
            port.name.as_deref() == Some(&**wanted)
                && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
        };
        ports.find(has_it).and_then(|port| port.port).filter(|port| *port > 0)
    }
}

impl RawEndpoint {
    /// The name, incarnation, address and state of a pod; `None` if the endpoint is not a pod that has them.
    fn read(self, has_addresses: bool) -> Result<Option<(Name, Name, IpAddr, SourceState)>, SourceError> {
        let RawConditions { ready, terminating } = self.conditions.unwrap_or_default();
        // A service may report terminating pods as ready (`publishNotReadyAddresses`): they take no calls. An
        // unknown condition counts as ready ("In most cases consumers should interpret this unknown state as
        // ready").
        let source_state = match (ready.unwrap_or(true), terminating.unwrap_or(false)) {
            (_, true) => SourceState::Terminating,
            (true, false) => SourceState::Ready,
            (false, false) => SourceState::NotReady,
        };
        let Some(RawReference { kind, name: Some(name), uid: Some(uid) }) = self.target_ref else {
            return Ok(None);
        };
        // The elements are interchangeable, and "clients may choose to only use the first".
        let address = self.addresses.and_then(|addresses| addresses.into_iter().next());
        let (Some(address), Some(incarnation), true) = (address, pod_incarnation(&uid), has_addresses) else {
            return Ok(None);
        };
        if kind.as_deref() != Some("Pod") || name.is_empty() || name.len() > OBJECT_NAME_BYTES_MAX {
            return Ok(None);
        }
        let address = address
            .parse()
            .map_err(|_| SourceError::Nonsense(loggable(&format!("the address {address}"))))?;
        Ok(Some((pod_instance(&name), incarnation, address, source_state)))
    }
}

const API_VERSION: &str = "discovery.k8s.io/v1";
/// The longest name of an object: a DNS name.
const OBJECT_NAME_BYTES_MAX: usize = 253;
/// More than any version: so far it is a number.
const VERSION_BYTES_MAX: usize = 1024;
