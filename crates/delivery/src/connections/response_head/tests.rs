//! Heads as a table, and what must hold for any bytes.

use proptest::prelude::*;

use super::*;

/// Status, length and idle time of a complete head.
type Expected = Result<(u16, BodyLength, Option<IdleTime>), Cause>;

#[track_caller]
fn check(head: &str, expected: Expected) {
    let parsed = ResponseHead::parse(head.as_bytes()).map(|parsed| {
        let (head_parsed, bytes) = parsed.expect("a complete head");
        assert_eq!(bytes, head.len());
        (head_parsed.status.as_u16(), head_parsed.length, head_parsed.idle)
    });
    assert_eq!(parsed, expected, "{head}");
}

const DEFAULT: Option<IdleTime> = Some(IdleTime::Default);

#[test]
fn the_length_of_a_body_is_that_of_rfc_9112_section_6_3() {
    let exact = |status, bytes| Ok((status, BodyLength::Exact(bytes), DEFAULT));
    check("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", exact(202, 0));
    check("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n", exact(200, 12));
    check("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\n", exact(200, 2));
    check("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", exact(204, 0));
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", exact(304, 0));
    check("HTTP/1.1 100 Continue\r\n\r\n", exact(100, 0));
    let chunked = Ok((200, BodyLength::Chunked, DEFAULT));
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked);
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n", chunked);
    let until_close = Ok((200, BodyLength::UntilClose, None));
    check("HTTP/1.1 200 OK\r\n\r\n", until_close);
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\n", until_close);
    check("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", until_close);
}

#[test]
fn a_length_that_is_not_one_number_is_invalid() {
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 2\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 1,\r\n",
        "Content-Length: 18446744073709551616\r\n",
    ] {
        check(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), Err(Cause::BadHead));
    }
    check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Cause::BadHead));
}

#[test]
fn a_connection_ends_after_a_response_whose_end_is_in_doubt() {
    let check = |head: &str, status, length| check(head, Ok((status, length, None)));
    check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101, BodyLength::Exact(0));
    check("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, BodyLength::Exact(0));
    for status in [204, 304] {
        let head = format!("HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\n\r\n");
        check(&head, status, BodyLength::Exact(0));
    }
    let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n";
    check(both, 200, BodyLength::Chunked);
}

#[test]
fn a_connection_idles_no_longer_than_the_instance_keeps_it() {
    let idle = |fields: &str, idle: Option<IdleTime>| {
        check(
            &format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n"),
            Ok((200, BodyLength::Exact(0), idle)),
        );
    };
    let seconds = |seconds| Some(IdleTime::Of(Duration::from_secs(seconds)));
    idle("", DEFAULT);
    idle("Connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n", seconds(4));
    idle("Keep-Alive: max=100, timeout=15\r\n", seconds(14));
    idle("Keep-Alive: timeout=1\r\n", seconds(0));
    idle("Keep-Alive: timeout=0\r\n", seconds(0));
    idle("Keep-Alive: timeout=86400\r\n", seconds(60));
    idle("Keep-Alive: timeout=99999999999999999999999\r\n", DEFAULT);
    idle("Keep-Alive: timeout=-1\r\n", DEFAULT);
    idle("Keep-Alive: garbage\r\n", DEFAULT);
    idle("Connection: close\r\n", None);
    idle("Connection: keep-alive\r\nConnection: x, CLOSE\r\n", None);
    let http_1_0 = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n";
    check(&format!("{http_1_0}\r\n"), Ok((200, BodyLength::Exact(0), None)));
    check(&format!("{http_1_0}Connection: keep-alive\r\n\r\n"), Ok((200, BodyLength::Exact(0), DEFAULT)));
}

#[test]
fn after_a_success_only_the_relayed_fields_are_kept() {
    let fields = "Date: x\r\nServer: y\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n";
    let names = |status: &str| {
        let head = format!("HTTP/1.1 {status}\r\n{fields}");
        let (head, _) = ResponseHead::parse(head.as_bytes()).unwrap().unwrap();
        head.headers.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("200 OK"), ["content-type"]);
    assert_eq!(names("429 Too Many Requests"), ["date", "server", "content-type", "content-length"]);
}

#[test]
fn a_head_has_bounds() {
    let with_fields = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(ResponseHead::parse(with_fields(FIELDS_MAX).as_bytes()).is_ok_and(|head| head.is_some()));
    check(&with_fields(FIELDS_MAX + 1), Err(Cause::BadHead));
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
    check(&long, Err(Cause::BadHead));
    check(&format!("{long}\r\n\r\n"), Err(Cause::BadHead));
}

#[test]
fn bytes_that_are_no_http_are_invalid() {
    for bytes in ["ICY 200 OK\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "\0", "HTTP/1.1 20 OK\r\n\r\n", "<html>"] {
        check(bytes, Err(Cause::BadHead));
    }
    check("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", Err(Cause::BadHead));
    check("HTTP/1.1 200 OK\r\na : c\r\n\r\n", Err(Cause::BadHead));
    check("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", Err(Cause::BadHead));
}

proptest! {
    /// A head is never longer than the bytes, and more bytes do not change it.
    #[test]
    fn any_bytes_are_a_head_a_part_of_one_or_invalid(
        start in "(HTTP/1.1 200 OK\r\n|HTTP/1.0 204 \r\nConnection: )?",
        rest in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b':'), Just(b','), Just(b'1')], 0..64),
    ) {
        let bytes = [start.as_bytes(), &rest, b"\r\n\r\n"].concat();
        if let Ok(Some((head, length))) = ResponseHead::parse(&bytes) {
            prop_assert!(length <= bytes.len());
            let more = [&bytes[..], b"more"].concat();
            let (again, again_length) = ResponseHead::parse(&more).unwrap().unwrap();
            prop_assert_eq!((head.status, head.length, length), (again.status, again.length, again_length));
        }
    }
}
