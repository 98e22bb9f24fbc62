//! The processes of the demo: one platform and two regions. Each region has a gateway, two bots that answer
//! calls, and one bot that lets the gateway answer.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    console::{complain, say},
    support::{
        binaries::Binaries,
        http, instant, pause,
        process::{Processes, START_TIME_MAX},
        screen::printable,
        setup::{free_addresses, new_secret, text, trusts, write_private},
    },
};

/// The app whose bots answer through Graph.
pub(super) const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
/// The app whose bot responds with an action.
pub(super) const ACTION_APP: &str = "7be1a5a0-93c1-4c5b-9f0e-2f6c1d0a8e42";

const REGIONS: [&str; 2] = ["emea", "amer"];
/// The instances of a region, each with its app and its value of `--answer`.
const INSTANCES: [(&str, &str, &str); 3] =
    [("bot-0", APP, "graph"), ("bot-1", APP, "graph"), ("actor", ACTION_APP, "action")];

/// Running processes and their addresses. Dropping it ends the processes.
pub(super) struct Regions {
    processes: Processes,
    pub(super) emulator: PathBuf,
    /// The origin of the platform, like `http://127.0.0.1:4000`.
    pub(super) platform: String,
    pub(super) gateways: Vec<RegionGateway>,
    pub(super) bots: Vec<RegionBot>,
}

pub(super) struct RegionGateway {
    pub(super) region: &'static str,
    pub(super) public: SocketAddr,
    admin: SocketAddr,
}

pub(super) struct RegionBot {
    pub(super) region: &'static str,
    pub(super) instance: &'static str,
    app: &'static str,
    pub(super) address: SocketAddr,
}

impl RegionBot {
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.region, self.instance)
    }
}

impl Regions {
    pub(super) fn start(binaries: &Binaries) -> Result<Self, String> {
        let mut processes = Processes::new("demo")?;
        let emulator = || Command::new(&binaries.emulator);
        let started = instant();
        let ready = |name: &str, where_: &str| {
            say(&format!("  {name:<14} {where_:<28} ready after {:.1} s", started.elapsed().as_secs_f64()));
        };

        let secret = new_secret()?;
        let serve = ["serve", "--listen", "127.0.0.1:0", "--app-id", APP, "--secret", &secret];
        let action = ["--app-id", ACTION_APP, "--secret", &secret, "--json"];
        let urls = processes.start_and_read("platform", emulator().args(serve).args(action))?;
        let platform = text(&urls, "origin")?;
        ready("platform", &platform);

        let mut bots = Vec::new();
        for region in REGIONS {
            for (instance, app, answer) in INSTANCES {
                let name = format!("{region}/{instance}");
                let process_name = format!("{region}-{instance}");
                let arguments =
                    ["bot", "--name", &process_name, "--platform", &platform, "--capacity", "100", "--json"];
                let acting = ["--answer", answer, "--app-id", app, "--secret", &secret];
                let bot = processes.start_and_read(&name, emulator().args(arguments).args(acting))?;
                let url = text(&bot, "url")?;
                let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
                let address = address.ok_or("a bot reports a URL without an address")?;
                bots.push(RegionBot { region, instance, app, address });
                ready(&name, &url);
            }
        }

        let gateways = free_gateways()?;
        let seal = processes.folder().join("seal");
        write_private(&seal, &new_secret()?)?;
        let secret_file = processes.folder().join("secret");
        write_private(&secret_file, &secret)?;
        for (here, there) in [(0, 1), (1, 0)] {
            let (Some(gateway), Some(peer)) = (gateways.get(here), gateways.get(there)) else { continue };
            let file = processes.folder().join(format!("{}.toml", gateway.region));
            let settings = configuration(gateway, peer, &platform, &bots, [&seal, &secret_file]);
            write_private(&file, &settings)?;
            let name = format!("{} gateway", gateway.region);
            processes.start(&name, Command::new(&binaries.gateway).args(["serve", "--config"]).arg(&file))?;
        }
        let mut regions = Self { processes, emulator: binaries.emulator.clone(), platform, gateways, bots };
        for index in 0..regions.gateways.len() {
            let Some(gateway) = regions.gateways.get(index) else { continue };
            let (name, public, admin) =
                (format!("{} gateway", gateway.region), gateway.public, gateway.admin);
            regions.wait_for(&name, admin, "/readyz")?;
            regions.wait_for(&name, public, HEALTH_PATH)?;
            ready(&name, &format!("http://{public}"));
        }
        Ok(regions)
    }

    /// Waits until a path returns 200.
    fn wait_for(&mut self, name: &str, address: SocketAddr, path: &str) -> Result<(), String> {
        let started = instant();
        loop {
            let last = match http::get(address, path) {
                Ok((200, _)) => return Ok(()),
                Ok((status, _)) => format!("http://{address}{path} returns {status}"),
                Err(error) => format!("http://{address}{path}: {error}"),
            };
            self.processes.check_running()?;
            if started.elapsed() > START_TIME_MAX {
                let log = self.processes.last_lines(name);
                return Err(format!("{name} is not ready: {last}; its last lines:\n{log}"));
            }
            pause(Duration::from_millis(50));
        }
    }

    /// Fails if one of the processes has ended.
    pub(super) fn check_running(&mut self) -> Result<(), String> {
        self.processes.check_running()
    }

