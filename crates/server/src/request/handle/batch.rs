//! A notification whose items belong to several owners.

use std::sync::Arc;

use http::StatusCode;
use switchboard_delivery::{Outbound, UpstreamResponse};
use switchboard_notification::Notifications;
use tokio::task::JoinSet;

use super::{new_call::PlacementRequest, webhook::WebhookRequest};
use crate::{
    gateway::Gateway,
    request::{
        act::{Notified, act, is_action, start},
        outcome::Outcome,
        plan::{Destination, PlannedPart, ended_calls},
        reason::Reason,
        record::{Attempts, Record},
        refusal::Refusal,
        reply::Reply,
    },
};

/// The result of one part.
#[derive(Default)]
struct PartResult {
    /// True if its owner accepted it.
    accepted: bool,
    /// The response, if it is a 403: of a new call if every instance responded so.
    forbidden: Option<Box<UpstreamResponse>>,
    attempts: Attempts,
}

impl WebhookRequest<'_> {
    /// Sends each owner the same envelope with its items only.
    ///
    /// The batch is accepted if all owners accept. If all respond with 403, it is refused with the last of
    /// these responses, as a single call would be. A part that was accepted may come again with the
    /// platform's retry. No part is redirected, sent to the overflow region or rejected as busy.
    pub(super) async fn batch(
        self,
        notifications: &Notifications<'_>,
        parts: &[PlannedPart<'_>],
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let limits = self.gateway.body_limits();
        let body = |part: &PlannedPart<'_>| {
            limits.make(notifications.subset_bytes(&part.items), || notifications.subset(&part.items))
        };
        // All bodies before the first delivery: without memory for one of them, no part is sent.
        let bodies = parts.iter().map(body).collect::<Result<Vec<_>, Refusal>>()?;
        for part in parts {
            if let Destination::NewCall(plan) = &part.destination {
                record.new_call(plan.call.policy_recording);
            }
        }
        let mut deliveries = JoinSet::new();
        for (part, body) in parts.iter().zip(bodies) {
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
                    let notified = Notified::of_batch(self.admitted);
                    deliveries.spawn(forward(gateway, outbound, ended_calls(items), notified));
                }
            }
        }
        // Wait for every part: an early refusal does not cut off the work of another instance.
        let mut accepted = !parts.is_empty();
        let (mut forbidden, mut forbidden_count) = (None, 0);
        while let Some(part) = deliveries.join_next().await {
            let part = part.unwrap_or_default();
            accepted &= part.accepted;
            record.attempted(part.attempts);
            forbidden_count += usize::from(part.forbidden.is_some());
            forbidden = part.forbidden.or(forbidden);
        }
        match forbidden {
            _ if accepted => Ok(Reply::Accepted { outcome: Outcome::Split }),
            Some(response) if forbidden_count == parts.len() => {
                Ok(Reply::Relay { response, outcome: Outcome::PartFailed })
            }
            Some(_) | None => Err(Refusal::new(Reason::PartFailed)),
        }
    }
}

async fn place(gateway: Arc<Gateway>, placement: PlacementRequest) -> PartResult {
    let (call, placed) = placement.place(&gateway).await;
    let attempts = placed.as_ref().map_or_else(Attempts::of_place_error, Attempts::of_response);
    let mut forbidden = None;
    let accepted = match placed {
        // The response to the batch is not that of a part, so no part takes the leader along.
        Ok(response) if is_action(&response) => {
            act(&gateway, response, call, &mut None).await.is_ok_and(|shared| shared.is_accepted())
        }
        Ok(response) => {
            let accepted = response.status.is_success();
            forbidden = if_forbidden(response);
            accepted
        }
        Err(_) => false,
    };
    PartResult { accepted, forbidden, attempts }
}

async fn forward(
    gateway: Arc<Gateway>,
    outbound: Outbound,
    ended: Vec<Box<str>>,
    notified: Notified,
) -> PartResult {
    let forwarded = gateway.delivery.forward_unsealed(&gateway.connections, &outbound).await;
    if let Ok(response) = &forwarded {
        gateway.delivery.calls_ended(response.instance.as_str(), ended);
    }
    let attempts = forwarded.as_ref().map_or_else(Attempts::of_forward_error, Attempts::of_response);
    match forwarded {
        Ok(response) if response.status == StatusCode::FORBIDDEN => {
            PartResult { accepted: false, forbidden: if_forbidden(response), attempts }
        }
        // A batch cannot act. The instance is notified of that.
        Ok(response) if is_action(&response) => {
            let accepted = start(&gateway, response, notified, None).await.is_ok();
            PartResult { accepted, forbidden: None, attempts }
        }
        Ok(response) => PartResult { accepted: response.status.is_success(), forbidden: None, attempts },
        Err(_) => PartResult { attempts, ..PartResult::default() },
    }
}

fn if_forbidden(response: UpstreamResponse) -> Option<Box<UpstreamResponse>> {
    (response.status == StatusCode::FORBIDDEN).then(|| Box::new(response))
}
