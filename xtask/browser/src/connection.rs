//! The DevTools protocol over pipes: JSON messages that end with a zero byte.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::{Mutex as AsyncMutex, oneshot},
    time::timeout,
};

use crate::error::BrowserError;

/// The two pipes of one Chromium.
#[derive(Debug)]
pub(crate) struct Connection {
    input: AsyncMutex<ChildStdin>,
    last_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The calls without a response, by id; `None` once the pipe has closed.
    waiting: Option<HashMap<u64, oneshot::Sender<Value>>>,
    /// The problems of each page, by its session.
    problems: HashMap<String, Vec<String>>,
}

impl Connection {
    /// Reads `output` in a task of its own, until Chromium ends.
    pub(crate) fn new(input: ChildStdin, output: ChildStdout) -> Arc<Self> {
        let state = State { waiting: Some(HashMap::new()), problems: HashMap::new() };
        let connection = Arc::new(Self {
            input: AsyncMutex::new(input),
            last_id: AtomicU64::new(0),
            state: Mutex::new(state),
        });
        tokio::spawn(Arc::clone(&connection).read(output));
        connection
    }

    /// Calls a method of the browser, or of a page, and returns the result.
    pub(crate) async fn call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value, BrowserError> {
        let ended = || BrowserError(format!("Chromium ended before it responded to {method}"));
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let (sender, response) = oneshot::channel();
        self.state().waiting.as_mut().ok_or_else(ended)?.insert(id, sender);
        self.send(id, session, method, parameters).await.map_err(|_| ended())?;
        let mut message = timeout(RESPONSE_TIME_MAX, response)
            .await
            .map_err(|_| BrowserError(format!("Chromium did not respond to {method}")))?
            .map_err(|_| ended())?;
        match message.get("error") {
            Some(error) => Err(BrowserError(format!("{method} failed: {error}"))),
            None => Ok(message.get_mut("result").map(Value::take).unwrap_or_default()),
        }
    }

    async fn send(
        &self,
        id: u64,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> std::io::Result<()> {
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let (Some(session), Some(members)) = (session, message.as_object_mut()) {
            members.insert("sessionId".to_owned(), session.into());
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let mut input = self.input.lock().await;
        input.write_all(&bytes).await?;
        input.flush().await
    }

    async fn read(self: Arc<Self>, output: ChildStdout) {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while output.read_until(0, &mut bytes).await.is_ok_and(|length| length > 0) {
            let message = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
            if let Ok(message) = serde_json::from_slice(message) {
                self.receive(message).await;
            }
            bytes.clear();
        }
        // Dropping the senders ends every call that waits.
        self.state().waiting = None;
    }

    async fn receive(&self, message: Value) {
        if let Some(id) = message.get("id").and_then(Value::as_u64) {
            let sender = self.state().waiting.as_mut().and_then(|waiting| waiting.remove(&id));
            if let Some(sender) = sender {
                let _ = sender.send(message);
            }
            return;
        }
        let session = message.get("sessionId").and_then(Value::as_str).unwrap_or_default();
        if let Some(problem) = problem(&message) {
            self.state().problems.entry(session.to_owned()).or_default().push(problem);
        }
        // An open dialog stops the page, and every call to it.
        if message.get("method").is_some_and(|method| method == DIALOG) {
            let id = self.last_id.fetch_add(1, Relaxed) + 1;
            let accept = json!({ "accept": true });
            let _ = self.send(id, Some(session), "Page.handleJavaScriptDialog", accept).await;
        }
    }

    /// The problems of a page until now.
    pub(crate) fn problems(&self, session: &str) -> Vec<String> {
        self.state().problems.get(session).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The problem that an event reports: an exception, an error on the console, a failed request, a violation of
/// the content security policy, or a dialog.
fn problem(event: &Value) -> Option<String> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    match event.get("method")?.as_str()? {
        "Runtime.exceptionThrown" => {
            let text = text("/params/exceptionDetails/exception/description")
                .or_else(|| text("/params/exceptionDetails/text"))?;
            Some(format!("exception: {text}"))
        }
        "Runtime.consoleAPICalled" if matches!(text("/params/type")?, "error" | "assert") => {
            let shown = |value: &Value| {
                let text = value.get("value").or_else(|| value.get("description"));
                text.map_or_else(String::new, |text| {
                    text.as_str().map_or_else(|| text.to_string(), str::to_owned)
                })
            };
            let arguments = event.pointer("/params/args")?.as_array()?;
            Some(format!("console: {}", arguments.iter().map(shown).collect::<Vec<_>>().join(" ")))
        }
        "Log.entryAdded" if text("/params/entry/level")? == "error" => {
            let url = text("/params/entry/url").unwrap_or_default();
            Some(format!("{} {url}", text("/params/entry/text")?).trim_end().to_owned())
        }
        DIALOG => Some(format!("dialog: {}", text("/params/message")?)),
        _ => None,
    }
}

const DIALOG: &str = "Page.javascriptDialogOpening";
/// Chromium responds within milliseconds, but the machine may be loaded and a script may wait for the page.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(60);
