//! Drives a headless Chromium, for tests of pages. It is not for product code, and it runs on Unix only.
//!
//! It speaks the DevTools protocol over a pair of pipes, so it needs no driver, no port and no WebSocket.
//! <https://chromedevtools.github.io/devtools-protocol/> describes the methods.
//!
//! Chromium asks each server for `/favicon.ico`, and a 404 is a problem of the page. A page without an icon
//! says so: `<link rel="icon" href="data:,">`.
//!
//! ```no_run
//! # async fn example(origin: &str) -> Result<(), xtask_browser::BrowserError> {
//! use xtask_browser::{Browser, ColorScheme};
//!
//! let Some(browser) = Browser::start().await? else { return Ok(()) };
//! let page = browser.open(origin).await?;
//! page.resize(400, 800).await?;
//! page.prefer(ColorScheme::Dark).await?;
//! page.fill("#to", "http://127.0.0.1:3978").await?;
//! page.click("#place").await?;
//! page.wait_for("document.querySelectorAll('.step').length > 3").await?;
//! assert_eq!(page.problems(), Vec::<String>::new());
//! browser.close().await
//! # }
//! ```
#![cfg(unix)]

mod browser;
mod connection;
mod error;
mod keys;
mod page;

pub use self::{
    browser::{Browser, PROGRAMS},
    error::BrowserError,
    page::{ColorScheme, Page},
};
