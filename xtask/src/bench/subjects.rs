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
};
use crate::support::{
    instant, pause,
    process::{Processes, START_TIME_MAX},
    setup::{free_addresses, write_private},
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
        pinned(self.processors[0], program)
    }

    /// A command on the other processor.
    pub(super) fn other(&self, program: &Path) -> Command {
        pinned(self.processors[1], program)
    }
}

fn pinned(processor: usize, program: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = "ulimit -n \"$(ulimit -Hn)\" && exec taskset --cpu-list \"$0\" \"$@\"";
    command.args(["-c", script, &processor.to_string()]).arg(program).env("PATH", machine::path());
    command
}

/// A server that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Gateway,
    /// The gateway with a fleet of one instance, and one of 10,000.
    SmallFleet,
    LargeFleet,
    Nginx,
    Haproxy,
    HyperProxy,
    /// hyper's bare response: 204 or 302.
    Hyper204,
    Hyper302,
}

impl Server {
    /// The name in tables and in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::SmallFleet => "gateway, fleet of 1",
            Self::LargeFleet => "gateway, fleet of 10,000",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::HyperProxy => "hyper proxy",
            Self::Hyper204 | Self::Hyper302 => "hyper, no proxy",
        }
    }

    /// True for each form of the gateway.
    pub(super) fn is_gateway(self) -> bool {
        matches!(self, Self::Gateway | Self::SmallFleet | Self::LargeFleet)
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
    pub(super) log: PathBuf,
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
        let addresses = free_addresses("127.0.0.1", 8)?;
        let [upstream, nginx, nginx_tls, haproxy, haproxy_tls, proxy, hyper_204, hyper_302] = *addresses
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
        for (server, instances, tls) in [
            (Server::Gateway, 100, false),
            (Server::Gateway, 100, true),
            (Server::SmallFleet, 1, false),
            (Server::LargeFleet, 10_000, false),
        ] {
            let name = format!("gateway-{instances}{}", if tls { "-tls" } else { "" });
            let subject = subjects.start_gateway(plan, server, &name, instances, tls)?;
            if tls { subjects.secure.push(subject) } else { subjects.plain.push(subject) }
        }
        subjects.start_nginx(plan, [nginx, nginx_tls])?;
        subjects.start_haproxy(plan, [haproxy, haproxy_tls])?;
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
        name: &str,
        instances: usize,
        tls: bool,
    ) -> Result<Subject, String> {
        let folder = self.processes.folder().to_owned();
        let settings = Settings { issuer: self.issuer.address, bot: self.upstream, instances, tls };
        let settings = gateway::write_settings(&folder, name, settings)?;
        let mut command = plan.measured(&plan.gateway);
        let gateway = gateway::start(&mut self.processes, name, &mut command, &settings)?;
        Ok(Subject {
            server,
            process: self.processes.id(name)?,
            address: gateway.public,
            callback_path: gateway::callback_path(&plan.gateway, &settings)?,
            log: folder.join(format!("{name}.log")),
        })
    }

    fn start_upstream(&mut self, plan: &Plan) -> Result<(), String> {
        let text = NGINX_UPSTREAM.replace("{address}", &self.upstream.to_string());
        let mut command = self.nginx("upstream", &text, plan.other(Path::new("nginx")))?;
        self.processes.start("upstream", &mut command)?;
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

    fn start_haproxy(&mut self, plan: &Plan, [plain, secure]: [SocketAddr; 2]) -> Result<(), String> {
        let folder = self.processes.folder().to_owned();
        let text = HAPROXY
            .replace("{certificate}", &folder.join("tls.pem").display().to_string())
            .replace("{upstream}", &self.upstream.to_string())
            .replace("{plain}", &plain.to_string())
            .replace("{secure}", &secure.to_string());
        let path = folder.join("haproxy.cfg");
        write_private(&path, &text)?;
        let mut command = plan.measured(Path::new("haproxy"));
        command.args(["-db", "-f"]).arg(path);
        let log = folder.join("haproxy.log");
        self.start_proxy(Server::Haproxy, "haproxy", &mut command, [plain, secure], &log)
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
            subjects.push(Subject { server, process, address, callback_path, log: log.to_owned() });
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
        self.plain.push(Subject { server, process, address, callback_path: CALLBACK_PATH.to_owned(), log });
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

/// One process: workers would survive a master that is killed.
const NGINX_HEAD: &str = "# Made by `cargo xtask bench`.
master_process off;
pid {folder}/pid;
events { worker_connections 16384; }
";

const NGINX_UPSTREAM: &str = "http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    server { listen {address}; location / { return 202; } }
}
";

/// The log is written several times a second, as the gateway writes its own.
const NGINX: &str = r#"http {
    log_format json escape=json '{"time":"$time_iso8601","method":"$request_method","path":"$uri",'
        '"status":$status,"duration":$request_time,"address":"$remote_addr","bytes":$body_bytes_sent}';
    access_log {folder}/access.log json buffer=64k flush=250ms;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    keepalive_requests 1000000000;
    upstream bots { server {upstream}; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen {plain};
        listen {secure} ssl;
        ssl_certificate {folder}/../tls.crt;
        ssl_certificate_key {folder}/../tls.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:10m;
        location / {
            proxy_pass http://bots;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
"#;

const HAPROXY: &str = r#"# Made by `cargo xtask bench`.
global
    nbthread 1
    maxconn 16000
    no strict-limits
    log stdout format raw local0

defaults
    mode http
    log global
    log-format '{"time":"%tr","method":"%HM","path":"%HP","status":%ST,"duration_ms":%Ta,"address":"%ci","bytes":%B}'
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s

frontend platform
    bind {plain}
    bind {secure} ssl crt {certificate}
    default_backend bots

backend bots
    http-reuse always
    server bot {upstream}
"#;
