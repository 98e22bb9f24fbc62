//! The HTTP request that an instance receives.

use http::uri::PathAndQuery;
use switchboard_routing::{Name, NameRef};

use crate::{
    delivery::Delivery,
    headers::{RequestHead, UpstreamRequest},
    instance::AppParts,
    origins::Endpoint,
    outbound::Outbound,
    trace::{TracedUpstream, UpstreamTrace},
};

impl Delivery {
    /// The request to an endpoint of an instance. `incarnation` is that of the callback URI that the request
    /// is about, and `add` adds the fields of its kind.
    pub(crate) fn request(
        &self,
        (endpoint, target, instance): (&Endpoint, &PathAndQuery, &Name),
        parts: &AppParts,
        incarnation: NameRef<'_>,
        notification: &Outbound,
        add: impl FnOnce(&mut RequestHead),
    ) -> UpstreamRequest {
        let Outbound { headers, body, tenant, call_id, trace, .. } = notification;
        let mut head = RequestHead::post(target, &endpoint.host);
        let span = trace.as_ref().map(|trace| trace.span());
        head.add_received(headers, self.settings.authorization, span);
        head.add_instance(&parts.fields);
        head.add_call(call_id.as_deref(), *tenant);
        head.add_incarnation(incarnation);
        add(&mut head);
        let mut request = head.with_body(body.clone());
        if trace.is_some() {
            request.trace = UpstreamTrace::of(trace.as_ref(), TracedUpstream::Instance(instance.clone()));
        }
        request
    }
}
