//! The servers that are compared: the gateway with fleets of three sizes, nginx, HAProxy, and a bare proxy
//! and a bare server on hyper. All log one line of JSON per request and keep connections to one upstream.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    gateway::{self, Settings},
    machine,
    origin::Origin,
    proxies::{HAPROXY, NGINX, NGINX_HEAD, NGINX_UPSTREAM},
    traffic::{APP, SIGNING_KEY},
};
use crate::{
    fixtures::keys::key,
    support::{
        instant, pause,
        process::{Processes, START_TIME_MAX},
        setup::{free_addresses, write_private},
    },
};

/// The binaries of a comparison, and the processors to which they are pinned.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) gateway: PathBuf,
    /// `xtask-bench`.
    pub(super) tool: PathBuf,
    /// The processor of the servers that are measured, and that of all else.
    pub(super) processors: [usize; 2],
}

impl Plan {
    /// A command on the processor of the measured servers, with many file descriptors.
    pub(super) fn measured(&self, program: &Path) -> Command {
        pinned(&self.processors[..1], program)
    }

    /// A command on the other processor.
    pub(super) fn other(&self, program: &Path) -> Command {
        pinned(&self.processors[1..], program)
    }

    /// A command on both processors.
    fn both(&self, program: &Path) -> Command {
        pinned(&self.processors, program)
    }

    /// Gives all threads of a process both processors.
    fn spread(&self, process: u32) -> Result<(), String> {
        let mut taskset = Command::new("taskset");
        taskset.args(["--all-tasks", "--pid", "--cpu-list", &list(&self.processors), &process.to_string()]);
        match taskset.output() {
            Ok(output) if output.status.success() => Ok(()),
            _ => Err(format!("taskset cannot move process {process}")),
        }
    }
}

fn pinned(processors: &[usize], program: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = "ulimit -n \"$(ulimit -Hn)\" && exec taskset --cpu-list \"$0\" \"$@\"";
    command.args(["-c", script, &list(processors)]).arg(program).env("PATH", machine::path());
    command
}

fn list(processors: &[usize]) -> String {
    processors.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// A server that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Gateway,
    /// The gateway with a fleet of one instance, and one of 10,000.
    SmallFleet,
    LargeFleet,
    /// The gateway on both processors.
    OneWorker,
    TwoWorkers,
    Nginx,
    Haproxy,
    /// HAProxy, which checks the token of each request and remembers none.
    HaproxyCheck,
    HyperProxy,
    /// hyper's bare response: 204 or 302.
    Hyper204,
    Hyper302,
    /// The upstream of the others, without a proxy.
    Upstream,
}

impl Server {
    /// The name in tables and in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::SmallFleet => "gateway, fleet of 1",
            Self::LargeFleet => "gateway, fleet of 10,000",
            Self::OneWorker => "gateway, one worker",
            Self::TwoWorkers => "gateway, two workers",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::HaproxyCheck => "HAProxy, token check",
            Self::HyperProxy => "hyper proxy",
            Self::Hyper204 | Self::Hyper302 => "hyper, no proxy",
            Self::Upstream => "upstream",
        }
    }

    /// True for each form of the gateway.
    pub(super) fn is_gateway(self) -> bool {
        match self {
            Self::Gateway | Self::SmallFleet | Self::LargeFleet | Self::OneWorker | Self::TwoWorkers => true,
            Self::Nginx
            | Self::Haproxy
            | Self::HaproxyCheck
            | Self::HyperProxy
            | Self::Hyper204
            | Self::Hyper302
            | Self::Upstream => false,
        }
    }

    /// True for another form of a server that has a column of the table.
    pub(super) fn is_variant(self) -> bool {
        self == Self::HaproxyCheck || (self.is_gateway() && self != Self::Gateway)
    }
}

/// A running server.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) server: Server,
    pub(super) process: u32,
    pub(super) address: SocketAddr,
    /// The path of its callbacks. The other servers accept each path.
    pub(super) callback_path: String,
    /// The log with a line for each request. The upstream has none.
    pub(super) log: Option<PathBuf>,
}

