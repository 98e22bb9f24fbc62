//! Floods of HTTP/2 frames (RFC 9113 section 10.5), over streams in memory. Each is cut by the number of its
//! frames, however fast they arrive: no timer of the gateway runs.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::tests::{slot, worker};

/// Returns a frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends frames until the gateway closes the connection. Returns the number of frames that were sent, and
/// what the gateway has written.
async fn flood(start: &[u8], frames: impl Fn(u32) -> Vec<u8>) -> (u32, Vec<u8>) {
    let worker = worker();
    let (client, stream) = duplex(BUFFER_BYTES);
    let slot = slot(&worker);
    let served =
        tokio::spawn(async move { worker.serve_http(1, stream, [192, 0, 2, 1].into(), slot, true).await });
    let (mut read, mut write) = tokio::io::split(client);
    // A client that does not read makes the gateway wait, which costs it nothing.
    let received = tokio::spawn(async move {
        let mut bytes = Vec::new();
        let _ = read.read_to_end(&mut bytes).await;
        bytes
    });
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat();
    write.write_all(&preface).await.unwrap();
    write.write_all(start).await.unwrap();
    let mut sent = 0;
    while write.write_all(&frames(sent)).await.is_ok() {
        sent += 1;
        assert!(sent < 10_000_000, "not cut");
    }
    served.await.unwrap();
    drop(write);
    (sent, received.await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_cut_by_the_number_of_its_frames() {
    // :method POST, :scheme https, :path /, :authority h
    let head: &[u8] = &[0x83, 0x87, 0x84, 0x01, 1, b'h'];
    let open = frame(HEADERS, 0x4, 1, head);
    let stream = |number: u32| number * 2 + 1;
    let bytes_max = usize::try_from(BODY_BYTES + CONTROL_BYTES).unwrap() + 2 * BUFFER_BYTES;
    let of_bytes = |frame_bytes: usize| u32::try_from(bytes_max / frame_bytes).unwrap();
    let reset = |number| {
        [frame(HEADERS, 0x4, stream(number), head), frame(RST_STREAM, 0, stream(number), &[0, 0, 0, 8])]
            .concat()
    };
    let nothing: &[u8] = &[];
    let headers_without_end = frame(HEADERS, 0, 1, head);
    // The name, the first bytes, the frames that follow, and the most of them.
    type Frames<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;
    let rows: [(&str, &[u8], Frames<'_>, u32); 10] = [
        ("pings", nothing, Box::new(|_| frame(PING, 0, 0, &[0; 8])), of_bytes(17)),
        ("answers to pings", nothing, Box::new(|_| frame(PING, 1, 0, &[0; 8])), of_bytes(17)),
        ("settings", nothing, Box::new(|_| frame(SETTINGS, 0, 0, &[])), of_bytes(9)),
        ("window updates", nothing, Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])), of_bytes(13)),
        ("priorities", nothing, Box::new(|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])), of_bytes(14)),
        ("unknown frames", nothing, Box::new(|_| frame(0x77, 0, 0, &[])), of_bytes(9)),
        ("empty data", &open, Box::new(|_| frame(DATA, 0, 1, &[])), of_bytes(9)),
        ("empty continuations", &headers_without_end, Box::new(|_| frame(CONTINUATION, 0, 1, &[])), 4000),
        ("rapid resets", nothing, Box::new(reset), 4000),
        // The first one is refused with 404, which ends the connection. What follows is discarded.
        ("requests", nothing, Box::new(|n| frame(HEADERS, 0x4, stream(n), head)), of_bytes(15) + LINGER / 15),
    ];
    for (what, start, frames, frames_max) in rows {
        let (sent, received) = flood(start, frames).await;
        assert!(sent <= frames_max, "{what}: cut after {sent} frames, not {frames_max}");
        // The gateway's answers do not multiply the flood.
        assert!(received.len() <= 2 * bytes_max, "{what}: {} bytes in return", received.len());
    }
}

/// `limits.body` of the minimal configuration, and what HTTP/2 may send besides.
const BODY_BYTES: u64 = 1 << 20;
const CONTROL_BYTES: u64 = 64 * 1024;
/// The bytes that the gateway discards after it has closed its side.
const LINGER: u32 = 8 << 20;
const BUFFER_BYTES: usize = 16 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
