//! A page in Chromium that tells when it shows a change.

use tokio::runtime::{Builder, Runtime};
use xtask_browser::{Browser, BrowserError, Page};

/// An open page of a gateway.
pub(super) struct OpenPage {
    /// Runs only while a method waits for Chromium.
    runtime: Runtime,
    browser: Browser,
    page: Page,
}

impl OpenPage {
    /// Opens a page and waits until it has data. `None` if Chromium is not installed.
    pub(super) fn open(url: &str) -> Result<Option<Self>, String> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
        let opened = runtime.block_on(async {
            let Some(browser) = Browser::start().await? else { return Ok(None) };
            let page = browser.open(url).await?;
            page.resize(1500, 1000).await?;
            page.wait_for("document.body.dataset.feed === 'live' && overview").await?;
            Ok(Some((browser, page)))
        });
        let opened = opened.map_err(|error: BrowserError| error.to_string())?;
        Ok(opened.map(|(browser, page)| Self { runtime, browser, page }))
    }

    /// Starts to watch for a JavaScript expression to become true.
    ///
    /// # Errors
    ///
    /// It is true already.
    pub(super) fn watch(&self, condition: &str) -> Result<(), String> {
        let script = WATCH.replace("CONDITION", condition);
        self.runtime.block_on(self.page.evaluate(&script)).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Waits until the watched expression is true in the page, and returns the time of the next frame, in
    /// Unix milliseconds.
    pub(super) fn shown_ms(&self) -> Result<u64, String> {
        let shown = self.runtime.block_on(self.page.evaluate("window.shown"));
        let shown = shown.map_err(|error| format!("the page does not show a change: {error}"))?;
        shown.as_u64().ok_or_else(|| format!("the page returned {shown} instead of a time"))
    }

    /// The bytes of the live JavaScript objects, after a garbage collection.
    pub(super) fn heap_bytes(&self) -> Result<u64, String> {
        self.runtime.block_on(self.page.heap_bytes()).map_err(|error| error.to_string())
    }

    /// All errors of the page until now.
    pub(super) fn problems(&self) -> Vec<String> {
        self.page.problems()
    }

    /// Closes Chromium.
    pub(super) fn close(self) -> Result<(), String> {
        self.runtime.block_on(self.browser.close()).map_err(|error| error.to_string())
    }
}

/// The page reads its clock itself: the way of a response to this process does not count.
const WATCH: &str = "(() => {
    const holds = () => CONDITION;
    if (holds()) throw new Error('the page shows it already');
    window.shown = new Promise(resolve => {
        const observer = new MutationObserver(() => {
            if (!holds()) return;
            observer.disconnect();
            // The next frame has the change; the task after it runs once the frame is made.
            requestAnimationFrame(() => setTimeout(() => resolve(Date.now())));
        });
        observer.observe(document.body,
            { subtree: true, childList: true, characterData: true, attributes: true });
    });
})()";
