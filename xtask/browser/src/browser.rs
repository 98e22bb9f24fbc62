//! The process of Chromium: its program, its start and its end.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{connection::Connection, error::BrowserError, page::Page};

/// A running Chromium with a profile of its own. Dropping it kills the process and removes the profile.
#[derive(Debug)]
pub struct Browser {
    connection: Arc<Connection>,
    child: Child,
    /// Removed after the process has ended: fields are dropped in this order.
    profile: TempDir,
}

impl Browser {
    /// Starts Chromium. `None` if none is installed: the test is skipped, and stderr has a line about it.
    ///
    /// With `CI=true` in the environment, a missing Chromium is an error.
    pub async fn start() -> Result<Option<Self>, BrowserError> {
        let Some(program) = program(env::var_os("PATH").as_deref()) else {
            let is_ci = env::var_os("CI").is_some_and(|value| value == "true");
            let line = missing(is_ci)?;
            // Test runners capture what the macros print, but not this.
            let _ = writeln!(io::stderr(), "{line}");
            return Ok(None);
        };
        Self::launch(&program).await.map(Some)
    }

    async fn launch(program: &Path) -> Result<Self, BrowserError> {
        let cannot = |error: io::Error| BrowserError(format!("cannot start {}: {error}", program.display()));
        let profile = tempfile::Builder::new().prefix("switchboard-browser-").tempdir().map_err(cannot)?;
        let log = profile.path().join("stderr.log");
        let mut child = Command::new("sh")
            .args(["-c", LAUNCH, "sh"])
            .arg(program)
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(cannot)?)
            // A group of its own, so that `drop` reaches the helper processes too.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BrowserError("Chromium has no pipes".to_owned()));
        };
        let browser = Self { connection: Connection::new(input, output), child, profile };
        match browser.prepare().await {
            Ok(()) => Ok(browser),
            Err(error) => {
                let log = fs::read_to_string(log).unwrap_or_default();
                Err(BrowserError(format!("{} did not start: {error}\n{log}", program.display())))
            }
        }
    }

    async fn prepare(&self) -> Result<(), BrowserError> {
        let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        self.connection.call(None, "Browser.grantPermissions", permissions).await?;
        let downloads = json!({ "behavior": "allow", "downloadPath": self.downloads() });
        self.connection.call(None, "Browser.setDownloadBehavior", downloads).await?;
        Ok(())
    }

    /// Opens a page of its own, and waits until it has loaded.
    pub async fn open(&self, url: &str) -> Result<Page, BrowserError> {
        let page = Page::create(Arc::clone(&self.connection)).await?;
        page.navigate(url).await?;
        Ok(page)
    }

    /// The folder that receives the files that pages download. It is created with the first file.
    pub fn downloads(&self) -> PathBuf {
        self.profile.path().join("downloads")
    }

    /// Closes Chromium and waits until its process has ended.
    pub async fn close(mut self) -> Result<(), BrowserError> {
        // The end of the process may be faster than its response.
        let _ = self.connection.call(None, "Browser.close", json!({})).await;
        match timeout(CLOSE_TIME_MAX, self.child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(BrowserError(format!("cannot wait for Chromium: {error}"))),
            Err(_) => Err(BrowserError("Chromium did not close".to_owned())),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without an id the process has been waited for, and the id may be another's.
        let Some(id) = self.child.id() else { return };
        let mut kill = std::process::Command::new("sh");
        let _ = kill.args(["-c", "kill -s KILL -- \"-$1\"", "sh", &id.to_string()]).status();
    }
}

/// The first installed Chromium in the folders of `path`.
fn program(path: Option<&OsStr>) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = env::split_paths(path?).collect();
    let places = PROGRAMS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

/// The line about a skipped test, or the error in continuous integration.
fn missing(is_ci: bool) -> Result<&'static str, BrowserError> {
    match is_ci {
        true => {
            Err(BrowserError("Chromium is not installed, and CI=true; run ./install-packages".to_owned()))
        }
        false => Ok("skipped: Chromium is not installed; run ./install-packages"),
    }
}

/// The names of Chromium's program. The first that is installed is started. Debian packages `chromium`;
/// Ubuntu has it as a snap only, and GitHub's machines with Ubuntu have Chrome.
pub const PROGRAMS: [&str; 3] = ["chromium", "google-chrome", "google-chrome-stable"];

/// Moves the pipes to the descriptors 3 and 4, where Chromium expects them. Root has no sandbox; the pages
/// are our own.
const LAUNCH: &str = r#"[ "$(id -u)" -eq 0 ] && set -- "$@" --no-sandbox
exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

const OPTIONS: [&str; 17] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-startup-window",
    "--lang=en-US",
    "--password-store=basic",
    // A container has a small /dev/shm or none, and no graphics.
    "--disable-dev-shm-usage",
    "--disable-gpu",
    // Nothing reaches the network: a page that needs another host shows it as a problem.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.*",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    // A page in the background must run as fast as one on the screen.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// It takes some 100 ms on an idle machine.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_chromium_skips_the_test_except_in_ci() {
        assert_eq!(missing(false).unwrap(), "skipped: Chromium is not installed; run ./install-packages");
        assert_eq!(
            missing(true).unwrap_err().to_string(),
            "Chromium is not installed, and CI=true; run ./install-packages"
        );
    }

    #[test]
    fn the_first_name_in_any_folder_is_started() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = env::join_paths([first.path(), second.path()]).unwrap();
        assert_eq!(program(Some(&path)), None);
        assert_eq!(program(None), None);
        fs::write(first.path().join("google-chrome"), "").unwrap();
        assert_eq!(program(Some(&path)), Some(first.path().join("google-chrome")));
        fs::write(second.path().join("chromium"), "").unwrap();
        assert_eq!(program(Some(&path)), Some(second.path().join("chromium")));
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_an_error_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("chromium");
        fs::write(&program, "#!/bin/sh\necho 'no display' >&2\nexit 3\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        let error = Browser::launch(&program).await.unwrap_err().to_string();
        assert!(error.contains("did not start") && error.contains("no display"), "{error}");
    }
}
