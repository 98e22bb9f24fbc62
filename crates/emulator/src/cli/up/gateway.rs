//! The process of the gateway: finding its program, starting it, waiting for it.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use switchboard_emulator::{Client, fetch_json};
use tokio::{
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};
use url::Url;

use super::configuration::Configuration;

/// The gateway, as the child of a guard that ends it if this process dies.
#[derive(Debug)]
pub(super) struct Gateway {
    guard: Child,
    /// Closing it ends the guard. It is apart from the child because waiting for a child closes its stdin.
    alive: Option<ChildStdin>,
    program: PathBuf,
}

impl Gateway {
    /// Starts the gateway with a configuration. Its log goes to stderr.
    pub(super) fn start(program: &PathBuf, configuration: &Configuration) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("cannot start {}: {error}", program.display());
        let own = env::current_exe().map_err(|error| wrong(&error))?;
        let mut command = Command::new(own);
        command.arg("guard").arg("--").arg(program).arg("serve").arg("--config").arg(&configuration.file);
        for (name, value) in [(SEAL, seal()?), (SECRET, "not-a-secret".to_owned())] {
            if env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        // The guard reads stdin, which closes when this process ends, in whatever way.
        command.stdin(Stdio::piped()).stdout(std::io::stderr()).kill_on_drop(true);
        let mut guard = command.spawn().map_err(|error| wrong(&error))?;
        let alive = guard.stdin.take();
        Ok(Self { guard, alive, program: program.clone() })
    }

    /// Waits until the gateway can take a call, or, if its configuration names no path that says so, until it
    /// accepts connections.
    pub(super) async fn ready(
        &mut self,
        client: &Client,
        configuration: &Configuration,
    ) -> Result<(), String> {
        let ready = configuration.ready_path.as_ref().filter(|_| configuration.origin().starts_with("http:"));
        let url = ready.and_then(|path| Url::parse(&format!("{}{path}", configuration.origin())).ok());
        let asked = async {
            loop {
                let is_ready = match &url {
                    Some(url) => fetch_json(client, url).await.is_ok(),
                    None => TcpStream::connect(configuration.public).await.is_ok(),
                };
                if is_ready {
                    return;
                }
                sleep(READY_PAUSE).await;
            }
        };
        let program = self.program.display().to_string();
        tokio::select! {
            ready = timeout(READY_TIME_MAX, asked) => ready.map_err(|_| {
                let seconds = READY_TIME_MAX.as_secs();
                format!("the gateway ({program}) is not ready after {seconds} s; its log is above")
            }),
            ended = self.guard.wait() => Err(self.describe(ended)),
        }
    }

    /// Waits for the end of the gateway, and describes it.
    pub(super) async fn ended(&mut self) -> String {
        let ended = self.guard.wait().await;
        self.describe(ended)
    }

    /// Ends the gateway.
    pub(super) async fn stop(mut self) {
        // The guard ends the gateway and then itself.
        drop(self.alive.take());
        if timeout(STOP_TIME_MAX, self.guard.wait()).await.is_err() {
            let _ = self.guard.kill().await;
        }
    }

    fn describe(&self, ended: std::io::Result<ExitStatus>) -> String {
        let program = self.program.display();
        match ended {
            Ok(status) => format!("the gateway ({program}) ended: {status}; its log is above"),
            Err(error) => format!("the gateway ({program}) was lost: {error}"),
        }
    }
}

/// Returns the program of the gateway: the given one, the one beside this program, or the first in PATH.
pub(super) fn find_switchboard(given: Option<PathBuf>) -> Result<PathBuf, String> {
    if let Some(program) = given {
        return if program.is_file() {
            Ok(program)
        } else {
            Err(format!("--switchboard: there is no file {}", program.display()))
        };
    }
    let name = format!("switchboard{}", env::consts::EXE_SUFFIX);
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join(&name)));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty());
    let found =
        beside.iter().cloned().chain(in_path.map(|folder| folder.join(&name))).find(|file| file.is_file());
    found.ok_or_else(|| not_found(beside.as_ref(), &path))
}

fn not_found(beside: Option<&PathBuf>, path: &OsString) -> String {
    let beside = beside.map_or_else(String::new, |file| format!(" as {} or", file.display()));
    format!(
        "the gateway's program, switchboard, is not there{beside} in PATH ({}); build it with \
         `cargo build -p switchboard`, or name it with --switchboard",
        path.display()
    )
}

/// Makes a seal secret, as `switchboard keygen` does.
fn seal() -> Result<String, String> {
    let mut bytes = [0; 32];
    openssl::rand::rand_bytes(&mut bytes).map_err(|error| format!("openssl has no randomness: {error}"))?;
    Ok(openssl::base64::encode_block(&bytes))
}

const SEAL: &str = "SWITCHBOARD_SEAL_K1";
const SECRET: &str = "SWITCHBOARD_APP_SECRET";

const READY_PAUSE: Duration = Duration::from_millis(100);
/// Long enough for a debug build on a loaded machine.
const READY_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
