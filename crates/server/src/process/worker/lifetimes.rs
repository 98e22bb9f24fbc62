//! The time limits of public connections, in virtual time and over streams in memory.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{
    tests::{slot, worker},
    *,
};

/// Sends a request and returns the head of the response; `None` if the connection is closed.
async fn exchange(client: &mut DuplexStream) -> Option<String> {
    client.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

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
        tokio::spawn(async move { served.serve_http(id, stream, [127, 0, 0, 1].into(), slot, false).await });
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
