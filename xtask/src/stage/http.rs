//! One request over loopback: all the HTTP that the demo and the rehearsal speak themselves.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// The status and the body of a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    send(address, "GET", path, "")
}

/// The status and the body of a request with a JSON body.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX).map_err(text)?;
    stream
        .set_read_timeout(Some(TIME_MAX))
        .and_then(|()| stream.set_write_timeout(Some(TIME_MAX)))
        .map_err(text)?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(text)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("not an HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("not an HTTP status")?;
    Ok((status, body.to_owned()))
}

/// The JSON document of a GET that is answered with 200.
pub(crate) fn get_json(address: SocketAddr, path: &str) -> Result<Value, String> {
    let (status, body) = get(address, path)?;
    if status != 200 {
        return Err(format!("http://{address}{path} answered {status}"));
    }
    serde_json::from_str(&body).map_err(|error| format!("http://{address}{path} is not JSON: {error}"))
}

const TIME_MAX: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 4 << 20;
