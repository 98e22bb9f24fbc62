//! The gateway that is measured: its configuration, its start and its addresses.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use serde_json::Value;

use super::{
    origin::Origin,
    traffic::{APP, HOME, PEER},
};
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

/// The name of the process.
pub(super) const GATEWAY: &str = "gateway";

/// Writes a configuration with `instances` instances, which are all the origin.
pub(super) fn write_settings(folder: &Path, origin: &Origin, instances: usize) -> Result<(), String> {
    let address = origin.address;
    let mut settings = SETTINGS
        .replace("{home}", HOME)
        .replace("{peer}", PEER)
        .replace("{app}", APP)
        .replace("{origin}", &address.to_string());
    for number in 0..instances {
        settings.push_str(&format!(
            "\n[[fleet.instance]]\nname = \"bot-{number}\"\nurl = \"http://{address}/{number}/api/calls\"\n"
        ));
    }
    write_private(&folder.join("seal"), &new_secret()?)?;
    write_private(&folder.join(FILE), &settings)
}

/// Starts the gateway with `command`, which gets its arguments, and waits until it is ready.
pub(super) fn start(processes: &mut Processes, command: &mut Command) -> Result<Gateway, String> {
    let settings = processes.folder().join(FILE);
    processes.start(GATEWAY, command.args(["serve", "--config"]).arg(settings))?;
    let started = instant();
    let mut gateway = None;
    loop {
        gateway = gateway.or(listening(&processes.log_of(GATEWAY)?));
        if let Some(gateway) = gateway
            && matches!(http::get(gateway.admin, "/readyz"), Ok((200, _)))
        {
            return Ok(gateway);
        }
        processes.check_running()?;
        if started.elapsed() > START_TIME_MAX {
            return Err(format!("the gateway is not ready:\n{}", processes.last_lines(GATEWAY)));
        }
        pause(Duration::from_millis(20));
    }
}

/// The addresses in the event of the start.
fn listening(log: &str) -> Option<Gateway> {
    log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|event| {
        let address = |name: &str| event.get(name)?.as_str()?.parse().ok();
        Some(Gateway { public: address("public.address")?, admin: address("admin.address")? })
    })
}

/// The part of a callback URI that follows the base.
pub(super) fn callback_path(origin: &Origin) -> Result<String, String> {
    let uri = origin.callback_uri().ok_or("the gateway has sent no callback URI")?;
    uri.strip_prefix(BASE).map(str::to_owned).ok_or_else(|| format!("the callback URI is {uri}"))
}

const FILE: &str = "switchboard.toml";
const BASE: &str = "https://emea.bots.example";

/// No probe, so that no timer of an instance runs.
const SETTINGS: &str = r#"# Made by `cargo xtask bench`.
region = "{home}"

[listen]
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[[app]]
id = "{app}"

[[trust]]
name = "skype"
metadata = "http://{origin}/skype/metadata"
issuers = ["https://api.botframework.com"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]

[[trust]]
name = "entra"
metadata = "http://{origin}/entra/metadata"
issuers = ["https://login.microsoftonline.com/{tid}/v2.0"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]

[callback]
base = "https://emea.bots.example"
seal = [{ id = "k1", secret = { file = "seal" } }]

[[peer]]
name = "{peer}"
webhook = "https://amer.bots.example/api/calls"

[[affinity.rule]]
source_region = ["{peer}"]
serve_in = "{peer}"
"#;
