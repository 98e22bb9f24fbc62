//! HAProxy in front of the gateways: a balancer of connections, as one stands there in production.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{
    http, instant, pause,
    process::{Processes, START_TIME_MAX},
    scene::Gateway,
    setup::write_private,
};

/// The program.
pub(super) struct Balancer(PathBuf);

impl Balancer {
    /// Looks for it.
    pub(super) fn find() -> Result<Self, String> {
        let runs = |program: &PathBuf| {
            let mut command = Command::new(program);
            command.arg("-v").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        // Debian keeps it where only root looks.
        let mut places = ["haproxy", "/usr/sbin/haproxy"].into_iter().map(PathBuf::from);
        places.find(runs).map(Self).ok_or_else(|| {
            "haproxy is not installed, and gateways that restart need a balancer in front of them: \
             ./install-packages installs it"
                .to_owned()
        })
    }

    /// Starts it, and waits until it lets connections through.
    pub(super) fn start(
        self,
        processes: &mut Processes,
        address: SocketAddr,
        gateways: &[Gateway],
    ) -> Result<(), String> {
        let path = processes.folder().join("haproxy.cfg");
        write_private(&path, &settings(address, gateways))?;
        // In the foreground, as one process: so it is ended like every other.
        processes.start(NAME, Command::new(self.0).args(["-db", "-f"]).arg(path))?;
        let started = instant();
        // Nothing is there, so a gateway says 404.
        while !matches!(http::get(address, "/"), Ok((404, _))) {
            processes.dead()?;
            if started.elapsed() > START_TIME_MAX {
                return Err(format!(
                    "{NAME} lets nothing through; its last lines:\n{}",
                    processes.last_lines(NAME)
                ));
            }
            pause(super::POLL);
        }
        Ok(())
    }
}

/// `readyz` decides who gets new connections; those that there are stay, also when it says no.
fn settings(address: SocketAddr, gateways: &[Gateway]) -> String {
    let servers: String = gateways
        .iter()
        .map(|Gateway { name, public, admin }| {
            format!("    server {name} {public} check addr {} port {}\n", admin.ip(), admin.port())
        })
        .collect();
    format!(
        "# Made by `cargo xtask rehearse`.
global
    maxconn 1000
    no strict-limits
    log stdout format raw local0 notice

defaults
    mode tcp
    log global
    timeout connect 1s
    timeout check 1s
    # Longer than a callback may wait for its instance.
    timeout client 60s
    timeout server 60s
    # A gateway that has just closed its socket: the next one is asked.
    retries 3
    option redispatch 1

frontend platform
    bind {address}
    default_backend gateways

backend gateways
    balance roundrobin
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost hdr Connection close
    http-check expect status 200
    default-server inter 200ms fall 2 rise 1
{servers}"
    )
}

const NAME: &str = "balancer";
