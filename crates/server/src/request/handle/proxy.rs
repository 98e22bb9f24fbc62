//! A callback of another region: to the gateway there, since a callback may not be redirected.

use std::sync::Arc;

use switchboard_delivery::PeerGateways;
use switchboard_routing::OwnerRef;

use crate::{
    gateway::Gateway,
    request::{
        outcome::Outcome,
        reason::Reason,
        received::{Admitted, Received},
        record::Record,
        refusal::Refusal,
        reply::Reply,
    },
};

/// Refuses a callback that cannot be proxied: a peer gateway has proxied it already, or its region is not a
/// peer.
pub(super) fn check(gateway: &Gateway, received: &Received<'_>, owner: OwnerRef<'_>) -> Result<(), Refusal> {
    if PeerGateways::is_forwarded(received.headers()) {
        Err(Refusal::new(Reason::ForwardedAlready))
    } else if !gateway.peer_gateways.has(owner.region.as_str()) {
        Err(Refusal::new(Reason::AnotherRegion))
    } else {
        Ok(())
    }
}

/// Sends the callback to the gateway of its region, which treats it as if it had come from the platform.
pub(super) async fn proxy(
    gateway: &Arc<Gateway>,
    admitted: Admitted,
    owner: OwnerRef<'_>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    record.proxied(&owner.region.to_name());
    let target = admitted.target();
    let outbound = admitted.into_outbound(None);
    let proxied =
        gateway.peer_gateways.proxy(&gateway.connections, &outbound, owner.region.as_str(), target).await;
    let response = proxied.map_err(|error| record.not_proxied(&error))?;
    record.proxy_responded(&response);
    Ok(Reply::Relay { response: Box::new(response), outcome: Outcome::Proxied })
}
