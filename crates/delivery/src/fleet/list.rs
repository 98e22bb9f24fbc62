//! The static list as a source of the fleet: read with the settings, so known from the start.

use switchboard_routing::Name;

use super::Member;
use crate::{instance::Offer, settings::InstanceSettings};

/// The members that the list names. A static instance has no incarnation: nothing tells one life of it from the next.
pub(crate) fn members(instances: Vec<InstanceSettings>) -> Vec<Member> {
    let incarnation = Name::parse("0").expect("a digit is a name");
    instances
        .into_iter()
        .map(|instance| Member {
            name: instance.name,
            incarnation: incarnation.clone(),
            callbacks: instance.callback_url.unwrap_or_else(|| instance.url.clone()),
            new_calls: instance.url,
            apps: instance.apps,
            weight: instance.weight,
            offer: Offer::Ready,
            lingers: true,
        })
        .collect()
}
