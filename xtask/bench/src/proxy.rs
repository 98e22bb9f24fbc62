//! A proxy that forwards each request and each response as they are, over connections that it keeps.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{
    Response, StatusCode, Uri,
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;

use crate::{access_log::AccessLog, serve::serve};

/// Forwards until the process ends.
pub(crate) async fn run(listen: SocketAddr, to: SocketAddr) -> Result<(), String> {
    let authority: Authority = to.to_string().parse().map_err(|_| format!("{to} is no authority"))?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let log = AccessLog::start();
    serve(listen, move |request| {
        let (client, log, authority) = (client.clone(), log.clone(), authority.clone());
        async move {
            let started = Instant::now();
            let (mut head, body) = request.into_parts();
            let (method, path) = (head.method.clone(), head.uri.path().to_owned());
            let mut parts = std::mem::take(&mut head.uri).into_parts();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = Some(authority);
            head.uri = Uri::from_parts(parts).unwrap_or_default();
            let response = match client.request(http::Request::from_parts(head, body)).await {
                Ok(response) => response.map(BodyExt::boxed),
                Err(_) => {
                    let empty = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
                    let mut response = Response::new(empty);
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    response
                }
            };
            log.add(&method, &path, response.status().as_u16(), started);
            response
        }
    })
    .await
}
