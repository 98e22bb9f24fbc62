//! `InvalidPolicy`: the problems of a policy's settings.

use uuid::Uuid;

use super::{peer::Peer, rule::Rule};
use crate::{
    endpoint::{InvalidUrl, check_address},
    name::Name,
};

/// A problem of a policy's settings. Rules and peers are counted from 0, as in `path`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A rule names a region that is neither this region nor a peer.
    #[error("rule {rule} names the unknown region {region}; known are {known}")]
    UnknownRegion {
        /// The rule's index.
        rule: usize,
        /// The region.
        region: Name,
        /// The names of this region and its peers.
        known: String,
    },
    /// The share of a rule is not a number from 0 to 1.
    #[error("rule {rule} takes a share of {share}; write a number from 0 to 1")]
    Share {
        /// The rule's index.
        rule: usize,
        /// The share as it was given.
        share: f64,
    },
    /// A condition on a tenant is not a GUID. No call has such a tenant.
    #[error("rule {rule} has the {condition} {value:?}, which is not a GUID; write the tenant's id")]
    Tenant {
        /// The rule's index.
        rule: usize,
        /// `tenant` or `organizer_tenant`.
        condition: &'static str,
        /// The value as it was given.
        value: String,
    },
    /// A peer has the name of this region.
    #[error("peer {peer} is named {name}, as this region is; list the other regions only")]
    PeerIsHere {
        /// The peer's index.
        peer: usize,
        /// The name.
        name: Name,
    },
    /// A peer has the name of an earlier peer.
    #[error("peer {peer} is named {name}, as peer {earlier} is; list each region once")]
    DoubledPeer {
        /// The peer's index.
        peer: usize,
        /// The index of the first peer with this name.
        earlier: usize,
        /// The name.
        name: Name,
    },
    /// The webhook of a peer is not a safe target for a redirect.
    #[error("the webhook of peer {peer} ({name}) {problem}")]
    Webhook {
        /// The peer's index.
        peer: usize,
        /// Its name.
        name: Name,
        /// The problem of the URL.
        problem: InvalidUrl,
    },
}

impl InvalidPolicy {
    /// Returns a stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownRegion { .. } => "unknown_region",
            Self::Share { .. } => "share",
            Self::Tenant { .. } => "not_a_tenant",
            Self::PeerIsHere { .. } => "peer_is_here",
            Self::DoubledPeer { .. } => "doubled_peer",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// Returns the path of the setting, like `rule[2].serve_in` or `peer[0].webhook`.
    pub fn path(&self) -> String {
        match self {
            Self::UnknownRegion { rule, .. } => format!("rule[{rule}].serve_in"),
            Self::Share { rule, .. } => format!("rule[{rule}].share"),
            Self::Tenant { rule, condition, .. } => format!("rule[{rule}].{condition}"),
            Self::PeerIsHere { peer, .. } | Self::DoubledPeer { peer, .. } => format!("peer[{peer}].name"),
            Self::Webhook { peer, .. } => format!("peer[{peer}].webhook"),
        }
    }
}

/// Returns all problems: first those of the peers, then those of the rules.
pub(super) fn problems(here: &Name, peers: &[Peer], rules: &[Rule]) -> impl Iterator<Item = InvalidPolicy> {
    let of_peers = peers.iter().enumerate().flat_map(|(index, peer)| {
        let name = peer.name.clone();
        let earlier = peers.iter().take(index).position(|earlier| earlier.name == name);
        let naming = match earlier {
            _ if name == *here => Some(InvalidPolicy::PeerIsHere { peer: index, name: name.clone() }),
            Some(earlier) => Some(InvalidPolicy::DoubledPeer { peer: index, earlier, name: name.clone() }),
            None => None,
        };
        let problem = check_address(&peer.webhook).err();
        naming.into_iter().chain(problem.map(|problem| InvalidPolicy::Webhook { peer: index, name, problem }))
    });
    let of_rules = rules.iter().enumerate().flat_map(move |(index, rule)| {
        let known = || std::iter::once(here).chain(peers.iter().map(|peer| &peer.name));
        let region = (!known().any(|name| *name == rule.serve_in)).then(|| InvalidPolicy::UnknownRegion {
            rule: index,
            region: rule.serve_in.clone(),
            known: known().map(Name::as_str).collect::<Vec<_>>().join(", "),
        });
        let share = (!(0.0..=1.0).contains(&rule.share))
            .then_some(InvalidPolicy::Share { rule: index, share: rule.share });
        let tenants = [("tenant", &rule.tenant), ("organizer_tenant", &rule.organizer_tenant)];
        let malformed = tenants.into_iter().flat_map(move |(condition, values)| {
            let not_guids = values.iter().filter(|value| Uuid::try_parse(value).is_err());
            not_guids.map(move |value| InvalidPolicy::Tenant { rule: index, condition, value: value.clone() })
        });
        region.into_iter().chain(share).chain(malformed)
    });
    of_peers.chain(of_rules)
}
