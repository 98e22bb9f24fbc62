//! The processes of a rehearsal: one platform, the gateways of one region, and the bots of a layout.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    balancer::Balancer,
    gateway_settings::Shared,
    layout::{Ingress, Layout},
    members::{Bot, Gateway},
};
use crate::{
    console::say,
    support::{
        binaries::Binaries,
        http, instant, pause,
        process::{Processes, START_TIME_MAX},
        setup::{free_addresses, new_secret, text, write_private},
    },
};

/// Running processes and their addresses. Dropping it ends the processes.
pub(super) struct Testbed {
    pub(super) processes: Processes,
    emulator: PathBuf,
    gateway: PathBuf,
    dns_server: Option<PathBuf>,
    /// The origin of the platform, like `http://127.0.0.1:4000`.
    pub(super) platform: String,
    pub(super) gateways: Vec<Gateway>,
    /// The address of the balancer, if there is one.
    pub(super) balancer: Option<SocketAddr>,
    /// The address of the DNS server.
    dns: SocketAddr,
    ingress: Ingress,
    pub(super) bots: Vec<Bot>,
    /// The secret of every app.
    pub(super) secret: String,
}

impl Testbed {
    /// Starts every process of a layout, and waits until all are ready.
    pub(super) fn start(binaries: &Binaries, layout: &Layout) -> Result<Self, String> {
        let started = instant();
        let mut processes = Processes::new("rehearse")?;
        let secret = new_secret()?;
        let mut serve = Command::new(&binaries.emulator);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--json"]).args(layout.platform);
        for app in layout.apps {
            serve.args(["--app-id", app.id, "--secret", &secret]);
        }
        let platform = text(&processes.start_and_read("platform", &mut serve)?, "origin")?;
        let mut testbed = Self {
            processes,
            emulator: binaries.emulator.clone(),
            gateway: binaries.gateway.clone(),
            dns_server: binaries.dns_server.clone(),
            platform,
            gateways: Vec::new(),
            balancer: None,
            dns: SocketAddr::from(([127, 0, 0, 2], 0)),
            ingress: layout.ingress,
            bots: Vec::new(),
            secret,
        };
        for bot in layout.bots {
            let (name, app, answer) = (bot.name, bot.app, bot.answer);
            let address = testbed.start_bot(name, app, answer, &format!("{HOST}:0"), &[])?;
            testbed.bots.push(Bot { name, address, app, answer });
        }
        testbed.start_gateways(layout)?;
        say(&format!(
            "  one platform, {} bots and {} gateways are ready after {:.1} s",
            testbed.bots.len(),
            testbed.gateways.len(),
            started.elapsed().as_secs_f64()
        ));
        Ok(testbed)
    }

    fn start_bot(
        &mut self,
        name: &str,
        app: &str,
        answer: &str,
        listen: &str,
        options: &[&str],
    ) -> Result<SocketAddr, String> {
        let mut command = Command::new(&self.emulator);
        command.args(["bot", "--json", "--name", name, "--listen", listen, "--platform", &self.platform]);
        command.args(["--answer", answer, "--app-id", app, "--secret", &self.secret]);
        command.arg("--journal").arg(self.journal(name)).args(options);
        let bot = self.processes.start_and_read(name, &mut command)?;
        let url = text(&bot, "url")?;
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        address.ok_or_else(|| format!("{name} reports the URL {url}, which has no address"))
    }

    /// The path of a bot's journal, which all its incarnations share.
    pub(super) fn journal(&self, name: &str) -> PathBuf {
        self.processes.folder().join(format!("{name}.journal"))
    }

    /// Starts a bot that has ended, with the same name and address.
    pub(super) fn restart_bot(&mut self, name: &str) -> Result<(), String> {
        self.restart_bot_with(name, &[])
    }

    /// The same, with more options.
    pub(super) fn restart_bot_with(&mut self, name: &str, options: &[&str]) -> Result<(), String> {
        let bot =
            self.bots.iter().find(|bot| bot.name == name).ok_or_else(|| format!("there is no bot {name}"))?;
        let (app, answer, address) = (bot.app, bot.answer, bot.address.to_string());
        self.start_bot(name, app, answer, &address, options).map(|_| ())
    }

    /// Starts the DNS server. Its records never change.
    pub(super) fn start_dns(&mut self) -> Result<(), String> {
        let mut command = Command::new(self.dns_server.as_ref().ok_or("there is no DNS server")?);
        command.args([&self.dns.to_string(), DNS_NAME]);
        command.args(self.bots.iter().map(|bot| format!("{}={}", instance(bot.name), bot.address)));
        self.processes.start_and_read(DNS, &mut command).map(|_| ())
    }

