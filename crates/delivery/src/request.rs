//! The HTTP request that an upstream receives.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, uri::PathAndQuery};
use http_body_util::Full;

use crate::{
    delivery::Delivery,
    headers::GatewayHeaders,
    instance::{AppParts, Instance},
    origins::Endpoint,
    outbound::Outbound,
};

impl Delivery {
    /// The request to an endpoint of an instance, from a notification with cleaned headers. `incarnation` is
    /// that of the callback URI that the request is about.
    pub(crate) fn request(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        parts: &AppParts,
        path: PathAndQuery,
        incarnation: &HeaderValue,
        notification: Outbound,
    ) -> Request<Full<Bytes>> {
        let Outbound { mut headers, body, tenant, call_id, .. } = notification;
        let added = GatewayHeaders {
            host: &endpoint.host,
            body_bytes: body.len(),
            callback_uri: parts.callback_uri.as_ref(),
            call_id: call_id.as_deref(),
            tenant,
            app_id: &parts.app_id,
            region: &self.region,
            instance: &instance.name_value,
            incarnation,
        };
        added.add_to(&mut headers);
        post(headers, path, body)
    }
}

/// A POST with exactly these headers.
pub(crate) fn post(headers: HeaderMap, path: PathAndQuery, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;
    request
}
