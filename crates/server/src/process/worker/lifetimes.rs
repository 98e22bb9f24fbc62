//! The time limits of public connections, in virtual time and over streams in memory.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{
    tests::{sender, slot, worker},
    *,
};

/// Sends a request and returns the head of the response; `None` if the connection is closed.
async fn exchange(client: &mut DuplexStream) -> Option<String> {
    client.write_all(REQUEST).await.ok()?;
    response_head(client).await
}

async fn response_head(client: &mut DuplexStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

const REQUEST: &[u8] = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";

fn is_announced(head: &str) -> bool {
    head.to_ascii_lowercase().contains("connection: close")
}

/// All of these connections are idle when they reach their age, so that closing them would lose the request
/// that each client sends next.
#[tokio::test(start_paused = true)]
async fn a_connection_past_its_age_is_closed_after_the_next_response() {
    let worker = worker();
    let mut clients = Vec::new();
    for id in 0..16 {
        let (mut client, stream) = duplex(4096);
        let served = Arc::clone(&worker);
        let slot = slot(&worker);
        // The connections of unauthenticated senders do not become old.
        slot.authenticate();
        tokio::spawn(async move { served.serve_http(id, stream, slot, sender(), false).await });
        assert!(!is_announced(&exchange(&mut client).await.unwrap()));
        clients.push(client);
    }
    // The connections stay in use, and reach their age of 10 minutes and a tenth more or less.
    let pause = Duration::from_secs(4);
    let mut announced = 0;
    for _ in 0..200 {
        let mut still_open = Vec::new();
        for mut client in clients {
            let head = exchange(&mut client).await.expect("closed without an announcement");
            if is_announced(&head) {
                assert_eq!(client.read_u8().await.ok(), None, "open after the announcement");
                announced += 1;
            } else {
                still_open.push(client);
            }
        }
        clients = still_open;
        // The sweep, in the middle of the idle time.
        tokio::time::sleep(pause / 2).await;
        worker.sweep();
        tokio::time::sleep(pause / 2).await;
    }
    assert_eq!((announced, clients.len()), (16, 0));
}

/// An idle connection gives its buffers back, and loses no byte by that: not even the start of a head that
/// came together with the request before.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_goes_on_after_it_gave_its_buffers_back() {
    let worker = worker();
    let (mut client, stream) = duplex(4096);
    let slot = slot(&worker);
    slot.authenticate();
    let served = Arc::clone(&worker);
    let ended = tokio::spawn(async move { served.serve_http(1, stream, slot, sender(), false).await });
    let (first, rest) = REQUEST.split_at(11);
    assert!(!is_announced(&exchange(&mut client).await.unwrap()));
    for _ in 0..3 {
        idle(&worker).await;
        // The whole next request and the start of another one.
        client.write_all(&[REQUEST, first].concat()).await.unwrap();
        assert!(!is_announced(&response_head(&mut client).await.unwrap()));
        idle(&worker).await;
        client.write_all(rest).await.unwrap();
        assert!(!is_announced(&response_head(&mut client).await.unwrap()));
    }
    idle(&worker).await;
    drop(client);
    ended.await.unwrap();
}

/// Lets the connections be idle for longer than they keep their buffers.
async fn idle(worker: &Worker) {
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        worker.sweep();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
}
