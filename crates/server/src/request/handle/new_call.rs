//! A new call: to the region that it belongs to, then to an instance of this one.

use std::{sync::Arc, time::SystemTime};

use switchboard_delivery::{Outbound, PlaceError, PlacementLimits, UpstreamResponse};
use switchboard_routing::AffinityKey;

use super::webhook::WebhookRequest;
use crate::{
    config::Full,
    gateway::Gateway,
    platform::{OUTCOME_UNKNOWN_MAX, RECORDING_OUTCOME_UNKNOWN_MAX},
    request::{
        act::{NewCall, act, is_action, reject_as_busy},
        outcome::Outcome,
        plan::{NewCallPlan, PlannedPart},
        received::Admitted,
        record::{Attempts, Record},
        refusal::Refusal,
        reply::Reply,
    },
};

impl WebhookRequest<'_> {
    /// Redirects the call to its region, or places it on an instance and does what the instance replies.
    pub(super) async fn new_call(
        self,
        part: &PlannedPart<'_>,
        plan: &NewCallPlan<'_>,
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        record.new_call(plan.call.policy_recording);
        record.decided(plan, &self.gateway.policy);
        if let Some(region) = plan.redirect {
            return self.redirect(region, Outcome::Redirected, record);
        }
        let placement = PlacementRequest::new(self.admitted, part.call_id, plan);
        match placement.place(self.gateway).await {
            (call, Ok(response)) => {
                record.responded(&response);
                if !is_action(&response) {
                    return Ok(Reply::Relay { response: Box::new(response), outcome: Outcome::Placed });
                }
                let shared = act(self.gateway, response, call, record.leader()).await?;
                record.acted(&shared);
                Ok(Reply::Shared(shared))
            }
            (call, Err(error)) => {
                record.attempted(Attempts::of_place_error(&error));
                self.not_placed(&error, call, record).await
            }
        }
    }

    /// Applies `placement.full` to a call that no instance took.
    ///
    /// A call that an instance may still answer is neither redirected nor rejected. A rejection is final, so
    /// it needs a fleet that says that it is full.
    async fn not_placed(
        self,
        error: &PlaceError,
        call: NewCall,
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let gateway = self.gateway;
        let refusal = Refusal::from(error);
        match &gateway.placement.full {
            Full::Refuse => Err(refusal),
            // An instance was sent the call now, or before the platform tried again.
            Full::Overflow(_) | Full::Reject
                if has_unknown_outcome(error) || gateway.delivery.may_be_answered(&call.call_id) =>
            {
                Err(Refusal::outcome_unknown())
            }
            // A fleet that is not known yet may have room: the platform retries after a 503.
            Full::Overflow(region)
                if *error != PlaceError::FleetUnknown
                    && !self.is_redirected
                    && gateway.peers.is_healthy(region) =>
            {
                self.redirect(region, Outcome::Overflowed, record)
            }
            Full::Reject if *error == PlaceError::Full => {
                let shared = reject_as_busy(gateway, call, record.leader(), refusal).await?;
                record.acted(&shared);
                Ok(Reply::Shared(shared))
            }
            Full::Overflow(_) | Full::Reject => Err(refusal),
        }
    }
}

/// Returns true if an instance may have acted on the call.
fn has_unknown_outcome(error: &PlaceError) -> bool {
    match error {
        PlaceError::FleetUnknown
        | PlaceError::Full
        | PlaceError::NoneReachable
        | PlaceError::NoInstance
        | PlaceError::AllDeclined { .. } => false,
        PlaceError::AllFailed { outcome_unknown, .. } => *outcome_unknown > 0,
    }
}

/// A new call on its way to an instance.
pub(super) struct PlacementRequest {
    /// The call, for what is done with it after an instance has responded.
    call: NewCall,
    pub(super) outbound: Outbound,
    key: AffinityKey,
    limits: PlacementLimits,
}

impl PlacementRequest {
    pub(super) fn new(admitted: &Admitted, call_id: &str, plan: &NewCallPlan<'_>) -> Self {
        let since_epoch = admitted.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let deadline_unix_ms = u64::try_from((since_epoch + plan.limit).as_millis()).unwrap_or(u64::MAX);
        let call = NewCall {
            app: admitted.caller.app,
            tenant: admitted.caller.tenant,
            call_id: call_id.into(),
            deadline: admitted.arrived + plan.limit,
            now: admitted.now,
            span: admitted.span(),
        };
        Self {
            outbound: admitted.outbound(Some(call_id.into()), Some(deadline_unix_ms)),
            key: AffinityKey::of(&plan.affinity),
            limits: PlacementLimits {
                budget: plan.budget,
                outcome_unknown_max: if plan.call.policy_recording {
                    RECORDING_OUTCOME_UNKNOWN_MAX
                } else {
                    OUTCOME_UNKNOWN_MAX
                },
            },
            call,
        }
    }

    /// Places the call, and gives it back for what follows.
    pub(super) async fn place(
        self,
        gateway: &Arc<Gateway>,
    ) -> (NewCall, Result<UpstreamResponse, PlaceError>) {
        let placed =
            gateway.delivery.place(&gateway.connections, &self.outbound, self.key, self.limits).await;
        (self.call, placed)
    }
}
