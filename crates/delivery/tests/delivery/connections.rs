//! Connections: kept, used again, shared by threads and closed.

use std::{
    sync::{Arc, Barrier},
    time::Duration,
};

use switchboard_delivery::{Connections, Delivery, UpstreamUrl};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::{setup::*, upstream::*};

async fn ask(delivery: &Delivery, connections: &Connections) -> u16 {
    let response = forward(delivery, connections, "bot-0").await.unwrap();
    let status = response.status.as_u16();
    text(response).await.unwrap();
    // The driver of the connection runs in its own task, which has to see the end of the response.
    round_trips().await;
    status
}

/// Lets other tasks process their network events.
async fn round_trips() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..3 {
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        connected.unwrap();
        accepted.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    for act in [
        Act::status(202),
        Act::body(200, "Keep-Alive: timeout=60\r\n", "accepted"),
        Act::raw(
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\n\r\n",
        ),
        Act::body(500, "Keep-Alive: timeout=60\r\n", "sorry"),
    ] {
        let upstream = ScriptedInstance::always(act);
        let delivery = delivery(settings([upstream.address]));
        let connections = Connections::default();
        for _ in 0..5 {
            ask(&delivery, &connections).await;
        }
        assert_eq!((upstream.accepted(), upstream.seen().len()), (1, 5));
    }
}

#[tokio::test]
async fn new_calls_and_callbacks_share_their_connections() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    place(&delivery, &connections, LONG).await.unwrap();
    round_trips().await;
    ask(&delivery, &connections).await;
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_instance_closed_is_no_error() {
    let silently = Act::SendAndClose(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec());
    let announced = Act::SendAndClose(
        b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
    );
    let reset = Act::SendAndReset(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec());
    for act in [silently, announced, reset] {
        let upstream = ScriptedInstance::always(act);
        let delivery = delivery(settings([upstream.address]));
        let connections = Connections::default();
        for _ in 0..3 {
            assert_eq!(ask(&delivery, &connections).await, 202);
        }
        assert_eq!((upstream.accepted(), upstream.seen().len()), (3, 3));
        assert_eq!(status(&delivery, "bot-0").counts.failures, []);
    }
}

#[tokio::test]
async fn a_connection_that_the_instance_is_about_to_close_is_not_used_again() {
    let upstream = ScriptedInstance::always(Act::body(200, "Keep-Alive: timeout=1\r\n", ""));
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    ask(&delivery, &connections).await;
    ask(&delivery, &connections).await;
    assert_eq!(upstream.accepted(), 2);
}

