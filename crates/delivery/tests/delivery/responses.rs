//! Responses: the relayed fields, and the ends of a body.

use switchboard_delivery::{Connections, Delivery};

use crate::{setup::*, upstream::*};

async fn response_to(act: Act) -> (ScriptedInstance, Delivery, switchboard_delivery::UpstreamResponse) {
    let upstream = ScriptedInstance::always(act.clone());
    let mut settings = settings([upstream.address]);
    if matches!(act, Act::SendAndStall(_)) {
        settings.patience = SHORT;
    }
    let delivery = delivery(settings);
    let response = forward(&delivery, &Connections::default(), "bot-0").await.unwrap();
    (upstream, delivery, response)
}

/// Checks the body of a relayed response.
async fn check(act: Act, expected: Result<&str, &'static str>) {
    let shown = format!("{act:.100?}");
    let (_upstream, delivery, response) = response_to(act).await;
    assert_eq!(status(&delivery, "bot-0").in_flight, 1);
    assert_eq!(text(response).await.as_deref().map_err(|label| *label), expected, "{shown}");
    assert_eq!(status(&delivery, "bot-0").in_flight, 0);
}

#[tokio::test]
async fn five_fields_are_relayed_and_nothing_else() {
    let fields = "Content-Type: application/json\r\nContent-Encoding: gzip\r\nRetry-After: 2\r\n\
                  Client-Request-Id: r\r\nScenario-Id: s\r\nServer: Kestrel\r\nSet-Cookie: a=b\r\n\
                  Location: http://10.0.0.1/\r\nSwitchboard-Instance: bot-9\r\n";
    let (_upstream, _delivery, response) = response_to(Act::body(200, fields, "{}")).await;
    let mut relayed: Vec<String> =
        response.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    relayed.sort();
    assert_eq!(
        relayed,
        [
            "client-request-id: r",
            "content-encoding: gzip",
            "content-type: application/json",
            "retry-after: 2",
            "scenario-id: s"
        ]
    );
    assert_eq!(text(response).await.as_deref(), Ok("{}"));
}

/// Relayed as a field, a wrong length would make the sender wait for bytes that never arrive, or treat the
/// next response as them.
#[tokio::test]
async fn the_length_is_the_length_of_the_body_whatever_the_instance_announces() {
    use hyper::body::Body;
    for (act, length) in [
        (Act::raw("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"), Some(0)),
        (
            Act::raw(
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nok\r\n0\r\n\r\n",
            ),
            None,
        ),
        (Act::raw("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"), Some(2)),
    ] {
        let (_upstream, _delivery, response) = response_to(act).await;
        assert_eq!(response.headers.get("content-length"), None);
        assert_eq!(response.body.size_hint().exact(), length);
    }
}

#[tokio::test]
async fn a_body_is_relayed_whole() {
    check(Act::status(202), Ok("")).await;
    check(Act::body(200, "", "accepted"), Ok("accepted")).await;
    check(Act::SendAndClose(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()), Ok("until the end")).await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    check(Act::raw(chunked), Ok("abc")).await;
    let large = "x".repeat(1024 * 1024);
    check(Act::body(200, "", &large), Ok(&large)).await;
}

#[tokio::test]
async fn interim_responses_and_trailers_are_dropped() {
    check(
        Act::raw(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        Ok("ok"),
    )
    .await;
    let trailers = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n\
                    2\r\nok\r\n0\r\nAuthorization: Bearer x\r\n\r\n";
    check(Act::raw(trailers), Ok("ok")).await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_an_error() {
    check(Act::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal".to_vec()), Err("cut_off"))
        .await;
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal".to_vec();
    check(Act::SendAndClose(chunked), Err("cut_off")).await;
    let garbage = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n";
    check(Act::raw(garbage), Err("cut_off")).await;
}

#[tokio::test]
async fn an_endless_body_is_an_error() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend([b'x'; 0x10000]);
    chunk.extend(b"\r\n");
    check(Act::Flood(head, chunk), Err("too_large")).await;
}

#[tokio::test]
async fn a_body_that_stalls_is_an_error() {
    check(Act::SendAndStall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal".to_vec()), Err("too_slow"))
        .await;
}
