//! Keeps connections open, each of which has sent one request.

use std::{
    io::{self, Read as _, Write as _},
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;

use crate::{
    connector::Connector,
    requests::{Requests, exchange},
    target::Target,
};

/// Opens the connections one after the other, some 1,000 a second, prints their number, and waits for the end
/// of the input.
pub(crate) async fn run(target: &Target) -> Result<(), String> {
    let requests = Requests::read(target)?;
    let connector = Connector::new(target.to, target.tls)?;
    let mut connections = Vec::with_capacity(target.connections);
    let (mut request, mut buffer) = (Vec::new(), Vec::new());
    for number in 0..target.connections {
        let mut stream = connector.connect().await?;
        requests.write(number, &mut request);
        exchange(&mut stream, &request, &mut buffer).await?;
        connections.push(stream);
        if number % 100 == 99 {
            sleep(PAUSE).await;
        }
    }
    writeln!(io::stdout(), "{}", json!({ "connections": connections.len() }))
        .map_err(|error| error.to_string())?;
    // Nothing arrives on the connections, so this thread may block.
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ()).map_err(|error| error.to_string())
}

/// After 100 connections. Connections that fill up at once would need memory for requests at the same time.
const PAUSE: Duration = Duration::from_millis(100);