/// Lets time pass for idle connections.
async fn idle(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_connection_idles_for_a_moment_or_as_long_as_the_instance_says() {
    for (fields, seconds, connections_made) in
        [("", 2, 2), ("Keep-Alive: timeout=30\r\n", 20, 1), ("Keep-Alive: timeout=30\r\n", 29, 2)]
    {
        let upstream = ScriptedInstance::always(Act::body(200, fields, ""));
        let delivery = delivery(settings([upstream.address]));
        let connections = Connections::default();
        ask(&delivery, &connections).await;
        idle(seconds).await;
        ask(&delivery, &connections).await;
        assert_eq!(upstream.accepted(), connections_made, "{fields} {seconds}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_without_a_request() {
    let upstream = ScriptedInstance::always(Act::raw("HTTP/1.1 202 X\r\nContent-Length: 0\r\n\r\n"));
    let delivery = delivery(settings([upstream.address]));
    let connections = Arc::new(Connections::default());
    let _running = tokio::task::JoinSet::from_iter([Arc::clone(&connections).run()]);
    let responses = tokio::join!(
        forward(&delivery, &connections, "bot-0"),
        forward(&delivery, &connections, "bot-0"),
        forward(&delivery, &connections, "bot-0"),
    );
    drop((responses.0.unwrap(), responses.1.unwrap(), responses.2.unwrap()));
    assert_eq!((connections.idle(), upstream.closed()), (3, 0));
    until("the idle connections are closed", || upstream.closed() == 3).await;
    assert_eq!(connections.idle(), 0);
}

#[tokio::test]
async fn a_connection_whose_response_was_dropped_is_not_used_again() {
    let upstream = ScriptedInstance::always(Act::SendAndStall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal".to_vec(),
    ));
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    for _ in 0..2 {
        drop(forward(&delivery, &connections, "bot-0").await.unwrap());
        round_trips().await;
    }
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn requests_at_the_same_time_have_a_connection_each() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    let (one, two) =
        tokio::join!(forward(&delivery, &connections, "bot-0"), forward(&delivery, &connections, "bot-0"));
    assert_eq!((one.unwrap().status.as_u16(), two.unwrap().status.as_u16()), (202, 202));
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn a_hundred_requests_at_a_time_use_their_connections_again() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = Arc::new(delivery(settings([upstream.address])));
    let connections = Arc::new(Connections::default());
    let mut made = Vec::new();
    for _ in 0..2 {
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (delivery, connections) = (Arc::clone(&delivery), Arc::clone(&connections));
            requests.spawn(async move { forward(&delivery, &connections, "bot-0").await.unwrap().status });
        }
        assert!(requests.join_all().await.iter().all(|status| *status == 202));
        round_trips().await;
        made.push(upstream.accepted());
    }
    assert_eq!(made[0], made[1]);
}

/// Sends a callback from each of `count` threads in turn, twice. Each thread has its own runtime, as workers
/// have.
pub(crate) async fn ask_from_threads(delivery: Arc<Delivery>, connections: Arc<Connections>, count: usize) {
    let turn = Arc::new(Barrier::new(count));
    let threads: Vec<_> = (0..count)
        .map(|nth| {
            let (delivery, connections, turn) =
                (Arc::clone(&delivery), Arc::clone(&connections), Arc::clone(&turn));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                for at in 0..2 * count {
                    if at % count == nth {
                        let (delivery, connections) = (Arc::clone(&delivery), Arc::clone(&connections));
                        let asked = runtime.spawn(async move { ask(&delivery, &connections).await });
                        assert_eq!(runtime.block_on(asked).unwrap(), 202);
                    }
                    turn.wait();
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap()))
        .await
        .unwrap();
}

#[tokio::test]
async fn all_threads_use_the_same_connections() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = Arc::new(delivery(settings([upstream.address])));
    ask_from_threads(delivery, Arc::default(), 16).await;
    // One, unless a busy machine delays the thread that reads the end of a response.
    assert_eq!(upstream.seen().len(), 32);
    assert!(upstream.accepted() <= 4, "{} connections", upstream.accepted());
}

#[tokio::test]
async fn a_connection_ends_with_the_runtime_that_made_it() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = Arc::new(delivery(settings([upstream.address])));
    let connections = Arc::new(Connections::default());
    ask_from_threads(Arc::clone(&delivery), Arc::clone(&connections), 1).await;
    assert_eq!(ask(&delivery, &connections).await, 202);
    until("the connection is closed", || upstream.closed() == 1).await;
    assert_eq!((upstream.accepted(), upstream.seen().len()), (2, 3));
    assert_eq!(status(&delivery, "bot-0").counts.failures, []);
}

