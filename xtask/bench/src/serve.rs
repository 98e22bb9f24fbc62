//! Accepts connections and serves HTTP/1.1 on them with hyper.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A response with any body.
pub(crate) type Reply = Response<BoxBody<Bytes, hyper::Error>>;

/// Serves until the process ends.
pub(crate) async fn serve<H, F>(listen: SocketAddr, handle: H) -> Result<(), String>
where
    H: Fn(Request<Incoming>) -> F + Clone + 'static,
    F: Future<Output = Reply> + 'static,
{
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("cannot bind {listen}: {error}"))?;
    let tasks = tokio::task::LocalSet::new();
    tasks
        .run_until(async {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let handle = handle.clone();
                tokio::task::spawn_local(async move {
                    let service = service_fn(move |request| {
                        let response = handle(request);
                        async move { Ok::<_, Infallible>(response.await) }
                    });
                    // A connection that fails ends; the generator reports it.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })
        .await
}
