//! A server that reads each request and responds with a status and no body.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use tokio::time::Instant;

use crate::{access_log::AccessLog, serve::serve};

/// Responds until the process ends.
pub(crate) async fn run(listen: SocketAddr, status: u16) -> Result<(), String> {
    let status = StatusCode::from_u16(status).map_err(|error| error.to_string())?;
    let log = AccessLog::start();
    serve(listen, move |request| {
        let log = log.clone();
        async move {
            let started = Instant::now();
            let (head, body) = request.into_parts();
            // A body that breaks off ends the connection.
            let _ = body.collect().await;
            log.add(&head.method, head.uri.path(), status.as_u16(), started);
            let empty = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
            let mut response = Response::new(empty);
            *response.status_mut() = status;
            response
        }
    })
    .await
}
