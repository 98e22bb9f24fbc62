//! The connector of the client of Graph, whose errors say what is wrong with a certificate.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use hyper_openssl::client::legacy::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use switchboard_delivery::TlsVerification;
use tokio::net::TcpStream;
use tower_service::Service;
use url::Host;

/// A connector whose error is a [`switchboard_delivery::TlsFailure`] if the TLS handshake failed.
#[derive(Clone)]
pub(super) struct ExplainingConnector(pub(super) HttpsConnector<HttpConnector>);

type Connected = Result<MaybeHttpsStream<TokioIo<TcpStream>>, Box<dyn Error + Send + Sync>>;

impl Service<Uri> for ExplainingConnector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Connected> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let verification = TlsVerification::default();
        let watched = verification.clone();
        self.0.set_callback(move |configuration, uri| {
            configuration.set_use_server_name_indication(false);
            configuration.set_verify_hostname(false);
            watched.verify(configuration, &host(uri))
        });
        let connecting = self.0.call(uri);
        Box::pin(async move {
            connecting.await.map_err(|error| verification.failure(&*error).map_or(error, Into::into))
        })
    }
}

/// The host of a URI. hyper-openssl itself would look for the brackets of an IPv6 literal in a certificate.
fn host(uri: &Uri) -> Host<String> {
    let host = uri.host().unwrap_or_default();
    Host::parse(host).unwrap_or_else(|_| Host::Domain(host.to_owned()))
}
