//! The log of a gateway under test: a test waits for its events, and each line is checked at the end.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use serde_json::Value;
use tokio::sync::watch;

use super::{soon, token};

#[derive(Debug)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<Vec<u8>>>>,
    /// The number of lines, and whether the process may write more.
    grown: watch::Receiver<(usize, bool)>,
    reader: Option<JoinHandle<()>>,
    /// True if some lines are text instead of JSON.
    pub(crate) is_text: bool,
}

impl Log {
    /// Collects the lines of `stderr` until its end.
    pub(crate) fn collect(stderr: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, grown) = watch::channel((0, true));
        let collected = Arc::clone(&lines);
        // A thread: it reads the output of a killed process to its end, even in a destructor.
        let reader = std::thread::spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                collected.lock().unwrap().push(std::mem::take(&mut line));
                sender.send_modify(|(count, _)| *count += 1);
            }
            sender.send_modify(|(_, open)| *open = false);
        });
        Self { lines, grown, reader: Some(reader), is_text: false }
    }

    /// Returns all events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Waits for the first event that fits, which may have been written already.
    #[track_caller]
    pub(crate) fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> impl Future<Output = Value> {
        self.nth(0, what, fits)
    }

    /// Waits for a fitting event, after `before` other fitting events.
    #[track_caller]
    pub(crate) fn nth(
        &self,
        before: usize,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let mut grown = self.grown.clone();
        soon(&format!("the event {what:?}"), async move {
            loop {
                let (_, open) = *grown.borrow_and_update();
                if let Some(event) = self.events().into_iter().filter(&fits).nth(before) {
                    return event;
                }
                assert!(open && grown.changed().await.is_ok(), "the log ended:\n{}", self.text());
            }
        })
    }

    /// Waits for the first event with this message.
    #[track_caller]
    pub(crate) fn message<'a>(&'a self, message: &'a str) -> impl Future<Output = Value> + 'a {
        self.event(message, move |event| event["message"] == message)
    }

    /// Waits until the process has ended and its log is complete.
    pub(crate) async fn ended(&self) {
        let mut grown = self.grown.clone();
        let _ = soon("the end of the process", grown.wait_for(|(_, open)| !open)).await;
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().iter().map(|line| String::from_utf8_lossy(line)).collect()
    }

    /// Joins the reader of a process that has ended.
    pub(crate) fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Checks that each line is one JSON object without control characters and without a part of a token.
    pub(crate) fn check(&self) {
        for line in self.lines.lock().unwrap().iter() {
            let text = std::str::from_utf8(line).expect("the log is UTF-8");
            let text = text.trim_end_matches('\n');
            assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
            assert!(!token::contains_secret(text), "part of a token in {text:?}");
            if self.is_text && text.starts_with("20") {
                continue;
            }
            let event: Value =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"));
            for name in ["time", "level", "target", "message"] {
                assert!(event[name].is_string(), "no {name} in {text}");
            }
            assert_ne!(event["message"], "thread panicked: this is a bug", "{text}");
        }
    }
}
