//! One page: scripts, clicks, keys, and what the page looks like.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{connection::Connection, error::BrowserError, keys};

/// A page in a [`Browser`](crate::Browser).
///
/// A selector is one of CSS and must match exactly one element. Methods with a selector wait until it does.
#[derive(Debug)]
pub struct Page {
    connection: Arc<Connection>,
    session: String,
}

/// The colours that the user prefers, for `prefers-color-scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorScheme {
    /// Dark text on a light ground.
    Light,
    /// Light text on a dark ground.
    Dark,
}

impl Page {
    pub(crate) async fn create(connection: Arc<Connection>) -> Result<Self, BrowserError> {
        let text = |value: &Value, name: &str| {
            let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| BrowserError(format!("Chromium sent no {name}")))
        };
        let target = connection.call(None, "Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": text(&target, "targetId")?, "flatten": true });
        let attached = connection.call(None, "Target.attachToTarget", attach).await?;
        let page = Self { connection, session: text(&attached, "sessionId")? };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, json!({})).await?;
        }
        Ok(page)
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value, BrowserError> {
        self.connection.call(Some(&self.session), method, parameters).await
    }

    /// Goes to `url` and waits until the document has loaded.
    pub async fn navigate(&self, url: &str) -> Result<(), BrowserError> {
        let navigated = self.call("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = navigated.get("errorText").and_then(Value::as_str) {
            return Err(BrowserError(format!("cannot load {url}: {error}")));
        }
        self.wait_for("document.readyState === 'complete'").await
    }

    /// Evaluates JavaScript. Awaits the result if it is a promise, and returns it as JSON.
    pub async fn evaluate(&self, script: &str) -> Result<Value, BrowserError> {
        let parameters = json!({
            "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let mut evaluated = self.call("Runtime.evaluate", parameters).await?;
        if let Some(details) = evaluated.get("exceptionDetails") {
            let text = details.pointer("/exception/description").or_else(|| details.get("text"));
            let text = text.and_then(Value::as_str).unwrap_or("no description");
            return Err(BrowserError(format!("`{script}` throws: {text}")));
        }
        Ok(evaluated.pointer_mut("/result/value").map(Value::take).unwrap_or_default())
    }

    /// Waits until a JavaScript expression is true for JavaScript, and fails after a minute.
    pub async fn wait_for(&self, condition: &str) -> Result<(), BrowserError> {
        let script = format!("Boolean({condition})");
        let deadline = Instant::now() + WAIT_TIME_MAX;
        loop {
            // A navigation may end the evaluation, so an error is final at the deadline only.
            let evaluated = self.evaluate(&script).await;
            if evaluated.as_ref().is_ok_and(|value| value == true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let reason = evaluated.map_or_else(|error| format!(": {error}"), |_| String::new());
                let problems = self.problems().join("\n");
                return Err(BrowserError(format!("`{condition}` did not become true{reason}\n{problems}")));
            }
            sleep(POLL).await;
        }
    }

    /// The visible text of an element.
    pub async fn text(&self, selector: &str) -> Result<String, BrowserError> {
        self.of_element(selector, "element => ({ value: element.innerText })")
            .await
            .map(|text| text.as_str().unwrap_or_default().to_owned())
    }

    /// Clicks the centre of an element with the mouse, once it is visible, enabled and not covered.
    pub async fn click(&self, selector: &str) -> Result<(), BrowserError> {
        let point = self.of_element(selector, CENTRE).await?;
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let event = json!({
                "type": kind, "x": point.get("x"), "y": point.get("y"), "button": button,
                "buttons": buttons, "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", event).await?;
        }
        Ok(())
    }

    /// Replaces the text of an input or a text area, as a user who pastes it.
    pub async fn fill(&self, selector: &str, text: &str) -> Result<(), BrowserError> {
        self.of_element(selector, "element => { element.focus(); element.select(); return { value: 0 }; }")
            .await?;
        match text {
            "" => self.press("Delete").await,
            _ => self.call("Input.insertText", json!({ "text": text })).await.map(|_| ()),
        }
    }

    /// Chooses the option with this value of a `<select>`.
    pub async fn choose(&self, selector: &str, value: &str) -> Result<(), BrowserError> {
        let choose = format!(
            "element => {{
                const value = {};
                if (![...element.options].some(option => option.value === value && !option.disabled)) {{
                    return {{ problem: 'has no option ' + value }};
                }}
                element.value = value;
                for (const name of ['input', 'change']) {{
                    element.dispatchEvent(new Event(name, {{ bubbles: true }}));
                }}
                return {{ value: 0 }};
            }}",
            json!(value)
        );
        self.of_element(selector, &choose).await.map(|_| ())
    }

    /// Types text, key by key, into the element that has the focus.
    pub async fn type_text(&self, text: &str) -> Result<(), BrowserError> {
        for character in text.chars() {
            match character {
                '\n' => self.press("Enter").await?,
                _ => self.press(character.encode_utf8(&mut [0; 4])).await?,
            }
        }
        Ok(())
    }

    /// Presses and releases a key, such as `a`, `Enter`, `Shift+Tab` or `Control+a`.
    pub async fn press(&self, key: &str) -> Result<(), BrowserError> {
        for event in keys::events(key)? {
            self.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// Sets the size of the viewport in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) -> Result<(), BrowserError> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await.map(|_| ())
    }

    /// Sets what `prefers-color-scheme` matches.
    pub async fn prefer(&self, scheme: ColorScheme) -> Result<(), BrowserError> {
        let value = match scheme {
            ColorScheme::Light => "light",
            ColorScheme::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", features).await.map(|_| ())
    }

    /// The picture of the viewport, as PNG.
    pub async fn screenshot(&self) -> Result<Vec<u8>, BrowserError> {
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" })).await?;
        let data = taken.get("data").and_then(Value::as_str).unwrap_or_default();
        BASE64_STANDARD.decode(data).map_err(|error| BrowserError(format!("no base64: {error}")))
    }

    /// The bytes of the live JavaScript objects, after a garbage collection.
    pub async fn heap_bytes(&self) -> Result<u64, BrowserError> {
        self.call("HeapProfiler.collectGarbage", json!({})).await?;
        let usage = self.call("Runtime.getHeapUsage", json!({})).await?;
        let used = usage.get("usedSize").and_then(Value::as_u64);
        used.ok_or_else(|| BrowserError("Chromium sent no usedSize".to_owned()))
    }

    /// Everything that went wrong in the page until now: exceptions, errors on the console, requests that
    /// failed, violations of the content security policy. Dialogs are accepted, and listed too.
    pub fn problems(&self) -> Vec<String> {
        self.connection.problems(&self.session)
    }

    /// Applies a JavaScript function to the element, until it returns `{value}` rather than `{problem}`.
    async fn of_element(&self, selector: &str, function: &str) -> Result<Value, BrowserError> {
        let script = format!(
            "(() => {{
                const found = document.querySelectorAll({});
                return found.length === 1 ? ({function})(found[0])
                    : {{ problem: 'matches ' + found.length + ' elements' }};
            }})()",
            json!(selector)
        );
        let deadline = Instant::now() + WAIT_TIME_MAX;
        loop {
            let mut found = self.evaluate(&script).await?;
            if let Some(value) = found.get_mut("value") {
                return Ok(value.take());
            }
            if Instant::now() >= deadline {
                let problem = found.get("problem").and_then(Value::as_str).unwrap_or("has no result");
                return Err(BrowserError(format!("`{selector}` {problem}\n{}", self.problems().join("\n"))));
            }
            sleep(POLL).await;
        }
    }
}

/// The point of an element that a click would reach.
const CENTRE: &str = "element => {
    element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
    const box = element.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const top = document.elementFromPoint(x, y);
    if (box.width === 0 || box.height === 0) return { problem: 'is not visible' };
    if (element.matches(':disabled')) return { problem: 'is disabled' };
    if (!element.contains(top) && top?.closest('label')?.control !== element) {
        return { problem: 'is covered by ' + (top?.outerHTML.slice(0, 100) ?? 'nothing') };
    }
    return { value: { x, y } };
}";

const POLL: Duration = Duration::from_millis(20);
/// Long, since the machine of a test may be loaded.
const WAIT_TIME_MAX: Duration = Duration::from_secs(60);
