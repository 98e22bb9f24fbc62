//! What can be wrong with the settings of a policy.

use uuid::Uuid;

use super::{peer::Peer, rule::Rule};
use crate::{
    endpoint::{InvalidUrl, check_address},
    name::Name,
};

/// Why a policy cannot be built. Rules and peers are counted from 0, as `path` writes them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A rule names a region that is neither here nor a peer.
    #[error("rule {rule} names the unknown region {region}; known are {known}")]
    UnknownRegion {
        /// The rule's index.
        rule: usize,
        /// The region.
        region: Name,
        /// Those that there are.
        known: String,
    },
    /// A rule takes less than nothing, more than all, or no number.
    #[error("rule {rule} takes a share of {share}; write a number from 0 to 1")]
    Share {
        /// The rule's index.
        rule: usize,
        /// As it was given.
        share: f64,
    },
    /// A rule asks for a tenant that no token can have.
    #[error("rule {rule} has the {condition} {value:?}, which is not a GUID; write the tenant's id")]
    NotATenant {
        /// The rule's index.
        rule: usize,
        /// `tenant` or `organizer_tenant`.
        condition: &'static str,
        /// As it was given.
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
    /// A peer has the name of an earlier one.
    #[error("peer {peer} is named {name}, as peer {earlier} is; list each region once")]
    DoubledPeer {
        /// The peer's index.
        peer: usize,
        /// That of the first with this name.
        earlier: usize,
        /// The name.
        name: Name,
    },
    /// The platform may not be sent to a peer's webhook.
    #[error("the webhook of peer {peer} ({name}) {fault}")]
    Webhook {
        /// The peer's index.
        peer: usize,
        /// Its name.
        name: Name,
        /// What is wrong with the URL.
        fault: InvalidUrl,
    },
}

impl InvalidPolicy {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownRegion { .. } => "unknown_region",
            Self::Share { .. } => "share",
            Self::NotATenant { .. } => "not_a_tenant",
            Self::PeerIsHere { .. } => "peer_is_here",
            Self::DoubledPeer { .. } => "doubled_peer",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// The setting, like `rule[2].serve_in` or `peer[0].webhook`.
    pub fn path(&self) -> String {
        match self {
            Self::UnknownRegion { rule, .. } => format!("rule[{rule}].serve_in"),
            Self::Share { rule, .. } => format!("rule[{rule}].share"),
            Self::NotATenant { rule, condition, .. } => format!("rule[{rule}].{condition}"),
            Self::PeerIsHere { peer, .. } | Self::DoubledPeer { peer, .. } => format!("peer[{peer}].name"),
            Self::Webhook { peer, .. } => format!("peer[{peer}].webhook"),
        }
    }
}

/// Peers first, then rules.
pub(super) fn problems(here: &Name, peers: &[Peer], rules: &[Rule]) -> impl Iterator<Item = InvalidPolicy> {
    let of_peers = peers.iter().enumerate().flat_map(|(index, peer)| {
        let name = peer.name.clone();
        let earlier = peers.iter().take(index).position(|earlier| earlier.name == name);
        let naming = match earlier {
            _ if name == *here => Some(InvalidPolicy::PeerIsHere { peer: index, name: name.clone() }),
            Some(earlier) => Some(InvalidPolicy::DoubledPeer { peer: index, earlier, name: name.clone() }),
            None => None,
        };
        let fault = check_address(&peer.webhook).err();
        naming.into_iter().chain(fault.map(|fault| InvalidPolicy::Webhook { peer: index, name, fault }))
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
        let strangers = tenants.into_iter().flat_map(move |(condition, values)| {
            let strange = values.iter().filter(|value| Uuid::try_parse(value).is_err());
            strange.map(move |value| InvalidPolicy::NotATenant {
                rule: index,
                condition,
                value: value.clone(),
            })
        });
        region.into_iter().chain(share).chain(strangers)
    });
    of_peers.chain(of_rules)
}
