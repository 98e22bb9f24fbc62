//! The gateway that is measured: its configuration, its start and its addresses.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::traffic::{APP, HOME, PEER};
use crate::support::{
    http, instant, pause,
    process::{Processes, START_TIME_MAX},
    setup::{new_secret, write_private},
};

/// The addresses of a gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gateway {
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// The configuration of a gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// The server of the key documents.
    pub(super) issuer: SocketAddr,
    /// The server that is every instance.
    pub(super) bot: SocketAddr,
    pub(super) instances: usize,
    /// Uses the certificate of `write_certificate`.
    pub(super) tls: bool,
}

/// Writes the configuration of the gateway `name`, and returns its path.
pub(super) fn write_settings(folder: &Path, name: &str, settings: Settings) -> Result<PathBuf, String> {
    let tls = if settings.tls { "tls = { certificate = \"tls.crt\", key = \"tls.key\" }" } else { "" };
    let mut text = SETTINGS
        .replace("{home}", HOME)
        .replace("{peer}", PEER)
        .replace("{app}", APP)
        .replace("{tls}", tls)
        .replace("{seal}", &format!("{name}.seal"))
        .replace("{issuer}", &settings.issuer.to_string());
    let bot = settings.bot;
    for number in 0..settings.instances {
        text.push_str(&format!(
            "\n[[fleet.instance]]\nname = \"bot-{number}\"\nurl = \"http://{bot}/{number}/api/calls\"\n"
        ));
    }
    write_private(&folder.join(format!("{name}.seal")), &new_secret()?)?;
    let path = folder.join(format!("{name}.toml"));
    write_private(&path, &text)?;
    Ok(path)
}

/// Starts the gateway `name` with `command`, which gets its arguments, and waits until it is ready.
pub(super) fn start(
    processes: &mut Processes,
    name: &str,
    command: &mut Command,
    settings: &Path,
) -> Result<Gateway, String> {
    processes.start(name, command.args(["serve", "--config"]).arg(settings))?;
    let started = instant();
    let mut gateway = None;
    loop {
        gateway = gateway.or(listening(&processes.log_of(name)?));
        if let Some(gateway) = gateway
            && matches!(http::get(gateway.admin, "/readyz"), Ok((200, _)))
        {
            return Ok(gateway);
        }
        processes.check_running()?;
        if started.elapsed() > START_TIME_MAX {
            return Err(format!("the gateway is not ready:\n{}", processes.last_lines(name)));
        }
        pause(POLL);
    }
}

/// The addresses in the event of the start.
fn listening(log: &str) -> Option<Gateway> {
    log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|event| {
        let address = |name: &str| event.get(name)?.as_str()?.parse().ok();
        Some(Gateway { public: address("public.address")?, admin: address("admin.address")? })
    })
}

/// The path of the callbacks of the first instance.
pub(super) fn callback_path(binary: &Path, settings: &Path) -> Result<String, String> {
    let mut mint = Command::new(binary);
    mint.args(["mint", "--instance", "bot-0", "--app", APP, "--config"]).arg(settings);
    let output = mint.output().map_err(|error| format!("cannot run {}: {error}", binary.display()))?;
    let uri = String::from_utf8_lossy(&output.stdout);
    let path = uri.trim().strip_prefix(BASE).map(str::to_owned);
    path.ok_or_else(|| format!("mint printed no URI: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Writes the key and the certificate of `localhost`, also as one file, and returns the folder's files.
pub(super) fn write_certificate(folder: &Path) -> Result<(), String> {
    let (key, certificate) = (folder.join("tls.key"), folder.join("tls.crt"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"])
        .args(["-days", "2", "-subj", "/CN=emea.bots.example"])
        .args(["-addext", "subjectAltName=DNS:emea.bots.example", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .map_err(|error| format!("cannot run openssl: {error}"))?;
    if !made.status.success() {
        return Err(format!("openssl made no certificate: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let read = |path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    write_private(&folder.join("tls.pem"), &format!("{}{}", read(&certificate)?, read(&key)?))
}

/// Short, since the start is measured.
const POLL: Duration = Duration::from_millis(2);
const BASE: &str = "https://emea.bots.example";

/// No probe, so that no timer of an instance runs.
const SETTINGS: &str = r#"# Made by `cargo xtask bench`.
region = "{home}"

[listen]
address = "127.0.0.1:0"
{tls}

[admin]
address = "127.0.0.1:0"
instance_metrics = false

[[app]]
id = "{app}"

[[trust]]
name = "skype"
metadata = "http://{issuer}/skype/metadata"
issuers = ["https://api.botframework.com"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]

[[trust]]
name = "entra"
metadata = "http://{issuer}/entra/metadata"
issuers = ["https://login.microsoftonline.com/{tid}/v2.0"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]

[callback]
base = "https://emea.bots.example"
seal = [{ id = "k1", secret = { file = "{seal}" } }]

[limits]
connections = 11000

[[peer]]
name = "{peer}"
webhook = "https://amer.bots.example/api/calls"

[[affinity.rule]]
source_region = ["{peer}"]
serve_in = "{peer}"
"#;
