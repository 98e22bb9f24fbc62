//! The members that all EndpointSlices of a service list together.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    net::IpAddr,
};

use switchboard_routing::Name;

use super::super::source::{INSTANCES_MAX, SourceError};
use crate::{
    member::{Member, SourceState},
    network::forbidden,
    settings::KubernetesSettings,
    upstream_url::UpstreamUrl,
};

/// The slices of a service, by name.
#[derive(Debug, Default)]
pub(super) struct Slices {
    slices: HashMap<Box<str>, Slice>,
    /// The number of endpoints in all of them.
    endpoints: usize,
}

/// The usable part of a slice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) pods: Vec<Pod>,
    pub(super) left_out: LeftOut,
}

/// A pod at one of its addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: Name,
    pub(super) incarnation: Name,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) source_state: SourceState,
}

/// The numbers of endpoints that are not instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Endpoints that name no pod with its uid, or have no address.
    pub(super) no_pods: usize,
    /// Endpoints whose slice does not have the port.
    pub(super) without_port: usize,
}

impl LeftOut {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl Slice {
    fn endpoints(&self) -> usize {
        self.pods.len() + self.left_out.no_pods + self.left_out.without_port
    }
}

impl Slices {
    /// Adds a slice, or replaces the slice of that name, which stays if the new one is rejected. The sizes
    /// are bounded, whatever the server sends.
    pub(super) fn put(&mut self, name: Box<str>, slice: Slice) -> Result<(), SourceError> {
        let replaced = self.slices.get(&name);
        let count = self.endpoints + slice.endpoints() - replaced.map_or(0, Slice::endpoints);
        if count > ENDPOINTS_MAX {
            return Err(SourceError::TooMany { count });
        }
        if replaced.is_none() && self.slices.len() >= SLICES_MAX {
            return Err(SourceError::Nonsense(format!("more than {SLICES_MAX} slices")));
        }
        self.endpoints = count;
        self.slices.insert(name, slice);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(slice) = self.slices.remove(name) {
            self.endpoints -= slice.endpoints();
        }
    }

    /// The endpoints of all slices that are not instances.
    pub(super) fn left_out(&self) -> LeftOut {
        self.slices.values().fold(LeftOut::default(), |sum, slice| LeftOut {
            no_pods: sum.no_pods + slice.left_out.no_pods,
            without_port: sum.without_port + slice.left_out.without_port,
        })
    }

    /// One member per pod, sorted by name.
    ///
    /// A pod with two address families is in two slices, and a pod that moves between slices may be in both
    /// for a moment. The worst of its conditions counts: a pod that terminates in one slice terminates.
    pub(super) fn members(
        &self,
        settings: &KubernetesSettings,
        namespace: &str,
    ) -> Result<Vec<Member>, SourceError> {
        let mut found: BTreeMap<&Name, FoundPod<'_>> = BTreeMap::new();
        for pod in self.slices.values().flat_map(|slice| &slice.pods) {
            if let Some(why) = forbidden(pod.address, &settings.allow) {
                return Err(SourceError::Forbidden { address: pod.address, why });
            }
            match found.entry(&pod.name) {
                Entry::Vacant(entry) => {
                    entry.insert(FoundPod {
                        pod,
                        addresses: vec![pod.address],
                        source_state: pod.source_state,
                    });
                }
                Entry::Occupied(mut entry) => {
                    let one = entry.get_mut();
                    if (&one.pod.incarnation, one.pod.port) != (&pod.incarnation, pod.port) {
                        return Err(SourceError::Doubled(pod.name.to_string()));
                    }
                    one.addresses.push(pod.address);
                    if severity(pod.source_state) > severity(one.source_state) {
                        one.source_state = pod.source_state;
                    }
                }
            }
        }
        if found.len() > INSTANCES_MAX {
            return Err(SourceError::TooMany { count: found.len() });
        }
        if found.is_empty() {
            return Err(match self.endpoints {
                _ if self.slices.is_empty() => SourceError::NoService,
                0 => SourceError::Empty,
                endpoints => SourceError::Unusable { endpoints },
            });
        }
        let KubernetesSettings { service, path, secure, .. } = settings;
        let host = format!("{service}.{namespace}.svc");
        let member = |(name, found): (&Name, FoundPod<'_>)| {
            let FoundPod { pod, mut addresses, source_state } = found;
            // IPv4 first, and one order whichever slice came first.
            addresses.sort_unstable();
            addresses.dedup();
            let url = UpstreamUrl::of_parts(*secure, &host, pod.port, path);
            let url = url.map_err(|_| SourceError::NotAHost(host.clone()))?.found_at(&addresses);
            Ok(Member {
                name: name.clone(),
                incarnation: pod.incarnation.clone(),
                new_calls: url.clone(),
                callbacks: url,
                apps: None,
                weight: 1,
                source_state,
            })
        };
        found.into_iter().map(member).collect()
    }
}

/// A pod with the addresses and the state from all slices.
struct FoundPod<'a> {
    pod: &'a Pod,
    addresses: Vec<IpAddr>,
    source_state: SourceState,
}

/// The order of states, from ready for new calls to gone.
fn severity(source_state: SourceState) -> u8 {
    match source_state {
        SourceState::Ready => 0,
        SourceState::NotReady => 1,
        SourceState::Terminating => 2,
        SourceState::Draining | SourceState::Restored | SourceState::Unlisted | SourceState::Removed => 3,
    }
}

/// Room for each instance in both families, and for some of them in two slices for a moment.
const ENDPOINTS_MAX: usize = 3 * INSTANCES_MAX;
/// A hundred endpoints per slice are usual; empty slices are removed.
const SLICES_MAX: usize = INSTANCES_MAX;
