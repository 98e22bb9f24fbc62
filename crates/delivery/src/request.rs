//! The HTTP request that an instance receives.

use http::{HeaderValue, uri::PathAndQuery};

use crate::{
    delivery::Delivery,
    headers::{GatewayHeaders, RequestHead, UpstreamRequest},
    instance::{AppParts, Instance},
    origins::Endpoint,
    outbound::Outbound,
};

impl Delivery {
    /// The request to an endpoint of an instance. `incarnation` is that of the callback URI that the request
    /// is about, and `add` adds the fields of its kind.
    pub(crate) fn request(
        &self,
        instance: &Instance,
        (endpoint, target): (&Endpoint, &PathAndQuery),
        parts: &AppParts,
        incarnation: &HeaderValue,
        notification: &Outbound,
        add: impl FnOnce(&mut RequestHead),
    ) -> UpstreamRequest {
        let Outbound { headers, body, tenant, call_id, .. } = notification;
        let mut head = RequestHead::post(target, &endpoint.host, body.len());
        head.add_received(headers, self.settings.authorization);
        let added = GatewayHeaders {
            callback_uri: parts.callback_uri.as_ref(),
            call_id: call_id.as_deref(),
            tenant: *tenant,
            app_id: &parts.app_id,
            region: &self.region,
            instance: &instance.name_value,
            incarnation,
        };
        added.add_to(&mut head);
        add(&mut head);
        head.with_body(body.clone())
    }
}
