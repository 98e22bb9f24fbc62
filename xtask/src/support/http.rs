//! A minimal HTTP client for requests over loopback.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Sends a GET, and returns the status and the body of the response.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    send(address, "GET", path, "")
}

/// Sends a request with a JSON body, and returns the status and the body of the response.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), String> {
    exchange(address, method, path, "", body, TIME_MAX)
}

/// The same with more header fields, each with its line end, and another limit of the wait for the response.
pub(crate) fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &str,
    body: &str,
    time_max: Duration,
) -> Result<(u16, String), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX).map_err(text)?;
    stream
        .set_read_timeout(Some(time_max))
        .and_then(|()| stream.set_write_timeout(Some(TIME_MAX)))
        .map_err(text)?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response).map_err(text)?;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").ok_or("not an HTTP response")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("not an HTTP status")?;
    Ok((status, body.to_owned()))
}

/// Sends a GET, and returns the JSON document of a 200 response.
pub(crate) fn get_json(address: SocketAddr, path: &str) -> Result<Value, String> {
    let (status, body) = get(address, path)?;
    if status != 200 {
        return Err(format!("http://{address}{path} returned {status}"));
    }
    serde_json::from_str(&body).map_err(|error| format!("http://{address}{path} returned no JSON: {error}"))
}

const TIME_MAX: Duration = Duration::from_secs(2);
const RESPONSE_BYTES_MAX: u64 = 4 << 20;
