//! The configuration of the gateway: one of the user's, or one that is written for the emulator.

use std::{
    env, fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
};

use toml::{Table, Value};
use url::Url;
use uuid::Uuid;

use crate::cli::platform_options::read_text;

/// A configuration of the gateway.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) file: PathBuf,
    /// The address at which this machine reaches the gateway.
    pub(super) public: SocketAddr,
    /// The first app, if the file names one.
    pub(super) app: Option<Uuid>,
    scheme: &'static str,
    webhook_path: String,
    /// The path that responds 200 when the gateway is ready, if there is one.
    pub(super) ready_path: Option<String>,
    /// The folder to remove at the end.
    temporary: Option<PathBuf>,
}

/// The values of a configuration to write.
#[derive(Debug)]
pub(super) struct GatewayPlan<'a> {
    pub(super) app: Uuid,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
    /// The origin of the platform.
    pub(super) platform: &'a str,
    pub(super) bots: Bots,
}

/// The instances of the gateway.
#[derive(Clone, Debug)]
pub(super) enum Bots {
    /// Bots of the emulator, which report their state.
    Emulated(Vec<SocketAddr>),
    /// The webhooks of the user's bots. They are not probed, since they may have no path for it.
    Own(Vec<Url>),
}

impl Configuration {
    /// Reads the parts of a file that `up` needs. The gateway judges the rest.
    pub(super) fn read(file: PathBuf) -> Result<Self, String> {
        let text = read_text(&file).map_err(|error| format!("--config: {error}"))?;
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| format!("--config {}: {}", file.display(), error.message()))?;
        let listen = table.get("listen");
        let member = |name: &str| listen.and_then(|listen| listen.get(name)).and_then(Value::as_str);
        let public = match member("address").map(str::parse::<SocketAddr>) {
            Some(Ok(address)) if address.port() == 0 => {
                return Err("--config: listen.address has port 0, so `up` cannot name it".to_owned());
            }
            Some(Ok(address)) => reachable(address),
            Some(Err(_)) => return Err("--config: listen.address is not an IP address and a port".to_owned()),
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
        };
        let app = table.get("app").and_then(Value::as_array).and_then(|apps| apps.first());
        let app = app.and_then(|app| app.get("id")).and_then(Value::as_str);
        Ok(Self {
            public,
            app: app.and_then(|id| Uuid::try_parse(id).ok()),
            scheme: if listen.is_some_and(|listen| listen.get("tls").is_some()) { "https" } else { "http" },
            webhook_path: member("webhook_path").unwrap_or("/api/calls").to_owned(),
            ready_path: member("ready_path").map(str::to_owned),
            temporary: None,
            file,
        })
    }

    /// Writes a configuration into a folder, and never over a file. Without a folder it makes one in the
    /// folder for temporary files.
    pub(super) fn write(plan: &GatewayPlan<'_>, folder: Option<PathBuf>) -> Result<Self, String> {
        let public = free(plan.public, "--gateway")?;
        let admin = free(plan.admin, "--admin")?;
        let text = text_of(&GatewayPlan { public, admin, bots: plan.bots.clone(), ..*plan });
        let temporary = match &folder {
            Some(_) => None,
            None => Some(new_folder()?),
        };
        let folder = temporary.clone().or(folder).unwrap_or_default();
        let wrong = |error: io::Error| {
            let file = folder.join(FILE_NAME);
            let file = file.display();
            if error.kind() == io::ErrorKind::AlreadyExists {
                format!(
                    "{file} exists and is not overwritten; use it with --config {file}, or choose another \
                     --folder"
                )
            } else {
                format!("cannot write {file}: {error}")
            }
        };
        fs::create_dir_all(&folder).map_err(wrong)?;
        let file = folder.join(FILE_NAME);
        let mut target = fs::OpenOptions::new().write(true).create_new(true).open(&file).map_err(wrong)?;
        target.write_all(text.as_bytes()).map_err(wrong)?;
        Ok(Self {
            file,
            public: reachable(public),
            app: Some(plan.app),
            scheme: "http",
            webhook_path: "/api/calls".to_owned(),
            ready_path: Some("/readyz".to_owned()),
            temporary,
        })
    }

    /// Returns the URL of the webhook.
    pub(super) fn webhook(&self) -> String {
        format!("{}{}", self.origin(), self.webhook_path)
    }

    /// Returns the origin of the gateway.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.public)
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Removes the written file if its folder was made for it.
    pub(super) fn remove(&self) {
        if let Some(folder) = &self.temporary {
            let _ = fs::remove_file(&self.file);
            // A file that someone put there stays, and so does the folder.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Returns an address that is free at the moment, with a port in place of 0.
fn free(address: SocketAddr, option: &str) -> Result<SocketAddr, String> {
    // The gateway would say so too, but without the name of our option.
    TcpListener::bind(address).and_then(|listener| listener.local_addr()).map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another address or port with {option}")
    })
}

