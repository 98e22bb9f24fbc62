//! An instance with https.

use std::pin::Pin;

use openssl::ssl::{NameType, Ssl};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
};
use tokio_openssl::SslStream;

use super::{
    http::{Kind, Message},
    tls::Identity,
};

/// The server names of TLS handshakes, and the requests after them.
pub(crate) type SeenRequests = mpsc::UnboundedReceiver<(Option<String>, Message)>;

/// An https instance at an address whose certificate is for `localhost`. Sends the server name of the TLS
/// handshake and each request that it receives.
pub(crate) fn https_instance(identity: &Identity) -> (u16, SeenRequests, JoinSet<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = TcpListener::from_std(listener).unwrap();
    let (sender, requests) = mpsc::unbounded_channel();
    let (acceptor, mut server) = (identity.acceptor(), JoinSet::new());
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (sender, ssl) = (sender.clone(), Ssl::new(acceptor.context()).unwrap());
            connections.spawn(async move {
                let mut stream = SslStream::new(ssl, stream).unwrap();
                if Pin::new(&mut stream).accept().await.is_err() {
                    return;
                }
                let name = stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned);
                let mut stream = BufReader::new(stream);
                while let Ok(Some(request)) = Message::read(&mut stream, Kind::Request).await {
                    let _ = sender.send((name.clone(), request));
                    let response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(response).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    (port, requests, server)
}