    fn start_gateways(&mut self, layout: &Layout) -> Result<(), String> {
        let balancer = self.write_settings(layout)?;
        if layout.ingress == Ingress::Scarce {
            self.start_dns()?;
        }
        let names: Vec<_> = self.gateways.iter().map(|gateway| gateway.name).collect();
        for name in names {
            self.start_gateway(name)?;
        }
        self.wait_until_ready()?;
        if layout.ingress == Ingress::Balanced {
            Balancer::find()?.start(&mut self.processes, balancer, &self.gateways)?;
            self.balancer = Some(balancer);
        }
        Ok(())
    }

    /// Chooses the addresses of the gateways, writes their configurations, and returns the balancer's
    /// address.
    fn write_settings(&mut self, layout: &Layout) -> Result<SocketAddr, String> {
        let folder = self.processes.folder().to_owned();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            write_private(&path, text).map(|()| path)
        };
        let count = match layout.ingress {
            Ingress::Crossed => 2,
            Ingress::Balanced => 3,
            Ingress::Scarce => 1,
        };
        let mut free = free_addresses(HOST, 3 + 2 * count)?.into_iter();
        let mut next = || free.next().ok_or("too few free ports");
        // The first address stays without a listener.
        let (closed, balancer) = (next()?, next()?);
        self.dns = next()?;
        for name in GATEWAYS.into_iter().take(count) {
            self.gateways.push(Gateway { name, public: next()?, admin: next()? });
        }
        let bases: Vec<SocketAddr> = match layout.ingress {
            Ingress::Crossed | Ingress::Scarce => {
                self.gateways.iter().rev().map(|other| other.public).collect()
            }
            Ingress::Balanced => vec![balancer; count],
        };
        let shared = Shared {
            layout,
            platform: &self.platform,
            closed,
            seal: &file("seal", &new_secret()?)?,
            secret: &file("secret", &self.secret)?,
            wrong_secret: &file("wrong-secret", &new_secret()?)?,
            bots: &self.bots,
            dns: self.dns,
        };
        for (gateway, base) in self.gateways.iter().zip(bases) {
            file(&format!("{}.toml", gateway.name), &shared.configuration(gateway, base))?;
        }
        Ok(balancer)
    }

    /// Starts a gateway with the configuration that was written for it.
    pub(super) fn start_gateway(&mut self, name: &str) -> Result<(), String> {
        let settings = self.processes.folder().join(format!("{name}.toml"));
        let mut command = match self.ingress {
            Ingress::Crossed | Ingress::Balanced => Command::new(&self.gateway),
            // The shell becomes the gateway. The gateway raises its soft limit, so both limits are set.
            Ingress::Scarce => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", DESCRIPTORS]).arg(&self.gateway);
                shell
            }
        };
        self.processes.start(name, command.args(["serve", "--config"]).arg(settings))
    }

    /// Waits until every gateway is ready and reports every instance as ready.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), String> {
        let started = instant();
        while let Some(name) = self.unready() {
            self.processes.check_running()?;
            if started.elapsed() > START_TIME_MAX {
                let log = self.processes.last_lines(name);
                return Err(format!("{name} is not ready; its last lines:\n{log}"));
            }
            pause(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The first gateway that is not ready, or that does not report every instance as ready.
    fn unready(&self) -> Option<&'static str> {
        let is_ready = |gateway: &Gateway| {
            let fleet = http::get(gateway.admin, "/fleet").map(|(_, body)| body).unwrap_or_default();
            let ready = fleet.matches("\"state\":\"ready\"").count();
            ready == self.bots.len() && matches!(http::get(gateway.admin, "/readyz"), Ok((200, _)))
        };
        self.gateways.iter().find(|gateway| !is_ready(gateway)).map(|gateway| gateway.name)
    }

    /// The command `switchboard fleet VERB NAME` for the admin listener of a gateway.
    pub(super) fn fleet(&self, gateway: &Gateway, verb: &str, name: &str) -> Command {
        let mut command = Command::new(&self.gateway);
        command.args(["fleet", verb, name, "--admin", &format!("http://{}", gateway.admin)]);
        command
    }

    /// A command of the emulator that places calls of an app at an address.
    pub(super) fn calling(&self, verb: &str, app: &str, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.emulator);
        let to = format!("http://{address}/api/calls");
        command.args([verb, "--json", "--platform", &self.platform, "--app-id", app, "--to", &to]);
        command
    }

    /// Places one call, waits for its end, and returns its events.
    pub(super) fn call(&mut self, app: &str, gateway: usize, options: &[&str]) -> Result<Vec<Value>, String> {
        let gateway = self.gateways.get(gateway % self.gateways.len()).ok_or("there is no gateway")?;
        let mut command = self.calling("call", app, gateway.public);
        self.processes.start_task("call", command.args(options))?;
        let (_, output) = self.processes.wait("call", CALL_TIME_MAX)?;
        Ok(output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Replaces the platform's faults by at most one.
    pub(super) fn set_fault(&self, fault: Option<(&str, &str)>) -> Result<(), String> {
        let faults: Value =
            fault.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        self.ask_platform("PUT", "/emulator/faults", &faults.to_string()).map(|_| ())
    }

    /// Makes an issuer of the platform sign with a new key. The earlier keys stay valid.
    pub(super) fn rotate_key(&self, issuer: &str) -> Result<(), String> {
        let path = format!("/emulator/rotate?issuer={issuer}");
        // To make a key takes 0.2 s of CPU time, and longer with bad luck.
        match http::exchange(self.platform_address()?, "POST", &path, "", "", KEY_TIME_MAX)? {
            (200, _) => Ok(()),
            (status, body) => Err(format!("the platform does not rotate its key: {status} {body}")),
        }
    }

    /// Ends a load, and returns its report.
    pub(super) fn end_load(&mut self, load: &str) -> Result<Value, String> {
        self.end_loads()?;
        let (_, output) = self.processes.wait(load, END_TIME_MAX)?;
        let report = output.lines().find_map(|line| serde_json::from_str(line).ok());
        report.ok_or_else(|| format!("the load printed no report: {output}"))
    }

    /// Lets the processes run for a while.
    pub(super) fn run_for(&mut self, time: Duration) -> Result<(), String> {
        let started = instant();
        while started.elapsed() < time {
            self.processes.check_running()?;
            pause(POLL);
        }
        Ok(())
    }

    /// Waits until a bot has at least so many calls, and returns its address. Without calls, a scene would
    /// prove nothing.
    pub(super) fn wait_for_calls(&mut self, name: &str, least: u64) -> Result<SocketAddr, String> {
        let bot = self.bots.iter().find(|bot| bot.name == name);
        let address = bot.ok_or_else(|| format!("there is no bot {name}"))?.address;
        let started = instant();
        while http::get_json(address, "/healthz")?.get("calls").and_then(Value::as_u64) < Some(least) {
            self.processes.check_running()?;
            if started.elapsed() > START_TIME_MAX {
                return Err(format!("{name} receives no calls"));
            }
            pause(POLL);
        }
        Ok(address)
    }

    /// Stops the platform from placing more calls.
    pub(super) fn end_loads(&self) -> Result<(), String> {
        self.ask_platform("DELETE", "/emulator/load", "").map(|_| ())
    }

    /// A good token for an app, as the platform's control API describes it.
    pub(super) fn token(&self, app: &str) -> Result<Value, String> {
        let body = json!({"kind": "skype", "app": app}).to_string();
        let token = self.ask_platform("POST", "/emulator/token", &body)?;
        serde_json::from_str(&token).map_err(|error| format!("the platform's token is not JSON: {error}"))
    }

    fn ask_platform(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        match http::send(self.platform_address()?, method, path, body)? {
            (200..300, body) => Ok(body),
            (status, body) => Err(format!("the platform refuses {method} {path}: {status} {body}")),
        }
    }

    fn platform_address(&self) -> Result<SocketAddr, String> {
        let address = self.platform.strip_prefix("http://").and_then(|address| address.parse().ok());
        address.ok_or_else(|| "the platform has no address".to_owned())
    }

    /// The first error and warning lines of each gateway's log.
    pub(super) fn first_warnings(&self) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        for gateway in &self.gateways {
            let log = self.processes.log_of(gateway.name)?;
            warnings.extend(first_warnings(gateway.name, &log));
        }
        Ok(warnings)
    }
}

