//! What the EndpointSlices of a service say, all together.

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
    /// In all of them.
    endpoints: usize,
}

/// What is kept of a slice.
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

/// Endpoints that are no instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// They name no pod and its uid, or have no address.
    pub(super) no_pods: usize,
    /// Their slice does not have the port.
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
    /// Takes a slice in, in the place of the one of its name, which stays if the new one is refused. Nothing grows without
    /// bound, whatever the server says.
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

    /// What no instance is made of, in all slices.
    pub(super) fn left_out(&self) -> LeftOut {
        self.slices.values().fold(LeftOut::default(), |sum, slice| LeftOut {
            no_pods: sum.no_pods + slice.left_out.no_pods,
            without_port: sum.without_port + slice.left_out.without_port,
        })
    }

    /// One member a pod, sorted by name.
    ///
    /// A pod of two families is in two slices, and one that is moved between slices may be in both for a moment. Of what they
    /// say of it the worst counts: whoever was seen ending is.
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
                    if hindrance(pod.source_state) > hindrance(one.source_state) {
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
        let scheme = if *secure { "https" } else { "http" };
        let host = format!("{service}.{namespace}.svc");
        let member = |(name, found): (&Name, FoundPod<'_>)| {
            let FoundPod { pod, mut addresses, source_state } = found;
            // IPv4 first, and the same order whichever slice came first.
            addresses.sort_unstable();
            addresses.dedup();
            let target = UpstreamUrl::parse(&format!("{scheme}://{host}:{}{path}", pod.port));
            let target = target.map_err(|_| SourceError::NotAHost(host.clone()))?.found_at(&addresses);
            Ok(Member {
                name: name.clone(),
                incarnation: pod.incarnation.clone(),
                new_calls: target.clone(),
                callbacks: target,
                apps: None,
                weight: 1,
                source_state,
                // A pod is in its slices until it has ended, whatever its conditions.
                outlives_listing: false,
            })
        };
        found.into_iter().map(member).collect()
    }
}

/// A pod and all that is said of it.
struct FoundPod<'a> {
    pod: &'a Pod,
    addresses: Vec<IpAddr>,
    source_state: SourceState,
}

/// How much speaks against new calls.
fn hindrance(source_state: SourceState) -> u8 {
    match source_state {
        SourceState::Ready => 0,
        SourceState::NotReady => 1,
        SourceState::Terminating => 2,
        SourceState::Unlisted | SourceState::Removed => 3,
    }
}

/// Each instance in both families, and some of them in two slices for a moment.
const ENDPOINTS_MAX: usize = 3 * INSTANCES_MAX;
/// A hundred endpoints to a slice are usual; empty ones are taken away.
const SLICES_MAX: usize = INSTANCES_MAX;