/// Returns the address at which this machine reaches a listener that may be bound to all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

fn new_folder() -> Result<PathBuf, String> {
    let parent = env::temp_dir();
    for number in 0..FOLDERS_MAX {
        let folder = parent.join(format!("switchboard-up-{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot create {}: {error}; give --folder", folder.display())),
        }
    }
    Err(format!("{} is full of folders of `up`; give --folder", parent.display()))
}

/// Returns the text. Every other value than a webhook is an address or an id, so none needs an escape.
fn text_of(plan: &GatewayPlan<'_>) -> String {
    let GatewayPlan { app, public, admin, platform, bots } = plan;
    let base = reachable(*public);
    let (webhooks, probe) = match bots {
        Bots::Emulated(addresses) => {
            let webhooks = addresses.iter().map(|address| format!("http://{address}/api/calls")).collect();
            (webhooks, "\n[fleet.probe]\npath = \"/healthz\"\ninterval = \"1s\"\n")
        }
        Bots::Own(urls) => (urls.iter().map(Url::to_string).collect::<Vec<_>>(), ""),
    };
    let instances: String = webhooks
        .iter()
        .enumerate()
        .map(|(number, url)| {
            // A URL is ASCII, so as a string of JSON it is one of TOML.
            let url = serde_json::Value::from(url.as_str());
            format!("\n[[fleet.instance]]\nname = \"bot-{number}\"\nurl = {url}\n")
        })
        .collect();
    format!(
        "# Written by `switchboard-emulator up`, which sets both variables if they are not set.
region = \"emea\"

[listen]
address = \"{public}\"
ready_path = \"/readyz\"

[admin]
address = \"{admin}\"

[[app]]
id = \"{app}\"

[app.graph]                                # for bots that reply with actions
secret = {{ env = \"SWITCHBOARD_APP_SECRET\" }}
authority = \"{platform}\"
endpoint = \"{platform}\"

[[trust]]                                  # the emulator's; without [[trust]] it is the public cloud's two
name = \"skype\"
metadata = \"{platform}/v1/.well-known/OpenIdConfiguration\"
issuers = [\"https://api.botframework.com\"]
callers = [\"26a18ebc-cdf7-4a6a-91cb-beb352805e81\"]

[[trust]]
name = \"entra\"
metadata = \"{platform}/common/v2.0/.well-known/openid-configuration\"
issuers = [\"https://sts.windows.net/{{tid}}/\", \"https://login.microsoftonline.com/{{tid}}/v2.0\"]
callers = [\"26a18ebc-cdf7-4a6a-91cb-beb352805e81\"]

[keys]
cooldown = \"1s\"                            # keys may be rotated at once

[callback]
base = \"http://{base}\"
seal = [{{ id = \"k1\", secret = {{ env = \"SWITCHBOARD_SEAL_K1\" }} }}]
{instances}{probe}
[log]
format = \"text\"
"
    )
}

const FILE_NAME: &str = "gateway.toml";
const FOLDERS_MAX: u32 = 1_000;
