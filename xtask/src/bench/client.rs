//! A client with kept-alive connections that sends one request on each of them and then reads the responses.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::traffic::{Mode, Traffic};

/// The open connections.
pub(super) struct Client(Vec<BufReader<TcpStream>>);

impl Client {
    /// Opens `count` connections.
    pub(super) fn connect(address: SocketAddr, count: usize) -> Result<Self, String> {
        let connect = || -> std::io::Result<_> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIME_MAX))?;
            Ok(BufReader::new(stream))
        };
        let connections: Result<Vec<_>, _> = (0..count).map(|_| connect()).collect();
        connections.map(Self).map_err(|error| format!("cannot connect to {address}: {error}"))
    }

    /// Sends `count` requests, in rounds of one on each connection. Each response must have the mode's
    /// status.
    pub(super) fn send(&mut self, traffic: &mut Traffic, mode: Mode, count: usize) -> Result<(), String> {
        for _ in 0..count / self.0.len() {
            for connection in &mut self.0 {
                let sent = connection.get_mut().write_all(&traffic.request(mode));
                sent.map_err(|error| format!("{}: cannot send a request: {error}", mode.name()))?;
            }
            for connection in &mut self.0 {
                match status(connection) {
                    Ok(status) if status == mode.status() => {}
                    Ok(status) => {
                        return Err(format!("{}: {status} instead of {}", mode.name(), mode.status()));
                    }
                    Err(error) => return Err(format!("{}: no response: {error}", mode.name())),
                }
            }
        }
        Ok(())
    }
}

/// Reads a response, and returns its status.
fn status(connection: &mut BufReader<TcpStream>) -> std::io::Result<u16> {
    let invalid = || std::io::Error::other("not an HTTP response");
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| invalid())?;
        }
    }
    connection.read_exact(&mut vec![0; length])?;
    Ok(status)
}

/// Long, since a gateway under valgrind on a busy machine is slow.
const TIME_MAX: Duration = Duration::from_secs(30);
