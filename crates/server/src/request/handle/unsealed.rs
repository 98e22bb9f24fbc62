//! Items on the webhook about a call without the gateway's callback URI.

use switchboard_notification::Item;

use super::webhook::WebhookRequest;
use crate::request::{
    act::{Notified, relay_or_act},
    outcome::Outcome,
    plan::{PlannedPart, ended_calls},
    record::Record,
    refusal::Refusal,
    reply::Reply,
};

impl WebhookRequest<'_> {
    /// Forwards the items to the instance that probably owns their call.
    pub(super) async fn unsealed(
        self,
        part: &PlannedPart<'_>,
        items: &[Item<'_>],
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let outbound = self.admitted.outbound(Some(part.call_id.into()), None);
        let forwarded = self.gateway.delivery.forward_unsealed(&self.gateway.connections, &outbound).await;
        let response = forwarded.map_err(|error| record.not_forwarded(&error))?;
        record.responded(&response);
        self.gateway.delivery.calls_ended(response.instance.as_str(), ended_calls(items));
        let notified = Notified::of(self.admitted, items);
        relay_or_act(self.gateway, response, notified, Outcome::Unsealed, record).await
    }
}