/// The running servers, their upstream and their issuer.
pub(super) struct Subjects {
    /// Dropped first: its children use the rest.
    pub(super) processes: Processes,
    pub(super) issuer: Origin,
    pub(super) upstream: SocketAddr,
    plain: Vec<Subject>,
    secure: Vec<Subject>,
}

impl Subjects {
    /// Starts all servers.
    pub(super) fn start(plan: &Plan) -> Result<Self, String> {
        let addresses = free_addresses("127.0.0.1", 9)?;
        let [upstream, nginx, nginx_tls, haproxy, haproxy_tls, haproxy_check, proxy, hyper_204, hyper_302] =
            *addresses
        else {
            return Err("too few free ports".to_owned());
        };
        let mut subjects = Self {
            processes: Processes::new("bench")?,
            issuer: Origin::start()?,
            upstream,
            plain: Vec::new(),
            secure: Vec::new(),
        };
        let folder = subjects.processes.folder().to_owned();
        gateway::write_certificate(&folder)?;
        subjects.start_upstream(plan)?;
        // The servers with fixed addresses start first, before other processes can use these.
        subjects.start_nginx(plan, [nginx, nginx_tls])?;
        subjects.start_haproxy(plan, [haproxy, haproxy_tls], haproxy_check)?;
        let tool = |words: [&str; 5]| {
            let mut command = plan.measured(&plan.tool);
            command.args(words);
            command
        };
        let [to, at] = [upstream, proxy].map(|address| address.to_string());
        subjects.start_tool(Server::HyperProxy, proxy, tool(["proxy", "--listen", &at, "--to", &to]))?;
        for (server, address, status) in
            [(Server::Hyper204, hyper_204, "204"), (Server::Hyper302, hyper_302, "302")]
        {
            let at = address.to_string();
            subjects.start_tool(server, address, tool(["respond", "--listen", &at, "--status", status]))?;
        }
        for (server, instances, tls) in [
            (Server::Gateway, 100, false),
            (Server::Gateway, 100, true),
            (Server::SmallFleet, 1, false),
            (Server::LargeFleet, 10_000, false),
            (Server::OneWorker, 100, false),
            (Server::TwoWorkers, 100, false),
        ] {
            let subject = subjects.start_gateway(plan, server, instances, tls)?;
            if tls { subjects.secure.push(subject) } else { subjects.plain.push(subject) }
        }
        Ok(subjects)
    }

    /// A server, with or without TLS.
    pub(super) fn of(&self, server: Server, tls: bool) -> Option<&Subject> {
        let subjects = if tls { &self.secure } else { &self.plain };
        subjects.iter().find(|subject| subject.server == server)
    }

    fn start_gateway(
        &mut self,
        plan: &Plan,
        server: Server,
        instances: usize,
        tls: bool,
    ) -> Result<Subject, String> {
        let name = &server.name().replace([' ', ','], "-");
        let name = if tls { &format!("{name}-tls") } else { name };
        let folder = self.processes.folder().to_owned();
        let settings = Settings { issuer: self.issuer.address, bot: self.upstream, instances, tls };
        let settings = gateway::write_settings(&folder, name, settings)?;
        let program = &plan.gateway;
        let is_spread = server == Server::TwoWorkers;
        let mut command = if is_spread { plan.both(program) } else { plan.measured(program) };
        let gateway = gateway::start(&mut self.processes, name, &mut command, &settings)?;
        let process = self.processes.id(name)?;
        if server == Server::OneWorker {
            // It has started a worker for its one processor.
            plan.spread(process)?;
        }
        Ok(Subject {
            server,
            process,
            address: gateway.public,
            callback_path: gateway::callback_path(&plan.gateway, &settings)?,
            log: Some(folder.join(format!("{name}.log"))),
        })
    }

    fn start_upstream(&mut self, plan: &Plan) -> Result<(), String> {
        let text = NGINX_UPSTREAM.replace("{address}", &self.upstream.to_string());
        let mut command = self.nginx("upstream", &text, plan.other(Path::new("nginx")))?;
        self.processes.start("upstream", &mut command)?;
        self.plain.push(Subject {
            server: Server::Upstream,
            process: self.processes.id("upstream")?,
            address: self.upstream,
            callback_path: CALLBACK_PATH.to_owned(),
            log: None,
        });
        self.wait_for(self.upstream)
    }

