//! The HTTP request that an instance receives.

use http::uri::PathAndQuery;
use switchboard_routing::NameRef;

use crate::{
    delivery::Delivery,
    headers::{RequestHead, UpstreamRequest},
    instance::AppParts,
    origins::Endpoint,
    outbound::Outbound,
};

impl Delivery {
    /// The request to an endpoint of an instance. `incarnation` is that of the callback URI that the request
    /// is about, and `add` adds the fields of its kind.
    pub(crate) fn request(
        &self,
        (endpoint, target): (&Endpoint, &PathAndQuery),
        parts: &AppParts,
        incarnation: NameRef<'_>,
        notification: &Outbound,
        add: impl FnOnce(&mut RequestHead),
    ) -> UpstreamRequest {
        let Outbound { headers, body, tenant, call_id, .. } = notification;
        let mut head = RequestHead::post(target, &endpoint.host);
        head.add_received(headers, self.settings.authorization);
        head.add_instance(&parts.fields);
        head.add_call(call_id.as_deref(), *tenant);
        head.add_incarnation(incarnation);
        add(&mut head);
        head.with_body(body.clone())
    }
}