#[tokio::test]
async fn idle_connections_have_a_bound() {
    let (one, two) = (ScriptedInstance::always(Act::status(202)), ScriptedInstance::always(Act::status(202)));
    let delivery = delivery(settings([one.address, two.address]));
    let connections = Connections::new(2);
    for _ in 0..2 {
        let (first, second, third) = tokio::join!(
            forward(&delivery, &connections, "bot-0"),
            forward(&delivery, &connections, "bot-0"),
            forward(&delivery, &connections, "bot-0"),
        );
        drop((first.unwrap(), second.unwrap(), third.unwrap()));
        round_trips().await;
        assert_eq!(connections.idle(), 2);
    }
    assert_eq!(one.accepted(), 4);
    until("the connections beyond the bound are closed", || one.closed() == 2).await;
    // Another instance still gets its requests, over a connection for each.
    for _ in 0..2 {
        forward(&delivery, &connections, "bot-1").await.unwrap();
        round_trips().await;
    }
    assert_eq!((two.accepted(), connections.idle()), (2, 2));
    // The connections of an instance that leaves are no longer counted.
    let after = delivery.successor(settings([two.address]), uris(), tls());
    forward(&after, &connections, "bot-0").await.unwrap();
    round_trips().await;
    assert_eq!((two.accepted(), connections.idle()), (3, 1));
}

#[tokio::test]
async fn a_reload_keeps_health_counters_and_connections() {
    let (one, two) = (ScriptedInstance::always(Act::status(202)), ScriptedInstance::always(Act::status(202)));
    let before = delivery(settings([one.address]));
    let connections = Connections::default();
    ask(&before, &connections).await;
    before.drain("bot-0");

    let mut changed = settings([one.address, two.address]);
    changed.instances[0].weight = 3;
    let after = before.successor(changed, uris(), tls());
    ask(&after, &connections).await;
    assert_eq!(one.accepted(), 1);
    assert_eq!(status(&after, "bot-0").counts.callbacks, 2);
    assert_eq!(status(&after, "bot-0").reason, "drained by the operator");

    // A request that started before the reload neither uses nor drops the connections of later requests.
    ask(&before, &connections).await;
    assert_eq!(one.accepted(), 2);
    ask(&after, &connections).await;
    assert_eq!(one.accepted(), 2);

    // At another address it is another instance.
    let moved = after.successor(settings([two.address]), uris(), tls());
    assert_eq!(status(&moved, "bot-0").counts.callbacks, 0);
    assert_eq!(ask(&moved, &connections).await, 202);
    assert_eq!((one.seen().len(), two.seen().len()), (4, 1));
}

#[tokio::test]
async fn a_host_name_in_the_hosts_file_is_resolved() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let mut settings = settings([upstream.address]);
    let port = upstream.address.port();
    settings.instances[0].url = UpstreamUrl::parse(&format!("http://localhost:{port}/x")).unwrap();
    let delivery = Arc::new(delivery(settings));
    tokio::spawn(Arc::clone(&delivery).run());
    assert_eq!(ask(&delivery, &Connections::default()).await, 202);
    assert_eq!(upstream.only().field("host"), Some(&*format!("localhost:{port}")));
}

/// Bytes after a response belong to no request: the next request would treat them as its response.
#[tokio::test]
async fn a_connection_with_bytes_after_the_response_is_not_used_again() {
    let twice = "HTTP/1.1 500 Sorry\r\nKeep-Alive: timeout=60\r\nContent-Length: 0\r\n\r\n\
                 HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    let upstream = ScriptedInstance::always(Act::raw(twice));
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    for _ in 0..3 {
        assert_eq!(ask(&delivery, &connections).await, 500);
    }
    assert_eq!((upstream.accepted(), upstream.seen().len()), (3, 3));
}

/// The instance responds before it has read the request, and closes the connection.
#[tokio::test]
async fn a_response_sent_before_the_request_is_read_is_relayed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let delivery = delivery(settings([listener.local_addr().unwrap()]));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream
                .write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
            // Until the whole request was sent, or the sender gave up.
            while tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096])
                .await
                .is_ok_and(|bytes| bytes > 0)
            {}
        }
    });
    let mut large = outbound();
    large.body = vec![b' '; 1024 * 1024].into();
    let response = delivery.forward(&Connections::default(), &large, owner("bot-0").as_ref()).await.unwrap();
    assert_eq!(response.status, 413);
    assert_eq!(text(response).await.as_deref(), Ok("no"));
}