    /// The name of the process at the host and port of a URL.
    pub(super) fn name_of(&self, url: &str) -> String {
        let authority =
            url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let address: Option<SocketAddr> = authority.parse().ok();
        let gateway = self.gateways.iter().find(|gateway| Some(gateway.public) == address);
        let bot = self.bots.iter().find(|bot| Some(bot.address) == address);
        match (gateway, bot) {
            (Some(gateway), _) => format!("{} gateway", gateway.region),
            (None, Some(bot)) => bot.name(),
            (None, None) => printable(url),
        }
    }

    pub(super) fn show_gateway_logs(&self) {
        for gateway in &self.gateways {
            let name = format!("{} gateway", gateway.region);
            complain(&format!("\nthe last lines of the {name}:\n{}", self.processes.last_lines(&name)));
        }
    }

    /// The address of every process, and commands to try.
    pub(super) fn addresses(&self) -> Vec<String> {
        let mut lines = vec![format!("  platform       {}/", self.platform)];
        for gateway in &self.gateways {
            let RegionGateway { region, public, admin } = gateway;
            lines.push(format!("  {:<14} http://{public}/api/calls", format!("{region} gateway")));
            lines.push(format!(
                "  {:<14} http://{admin}/fleet  http://{admin}/metrics",
                format!("{region} admin")
            ));
        }
        for bot in &self.bots {
            lines.push(format!("  {:<14} http://{}/", bot.name(), bot.address));
        }
        if let Some(gateway) = self.gateways.first() {
            let to = format!("http://{}/api/calls", gateway.public);
            lines.push("\nplace another call, which belongs to the other region, and watch it:".to_owned());
            lines.push(format!(
                "  curl -sN {}/emulator/calls -d '{{\"to\":\"{to}\",\"region\":\"amer\"}}'",
                self.platform
            ));
        }
        lines
    }

    /// Returns when one of the processes ends. Ctrl-C ends the demo itself.
    pub(super) fn watch(mut self) -> Result<bool, String> {
        loop {
            self.check_running()?;
            pause(Duration::from_millis(250));
        }
    }
}

/// Chooses the addresses of the gateways.
fn free_gateways() -> Result<Vec<RegionGateway>, String> {
    let addresses = free_addresses("127.0.0.1", 4)?;
    let pairs = addresses.chunks_exact(2).zip(REGIONS).filter_map(|(pair, region)| match pair {
        [public, admin] => Some(RegionGateway { region, public: *public, admin: *admin }),
        _ => None,
    });
    Ok(pairs.collect())
}

fn configuration(
    gateway: &RegionGateway,
    peer: &RegionGateway,
    platform: &str,
    bots: &[RegionBot],
    [seal, secret]: [&Path; 2],
) -> String {
    let mut settings = SETTINGS
        .replace("{region}", gateway.region)
        .replace("{public}", &gateway.public.to_string())
        .replace("{admin}", &gateway.admin.to_string())
        .replace("{peer region}", peer.region)
        .replace("{peer}", &peer.public.to_string())
        .replace("{trusts}", &trusts(platform))
        .replace("{platform}", platform)
        .replace("{app}", APP)
        .replace("{action app}", ACTION_APP)
        .replace("{secret}", &secret.display().to_string())
        .replace("{seal}", &seal.display().to_string());
    for bot in bots.iter().filter(|bot| bot.region == gateway.region) {
        let RegionBot { instance, app, address, .. } = bot;
        settings.push_str(&format!(
            "\n[[fleet.instance]]\nname = \"{instance}\"\nurl = \"http://{address}/api/calls\"\n\
             apps = [\"{app}\"]\n"
        ));
    }
    settings
}

const HEALTH_PATH: &str = "/api/health";

/// A gateway of one region, in the format that the documents describe.
const SETTINGS: &str = r#"# Made by `cargo xtask demo`.
region = "{region}"

[listen]
address = "{public}"
health_path = "/api/health"
drain = { delay = "0s", deadline = "1s" }

[admin]
address = "{admin}"

[[app]]
id = "{app}"

[[app]]
id = "{action app}"
[app.graph]
secret = { file = "{secret}" }
authority = "{platform}"
endpoint = "{platform}"

{trusts}

[callback]
base = "http://{public}"
seal = [{ id = "k1", secret = { file = "{seal}" } }]

[[peer]]
name = "{peer region}"
webhook = "http://{peer}/api/calls"
health = "http://{peer}/api/health"

[affinity]
status = 302

[[affinity.rule]]
source_region = ["{peer region}"]
serve_in = "{peer region}"

[fleet.probe]
path = "/healthz"
interval = "1s"

[log]
format = "text"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_in_the_settings_is_replaced() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let gateway = RegionGateway { region: "emea", public: address(1), admin: address(2) };
        let peer = RegionGateway { region: "amer", public: address(3), admin: address(4) };
        let bots = [("emea", 5), ("amer", 6)].map(|(region, port)| RegionBot {
            region,
            instance: "bot-0",
            app: APP,
            address: address(port),
        });
        let settings =
            configuration(&gateway, &peer, "http://p", &bots, [Path::new("/seal"), Path::new("/secret")]);
        let left: Vec<&str> = settings
            .lines()
            .filter(|line| {
                line.replace("{tid}", "").contains('{') && !line.contains("= { ") && !line.contains("[{ ")
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(settings.contains("http://127.0.0.1:5/") && !settings.contains("http://127.0.0.1:6/"));
    }
}