    fn start_nginx(&mut self, plan: &Plan, [plain, secure]: [SocketAddr; 2]) -> Result<(), String> {
        let text = NGINX
            .replace("{upstream}", &self.upstream.to_string())
            .replace("{plain}", &plain.to_string())
            .replace("{secure}", &secure.to_string());
        let mut command = self.nginx("nginx", &text, plan.measured(Path::new("nginx")))?;
        let log = self.processes.folder().join("nginx/access.log");
        self.start_proxy(Server::Nginx, "nginx", &mut command, [plain, secure], &log)
    }

    /// The command that runs nginx in a folder of its own.
    fn nginx(&self, name: &str, text: &str, mut command: Command) -> Result<Command, String> {
        let folder = self.processes.folder().join(name);
        fs::create_dir(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let path = folder.join("nginx.conf");
        let text = format!("{NGINX_HEAD}{text}").replace("{folder}", &folder.display().to_string());
        write_private(&path, &text)?;
        command.arg("-p").arg(&folder).arg("-c").arg(&path).args(["-e", "stderr", "-g", "daemon off;"]);
        Ok(command)
    }

    fn start_haproxy(
        &mut self,
        plan: &Plan,
        [plain, secure]: [SocketAddr; 2],
        check: SocketAddr,
    ) -> Result<(), String> {
        let folder = self.processes.folder().to_owned();
        let public_key = folder.join("token-key.pem");
        write_private(&public_key, &String::from_utf8_lossy(&key(SIGNING_KEY).public_pem()))?;
        let text = HAPROXY
            .replace("{app}", APP)
            .replace("{public_key}", &public_key.display().to_string())
            .replace("{check}", &check.to_string())
            .replace("{certificate}", &folder.join("tls.pem").display().to_string())
            .replace("{upstream}", &self.upstream.to_string())
            .replace("{plain}", &plain.to_string())
            .replace("{secure}", &secure.to_string());
        let path = folder.join("haproxy.cfg");
        write_private(&path, &text)?;
        let mut command = plan.measured(Path::new("haproxy"));
        command.args(["-db", "-f"]).arg(path);
        let log = folder.join("haproxy.log");
        self.start_proxy(Server::Haproxy, "haproxy", &mut command, [plain, secure], &log)?;
        let haproxy = self.of(Server::Haproxy, false).cloned();
        self.plain.extend(haproxy.map(|haproxy| Subject {
            server: Server::HaproxyCheck,
            address: check,
            ..haproxy
        }));
        Ok(())
    }

    fn start_proxy(
        &mut self,
        server: Server,
        name: &str,
        command: &mut Command,
        addresses: [SocketAddr; 2],
        log: &Path,
    ) -> Result<(), String> {
        self.processes.start(name, command)?;
        let process = self.processes.id(name)?;
        for (address, subjects) in addresses.into_iter().zip([&mut self.plain, &mut self.secure]) {
            let callback_path = CALLBACK_PATH.to_owned();
            subjects.push(Subject { server, process, address, callback_path, log: Some(log.to_owned()) });
        }
        self.wait_for(addresses[0])
    }

    fn start_tool(
        &mut self,
        server: Server,
        address: SocketAddr,
        mut command: Command,
    ) -> Result<(), String> {
        let name = format!("hyper-{}", address.port());
        self.processes.start(&name, &mut command)?;
        let (process, log) = (self.processes.id(&name)?, self.processes.folder().join(format!("{name}.log")));
        let (callback_path, log) = (CALLBACK_PATH.to_owned(), Some(log));
        self.plain.push(Subject { server, process, address, callback_path, log });
        self.wait_for(address)
    }

    fn wait_for(&mut self, address: SocketAddr) -> Result<(), String> {
        let started = instant();
        while TcpStream::connect(address).is_err() {
            self.processes.check_running()?;
            if started.elapsed() > START_TIME_MAX {
                return Err(format!("no server listens on {address}"));
            }
            pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A path of the same length as the gateway's.
const CALLBACK_PATH: &str = "/api/callbacks/emea/bot-0/k1.0.AAAAAAAAAAAAAAAAAAAAAA";
