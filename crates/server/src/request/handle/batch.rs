//! A notification whose items belong to several owners.

use std::sync::Arc;

use bytes::Bytes;
use switchboard_delivery::Outbound;
use switchboard_notification::Notifications;
use tokio::task::JoinSet;

use super::{new_call::PlacementRequest, webhook::WebhookRequest};
use crate::{
    gateway::Gateway,
    request::{
        act::{act, is_action, without_action},
        outcome::Outcome,
        plan::{Destination, PlannedPart, ended_calls},
        reason::Reason,
        record::{Attempts, Record},
        refusal::Refusal,
        reply::Reply,
    },
};

/// The result of one part: whether its owner accepted it, and the attempts that were made.
type PartResult = (bool, Attempts);

impl WebhookRequest<'_> {
    /// Sends each owner the same envelope with its items only.
    ///
    /// The batch is accepted if all owners accept. A part that was accepted may come again with the
    /// platform's retry. No part is redirected, sent to the overflow region or rejected as busy.
    pub(super) async fn batch(
        self,
        notifications: &Notifications<'_>,
        parts: &[PlannedPart<'_>],
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let mut deliveries = JoinSet::new();
        for part in parts {
            let body = Bytes::from(notifications.subset(&part.items));
            let gateway = Arc::clone(self.gateway);
            match &part.destination {
                Destination::NewCall(call) => {
                    let mut placement = PlacementRequest::new(self.admitted, part.call_id, call);
                    placement.outbound.body = body;
                    deliveries.spawn(place(gateway, placement));
                }
                Destination::ProbableOwner(_) => {
                    let mut outbound = self.admitted.outbound(Some(part.call_id.into()), None);
                    outbound.body = body;
                    let items = part.items.iter().filter_map(|item| notifications.items.get(*item));
                    deliveries.spawn(forward(gateway, outbound, ended_calls(items)));
                }
            }
        }
        // Wait for every part: an early refusal does not cut off the work of another instance.
        let mut accepted = !parts.is_empty();
        while let Some(part) = deliveries.join_next().await {
            let (part_accepted, attempts) = part.unwrap_or_default();
            accepted &= part_accepted;
            record.attempted(attempts);
        }
        if accepted {
            Ok(Reply::Accepted { outcome: Outcome::Split })
        } else {
            Err(Refusal::new(Reason::PartFailed))
        }
    }
}

async fn place(gateway: Arc<Gateway>, placement: PlacementRequest) -> PartResult {
    let (call, placed) = placement.place(&gateway).await;
    let attempts = placed.as_ref().map_or_else(Attempts::of_place_error, Attempts::of_response);
    let accepted = match placed {
        // The response to the batch is not that of a part, so no part takes the leader along.
        Ok(response) if is_action(&response) => {
            act(&gateway, response, call, &mut None).await.is_ok_and(|shared| shared.is_accepted())
        }
        Ok(response) => response.status.is_success(),
        Err(_) => false,
    };
    (accepted, attempts)
}

async fn forward(gateway: Arc<Gateway>, outbound: Outbound, ended: Vec<Box<str>>) -> PartResult {
    let forwarded = gateway.delivery.forward_unsealed(&gateway.connections, outbound).await;
    if let Ok(response) = &forwarded {
        gateway.delivery.calls_ended(response.instance.as_str(), ended);
    }
    let attempts = forwarded.as_ref().map_or_else(Attempts::of_forward_error, Attempts::of_response);
    let accepted =
        forwarded.is_ok_and(|response| without_action(&gateway, response, Outcome::Split).is_accepted());
    (accepted, attempts)
}
