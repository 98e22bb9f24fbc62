//! Who is there: one platform, the gateways of one region with the same settings, and the bots of a cast.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::{
    balancer::Balancer,
    http, instant, pause,
    process::{Binaries, Processes, START_TIME_MAX},
    setup::{free_addresses, new_secret, text, trusts, write_private},
};
use crate::console::say;

/// Who is to be there.
pub(super) struct Cast {
    /// What the platform is started with besides the apps.
    pub(super) platform: &'static [&'static str],
    pub(super) apps: &'static [App],
    pub(super) players: &'static [Player],
    pub(super) front: Front,
}

/// Which gateways there are, and how they are reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    /// Two. The callbacks of the calls that one places come to the other: what a balancer does now and then is done each
    /// time.
    Crossed,
    /// Three behind a balancer of connections, which is all that the platform knows. Instances are waited for longer, and
    /// a gateway that is to end gives the balancer time to notice.
    Balanced,
}

/// An app that may be called, and how the gateways reach Graph for it.
pub(super) struct App {
    pub(super) id: &'static str,
    pub(super) graph: Access,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Right,
    /// The secret is none that the platform knows.
    WrongSecret,
    /// Nobody listens where Graph should be.
    NoGraph,
    /// Nobody listens where tokens should come from.
    NoAuthority,
}

/// A bot instance.
pub(super) struct Player {
    pub(super) name: &'static str,
    /// Its app; the gateways give it no calls of others.
    pub(super) app: &'static str,
    /// `--answer`.
    pub(super) answer: &'static str,
}

/// All processes and where they listen. They end when it is dropped.
pub(super) struct Scene {
    pub(super) processes: Processes,
    emulator: PathBuf,
    gateway: PathBuf,
    /// Like `http://127.0.0.1:4000`.
    pub(super) platform: String,
    pub(super) gateways: Vec<Gateway>,
    /// Where the platform finds all gateways, if they are balanced.
    pub(super) balancer: Option<SocketAddr>,
    pub(super) bots: Vec<Bot>,
    /// Of every app.
    pub(super) secret: String,
}

pub(super) struct Gateway {
    pub(super) name: &'static str,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
}

pub(super) struct Bot {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    app: &'static str,
    answer: &'static str,
}

impl Scene {
    pub(super) fn start(binaries: &Binaries, cast: &Cast) -> Result<Self, String> {
        let started = instant();
        let mut processes = Processes::new("rehearse")?;
        let secret = new_secret()?;
        let mut serve = Command::new(&binaries.emulator);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--json"]).args(cast.platform);
        for app in cast.apps {
            serve.args(["--app-id", app.id, "--secret", &secret]);
        }
        let platform = text(&processes.start_and_read("platform", &mut serve)?, "origin")?;
        let (emulator, gateway) = (binaries.emulator.clone(), binaries.gateway.clone());
        let (gateways, bots, balancer) = (Vec::new(), Vec::new(), None);
        let mut scene = Self { processes, emulator, gateway, platform, gateways, balancer, bots, secret };

        for player in cast.players {
            let Player { name, app, answer } = *player;
            let address = scene.start_bot(name, app, answer, &format!("{HOST}:0"))?;
            scene.bots.push(Bot { name, address, app, answer });
        }
        scene.start_gateways(cast)?;
        say(&format!(
            "  one platform, {} bots and {} gateways are ready after {:.1} s",
            scene.bots.len(),
            scene.gateways.len(),
            started.elapsed().as_secs_f64()
        ));
        Ok(scene)
    }

    fn start_bot(&mut self, name: &str, app: &str, answer: &str, listen: &str) -> Result<SocketAddr, String> {
        let mut command = Command::new(&self.emulator);
        command.args(["bot", "--json", "--name", name, "--listen", listen, "--platform", &self.platform]);
        command.args(["--answer", answer, "--app-id", app, "--secret", &self.secret]);
        command.arg("--journal").arg(self.journal(name));
        let bot = self.processes.start_and_read(name, &mut command)?;
        let url = text(&bot, "url")?;
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        address.ok_or_else(|| format!("{name} is at {url}, which is no address"))
    }

    /// What a bot writes down, through all its lives.
    pub(super) fn journal(&self, name: &str) -> PathBuf {
        self.processes.folder().join(format!("{name}.journal"))
    }

