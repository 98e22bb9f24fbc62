//! An authenticated Graph notification on the webhook, and its plan.

use std::sync::Arc;

use switchboard_notification::Notifications;
use switchboard_routing::Name;
use uuid::Uuid;

use crate::{
    gateway::Gateway,
    request::{
        outcome::Outcome,
        plan::{Knowledge, Plan, PlanContext},
        reason::Reason,
        received::{Admitted, caller_region},
        record::Record,
        refusal::Refusal,
        reply::Reply,
    },
};

/// An authenticated Graph notification on the webhook.
#[derive(Clone, Copy)]
pub(super) struct WebhookRequest<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) admitted: &'a Admitted,
    /// The app that the path names, which a redirect keeps.
    pub(super) app_in_path: Option<Uuid>,
    /// Another region redirected the request to this one.
    pub(super) is_redirected: bool,
}

impl<'a> WebhookRequest<'a> {
    /// Plans the notification with what this gateway knows at the moment.
    pub(super) fn plan(&self, notifications: &'a Notifications<'a>) -> Plan<'a> {
        let gateway = self.gateway;
        let app = self.admitted.caller.app;
        let knowledge = Knowledge {
            is_healthy: &|region| gateway.peers.is_healthy(region),
            probable_owner: &|call_id| gateway.delivery.probable_owner(call_id, app),
        };
        self.context().plan(notifications, knowledge)
    }

    /// The response that sends the platform to another region.
    pub(super) fn redirect(
        &self,
        region: &Name,
        outcome: Outcome,
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let redirection = self.context().redirection(region);
        let redirection = redirection.ok_or_else(|| Refusal::new(Reason::NoSuchRegion))?;
        record.redirected(region);
        Ok(Reply::Redirect { redirection, outcome })
    }

    fn context(&self) -> PlanContext<'a> {
        PlanContext {
            policy: &self.gateway.policy,
            placement: &self.gateway.placement,
            redirect_status: self.gateway.redirect_status,
            tenant: self.admitted.caller.tenant,
            app_in_path: self.app_in_path,
            caller_region: caller_region(&self.admitted.headers),
            is_redirected: self.is_redirected,
        }
    }
}