/// Prints an event of a scene with its time.
pub(super) fn show_event(started: Instant, event: &str) {
    say(&format!("  {:>5.1} s  {event}", started.elapsed().as_secs_f64()));
}

/// The name of an instance that DNS found, by the name of its bot.
pub(super) fn instance(bot: &str) -> String {
    format!("{bot}.bots.test")
}

/// The first error and warning lines of a gateway's log.
pub(super) fn first_warnings(gateway: &str, log: &str) -> Vec<String> {
    let is_warning =
        |line: &&str| line.contains("\"level\":\"error\"") || line.contains("\"level\":\"warn\"");
    log.lines().filter(is_warning).take(5).map(|line| format!("{gateway} logged: {line}")).collect()
}

/// A text member of an event; empty if it is absent.
pub(super) fn word<'a>(event: &'a Value, name: &str) -> &'a str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) const DNS: &str = "dns";
const DNS_NAME: &str = "_calls._tcp.bots.test";
/// The descriptors of a gateway that has few: enough for the load, but not for the storm as well.
const DESCRIPTORS: &str = "240";

/// More than the sum of all waits of the platform.
pub(super) const END_TIME_MAX: Duration = Duration::from_secs(120);
const KEY_TIME_MAX: Duration = Duration::from_secs(30);
/// The interval of checks.
const POLL: Duration = Duration::from_millis(20);

/// Longer than the platform rings and a gateway asks Graph.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

const GATEWAYS: [&str; 3] = ["gateway-0", "gateway-1", "gateway-2"];

/// Loopback, but not the address of outgoing connections: their ports could take the port of a process that
/// restarts.
const HOST: &str = "127.0.0.2";