    /// Starts a bot anew that has ended, under its name and address.
    pub(super) fn restart_bot(&mut self, name: &str) -> Result<(), String> {
        let bot =
            self.bots.iter().find(|bot| bot.name == name).ok_or_else(|| format!("there is no {name}"))?;
        let (app, answer, address) = (bot.app, bot.answer, bot.address.to_string());
        self.start_bot(name, app, answer, &address).map(|_| ())
    }

    fn start_gateways(&mut self, cast: &Cast) -> Result<(), String> {
        let folder = self.processes.folder().to_owned();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            write_private(&path, text).map(|()| path)
        };
        let seal = file("seal", &new_secret()?)?;
        let secret = file("secret", &self.secret)?;
        let wrong_secret = file("wrong-secret", &new_secret()?)?;
        let count = match cast.front {
            Front::Crossed => 2,
            Front::Balanced => 3,
        };
        // Nobody is to listen at the first one.
        let mut free = free_addresses(HOST, 2 + 2 * count)?.into_iter();
        let mut next = || free.next().ok_or("too few free ports");
        let (nobody, balancer) = (next()?, next()?);
        for name in GATEWAYS.into_iter().take(count) {
            self.gateways.push(Gateway { name, public: next()?, admin: next()? });
        }
        let (drain, patience, bases): (_, _, Vec<SocketAddr>) = match cast.front {
            Front::Crossed => {
                (CROSSED_DRAIN, "8s", self.gateways.iter().rev().map(|other| other.public).collect())
            }
            Front::Balanced => (BALANCED_DRAIN, "15s", vec![balancer; count]),
        };
        let apps = apps(cast, &self.platform, nobody, [&secret, &wrong_secret]);
        for (gateway, base) in self.gateways.iter().zip(bases) {
            let settings = SETTINGS
                .replace("{drain}", drain)
                .replace("{patience}", patience)
                .replace("{public}", &gateway.public.to_string())
                .replace("{admin}", &gateway.admin.to_string())
                .replace("{base}", &base.to_string())
                .replace("{trusts}", &trusts(&self.platform))
                .replace("{seal}", &seal.display().to_string());
            let settings = format!("{settings}{apps}{}", fleet(&self.bots));
            file(&format!("{}.toml", gateway.name), &settings)?;
        }
        for name in GATEWAYS.into_iter().take(count) {
            self.start_gateway(name)?;
        }
        let started = instant();
        while let Some(name) = self.unready() {
            self.processes.dead()?;
            if started.elapsed() > START_TIME_MAX {
                let log = self.processes.last_lines(name);
                return Err(format!("{name} is not ready; its last lines:\n{log}"));
            }
            pause(Duration::from_millis(50));
        }
        if cast.front == Front::Balanced {
            Balancer::find()?.start(&mut self.processes, balancer, &self.gateways)?;
            self.balancer = Some(balancer);
        }
        Ok(())
    }

    /// Starts a gateway with the settings that were written for it.
    pub(super) fn start_gateway(&mut self, name: &str) -> Result<(), String> {
        let settings = self.processes.folder().join(format!("{name}.toml"));
        self.processes.start(name, Command::new(&self.gateway).args(["serve", "--config"]).arg(settings))
    }

    /// A gateway that is not ready, or does not know every instance to be.
    pub(super) fn unready(&self) -> Option<&'static str> {
        let is_ready = |gateway: &Gateway| {
            let fleet = http::get(gateway.admin, "/fleet").map(|(_, body)| body).unwrap_or_default();
            let ready = fleet.matches("\"state\":\"ready\"").count();
            ready == self.bots.len() && matches!(http::get(gateway.admin, "/readyz"), Ok((200, _)))
        };
        self.gateways.iter().find(|gateway| !is_ready(gateway)).map(|gateway| gateway.name)
    }

    /// `switchboard fleet VERB NAME` at the admin listener of a gateway.
    pub(super) fn fleet(&self, gateway: &Gateway, verb: &str, name: &str) -> Command {
        let mut command = Command::new(&self.gateway);
        command.args(["fleet", verb, name, "--admin", &format!("http://{}", gateway.admin)]);
        command
    }

    /// A command of the emulator that places calls of an app through a gateway or the balancer.
    pub(super) fn calling(&self, verb: &str, app: &str, front: SocketAddr) -> Command {
        let mut command = Command::new(&self.emulator);
        let to = format!("http://{front}/api/calls");
        command.args([verb, "--json", "--platform", &self.platform, "--app-id", app, "--to", &to]);
        command
    }

    /// Places one call, and gives its events.
    pub(super) fn call(&mut self, app: &str, gateway: usize, options: &[&str]) -> Result<Vec<Value>, String> {
        let gateway = self.gateways.get(gateway % self.gateways.len()).ok_or("no gateway")?;
        let mut command = self.calling("call", app, gateway.public);
        self.processes.start_task("call", command.args(options))?;
        let (_, said) = self.processes.wait("call", CALL_TIME_MAX)?;
        Ok(said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Lets exactly this go wrong from now on.
    pub(super) fn set_fault(&self, fault: Option<(&str, &str)>) -> Result<(), String> {
        let faults: Value =
            fault.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        self.tell_platform("PUT", "/emulator/faults", &faults.to_string())
    }

    /// Lets the platform place no more calls.
    pub(super) fn end_loads(&self) -> Result<(), String> {
        self.tell_platform("DELETE", "/emulator/load", "")
    }

    fn tell_platform(&self, method: &str, path: &str, body: &str) -> Result<(), String> {
        let address = self.platform.strip_prefix("http://").and_then(|address| address.parse().ok());
        let address: SocketAddr = address.ok_or("the platform has no address")?;
        match http::send(address, method, path, body)? {
            (200..300, _) => Ok(()),
            (status, body) => Err(format!("the platform does not take {method} {path}: {status} {body}")),
        }
    }
}

/// A text member of an event, or nothing.
pub(super) fn word<'a>(event: &'a Value, name: &str) -> &'a str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn apps(cast: &Cast, platform: &str, nobody: SocketAddr, [secret, wrong]: [&Path; 2]) -> String {
    let nobody = format!("http://{nobody}");
    let section = |app: &App| {
        let secret = if app.graph == Access::WrongSecret { wrong } else { secret }.display();
        let authority = if app.graph == Access::NoAuthority { &nobody } else { platform };
        let endpoint = if app.graph == Access::NoGraph { &nobody } else { platform };
        format!(
            "\n[[app]]\nid = \"{}\"\n[app.graph]\nsecret = {{ file = \"{secret}\" }}\nauthority = \"{authority}\"\nendpoint = \"{endpoint}\"\n",
            app.id
        )
    };
    cast.apps.iter().map(section).collect()
}

