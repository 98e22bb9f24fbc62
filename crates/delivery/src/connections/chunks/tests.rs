//! Bodies in chunks that arrive in pieces of any size.

use proptest::prelude::*;

use super::*;

type BodyAndRest = (Vec<u8>, Vec<u8>);

/// The body, and the bytes that follow it, when `bytes` arrive in pieces of these lengths in turn. `None`
/// without an end.
fn read(bytes: &[u8], pieces: &[usize]) -> Result<Option<BodyAndRest>, Cause> {
    let (mut chunks, mut received, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
    let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
    loop {
        let data = chunks.take(&mut received)?;
        body.extend_from_slice(&data);
        if chunks.is_at_end() {
            received.extend_from_slice(rest);
            return Ok(Some((body, received.to_vec())));
        }
        if data.is_empty() {
            if rest.is_empty() {
                return Ok(None);
            }
            let (piece, left) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
            received.extend_from_slice(piece);
            rest = left;
        }
    }
}

#[track_caller]
fn check(bytes: &str, expected: Result<Option<(&str, &str)>, Cause>) {
    let expected =
        expected.map(|end| end.map(|(body, rest)| (body.as_bytes().to_vec(), rest.as_bytes().to_vec())));
    for piece in [1, 2, 3, 5, 4096] {
        assert_eq!(read(bytes.as_bytes(), &[piece]), expected, "{bytes} in pieces of {piece}");
    }
}

#[test]
fn chunks_are_joined_and_trailers_dropped() {
    check("0\r\n\r\n", Ok(Some(("", ""))));
    check("2\r\nab\r\n1\r\nc\r\n0\r\n\r\nHTTP", Ok(Some(("abc", "HTTP"))));
    check("00A;name=\"value\"\r\n0123456789\r\n000\r\n\r\n", Ok(Some(("0123456789", ""))));
    check("1\r\na\r\n0\r\nAuthorization: Bearer x\r\nB: c\r\n\r\n", Ok(Some(("a", ""))));
}

#[test]
fn a_body_that_breaks_off_has_no_end() {
    for bytes in ["", "2", "2\r\n", "2\r\nab", "2\r\nab\r\n", "0\r\n", "0\r\na: b\r\n"] {
        check(bytes, Ok(None));
    }
}

#[test]
fn bytes_that_are_no_chunks_are_invalid() {
    for bytes in ["x\r\n", "-1\r\n", "\r\n", "2\r\nabc\r\n", "11111111111111111\r\n", "1 1\r\na\r\n"] {
        assert_eq!(read(bytes.as_bytes(), &[4096]), Err(Cause::Closed), "{bytes}");
    }
}

#[test]
fn lines_and_trailers_have_bounds() {
    let extension = format!("1;{}", "a".repeat(LINE_BYTES_MAX));
    assert_eq!(read(extension.as_bytes(), &[100]), Err(Cause::Closed));
    let chunks = format!("1;{}\r\na\r\n", "b".repeat(LINE_BYTES_MAX / 2)).repeat(40);
    assert_eq!(read(chunks.as_bytes(), &[100]), Err(Cause::Closed));
    let trailer = format!("0\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
    assert_eq!(read(trailer.as_bytes(), &[1000]), Err(Cause::Closed));
    let trailers = format!("0\r\n{}", "a: b\r\n".repeat(HEAD_BYTES_MAX));
    assert_eq!(read(trailers.as_bytes(), &[1000]), Err(Cause::Closed));
}

proptest! {
    #[test]
    fn a_body_is_the_same_however_it_is_cut(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        pieces in proptest::collection::vec(1_usize..50, 1..6),
    ) {
        let mut bytes = Vec::new();
        for part in &parts {
            bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\nrest");
        prop_assert_eq!(read(&bytes, &pieces), Ok(Some((parts.concat(), b"rest".to_vec()))));
    }

    #[test]
    fn any_bytes_end_or_are_invalid(
        bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'0')], 0..64),
        pieces in proptest::collection::vec(1_usize..9, 1..4),
    ) {
        if let Ok(Some((body, rest))) = read(&bytes, &pieces) {
            prop_assert!(body.len() + rest.len() < bytes.len());
        }
    }
}
