//! An operator's page that is open during a measurement: a reader of the stream of the overview.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::support::{instant, pause};

/// The open stream. It ends when this is dropped.
pub(super) struct Page {
    stream: TcpStream,
    /// The events `overview` so far: one with the state, then one for each second in which something changed.
    overviews: Arc<AtomicUsize>,
}

impl Page {
    /// Opens the stream as `page.js` does, and waits for the state of the gateway.
    pub(super) fn open(admin: SocketAddr) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("cannot open the stream of the page: {error}");
        let mut stream = TcpStream::connect(admin).map_err(text)?;
        let request = format!(
            "GET /events?topics=overview HTTP/1.1\r\nHost: {admin}\r\nAccept: text/event-stream\r\n\
             Cache-Control: no-cache\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(text)?;
        let overviews = Arc::new(AtomicUsize::new(0));
        let (lines, seen) = (BufReader::new(stream.try_clone().map_err(text)?), Arc::clone(&overviews));
        thread::spawn(move || {
            // It ends with the stream.
            for line in lines.lines().map_while(Result::ok) {
                if line == "event: overview" {
                    seen.fetch_add(1, Relaxed);
                }
            }
        });
        let page = Self { stream, overviews };
        let opened = instant();
        while page.overviews() == 0 {
            if opened.elapsed() > TIME_MAX {
                return Err("the page got no overview".to_owned());
            }
            pause(POLL);
        }
        Ok(page)
    }

    /// The number of events `overview` that the page has read.
    pub(super) fn overviews(&self) -> usize {
        self.overviews.load(Relaxed)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The connection may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Long, since a gateway under valgrind on a busy machine is slow.
const TIME_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