fn fleet(bots: &[Bot]) -> String {
    let section = |bot: &Bot| {
        let Bot { name, address, app, .. } = bot;
        // Those that stand for every app serve every app.
        let apps = if *app == EVERY_APP { String::new() } else { format!("apps = [\"{app}\"]\n") };
        format!("\n[[fleet.instance]]\nname = \"{name}\"\nurl = \"http://{address}/api/calls\"\n{apps}")
    };
    bots.iter().map(section).collect()
}

/// The app of bots that take the calls of every app.
pub(super) const EVERY_APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4200";

/// Longer than the platform rings and a gateway asks Graph.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

const GATEWAYS: [&str; 3] = ["gateway-0", "gateway-1", "gateway-2"];

/// Loopback, but not the address from which connections are made: their ports would now and then take that of a process
/// which is being started anew.
const HOST: &str = "127.0.0.2";

const CROSSED_DRAIN: &str = r#"delay = "0s", deadline = "1s""#;
/// The delay is more than the balancer needs to notice, the deadline more than patience.
const BALANCED_DRAIN: &str = r#"delay = "1s", deadline = "20s""#;

/// A gateway, as docs/configuration.md describes it.
const SETTINGS: &str = r#"# Made by `cargo xtask rehearse`.
region = "emea"

[listen]
address = "{public}"
drain = { {drain} }

[admin]
address = "{admin}"

{trusts}

[callback]
base = "http://{base}"
patience = "{patience}"
seal = [{ id = "k1", secret = { file = "{seal}" } }]

[fleet.probe]
path = "/healthz"
interval = "500ms"
"#;
