//! Exchanges over a connection whose other end is scripted.

use http::{HeaderValue, uri::PathAndQuery};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{
    super::{connector::ByteStream, response_head::HEAD_BYTES_MAX},
    *,
};
use crate::{cause::Cause, headers::RequestHead};

fn request(body: &'static [u8]) -> UpstreamRequest {
    let host = HeaderValue::from_static("bot.example");
    let head = RequestHead::post(&PathAndQuery::from_static("/api/calls"), &host);
    head.with_body(Bytes::from_static(body))
}

/// A connection, and the other end of it, which holds `bytes` at most on the way.
fn connection(bytes: usize) -> (UpstreamConnection, DuplexStream) {
    let (near, far) = duplex(bytes);
    (UpstreamConnection::new(ByteStream::Simulated(near)), far)
}

/// The response to a request whose upstream sends `bytes`, cut into pieces, and closes.
async fn response_to(bytes: &[u8], piece: usize) -> Result<(u16, Result<Bytes, Cause>), SendError> {
    let (connection, mut far) = connection(64 * 1024);
    let bytes = bytes.to_vec();
    tokio::spawn(async move {
        far.read_exact(&mut [0; 16]).await.unwrap();
        for piece in bytes.chunks(piece) {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let response = exchange(connection, request(b"{}"), &AtomicBool::default(), None).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await.map(|body| body.to_bytes())))
}

#[tokio::test]
async fn a_response_may_arrive_in_pieces_of_any_size() {
    let (head, fields) = ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", "Keep-Alive: timeout=5\r\n");
    for (rest, body) in [
        ("Content-Length: 3\r\n\r\nabc", "abc"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n", "abc"),
        ("\r\nuntil the end", "until the end"),
        ("Content-Length: 0\r\n\r\n", ""),
    ] {
        let bytes = format!("{head}{fields}{rest}");
        for piece in [1, 2, 7, 4096] {
            let (status, read) = response_to(bytes.as_bytes(), piece).await.ok().unwrap();
            assert_eq!((status, read.as_deref()), (200, Ok(body.as_bytes())), "{rest} by {piece}");
        }
    }
}

#[tokio::test]
async fn a_response_that_is_cut_off_or_no_http_fails() {
    for (bytes, expected) in [
        ("", Cause::Closed),
        ("HTTP/1.1 200 OK\r\n", Cause::Closed),
        ("HTTP/1.1 100 Continue\r\n\r\n", Cause::Closed),
        ("SSH-2.0\r\n", Cause::BadHead),
        (&format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_BYTES_MAX)), Cause::BadHead),
    ] {
        let sent = response_to(bytes.as_bytes(), 4096).await;
        assert!(matches!(sent, Err(SendError::Sent(cause)) if cause == expected), "{bytes:.40}");
    }
    let cut_off = response_to(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", 4096).await;
    assert_eq!(cut_off.ok().unwrap().1, Err(Cause::Closed));
}

#[tokio::test]
async fn a_request_to_a_closed_connection_is_not_written() {
    let (mut connection, far) = connection(1024);
    drop(far);
    assert!(!connection.is_open());
    let written = AtomicBool::default();
    let sent = exchange(connection, request(b"{}"), &written, None).await;
    assert!(matches!(sent, Err(SendError::Unsent)) && !written.into_inner());
}

#[tokio::test]
async fn a_connection_with_bytes_that_no_request_asked_for_is_not_open() {
    let (mut connection, mut far) = connection(1024);
    assert!(connection.is_open());
    far.write_all(b"H").await.unwrap();
    assert!(!connection.is_open());
}

/// The bytes of the last request may still be on their way when the upstream ends the connection.
#[tokio::test]
async fn a_request_that_could_not_be_written_is_unsent_whatever_arrives() {
    for response in ["", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"] {
        let (mut near, mut far) = duplex(128);
        near.write_all(&[b'x'; 128]).await.unwrap();
        far.write_all(response.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let connection = UpstreamConnection::new(ByteStream::Simulated(near));
        let written = AtomicBool::default();
        let sent = exchange(connection, request(b"{}"), &written, None).await;
        assert!(matches!(sent, Err(SendError::Unsent)) && !written.into_inner(), "{response}");
    }
}

#[tokio::test]
async fn a_connection_holds_no_part_of_a_request_that_was_written() {
    let (mut connection, mut far) = connection(1024);
    far.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let body = Bytes::from(vec![b'x'; 100]);
    let request = UpstreamRequest { body: body.clone(), ..request(b"") };
    let head = connection.send(request.clone(), &AtomicBool::default()).await;
    assert!(head.is_ok() && connection.is_idle());
    let UpstreamRequest { head, body: sent, .. } = request;
    drop(sent);
    assert!(head.is_unique() && body.is_unique());
}

/// A server that refuses a large body responds and closes before it has read it.
#[tokio::test]
async fn a_response_counts_although_the_request_could_not_be_written_whole() {
    let (connection, mut far) = connection(64);
    let sending = tokio::spawn(async move {
        exchange(connection, request(&[b'x'; 4096]), &AtomicBool::default(), None).await
    });
    far.read_exact(&mut [0; 16]).await.unwrap();
    far.write_all(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    drop(far);
    assert_eq!(sending.await.unwrap().ok().unwrap().status(), 413);
}

/// An upstream may still be reading a request that it has accepted.
#[tokio::test]
async fn a_request_is_written_whole_although_its_response_has_arrived() {
    for response in [
        "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let (connection, mut far) = connection(128);
        let request = request(&[b'x'; 4096]);
        let length = request.head.len() + request.body.len();
        let exchanged = tokio::spawn(async move {
            let response = exchange(connection, request, &AtomicBool::default(), None).await.ok().unwrap();
            response.into_body().collect().await.unwrap();
        });
        far.read_exact(&mut [0; 16]).await.unwrap();
        far.write_all(response.as_bytes()).await.unwrap();
        exchanged.await.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len() + 16, length);
    }
}
