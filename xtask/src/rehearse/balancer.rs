//! HAProxy in front of the gateways: a TCP load balancer, as in production.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use super::members::Gateway;
use crate::support::{
    http, instant, pause,
    process::{Processes, START_TIME_MAX},
    setup::write_private,
};

/// The path of the program.
pub(super) struct Balancer(PathBuf);

impl Balancer {
    /// Finds the program, or says how to install it.
    pub(super) fn find() -> Result<Self, String> {
        let runs = |program: &PathBuf| {
            let mut command = Command::new(program);
            command.arg("-v").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        // Debian installs it in a folder that is in root's path only.
        let mut places = ["haproxy", "/usr/sbin/haproxy"].into_iter().map(PathBuf::from);
        places.find(runs).map(Self).ok_or_else(|| {
            "haproxy is not installed; the rehearsal needs it as the load balancer; run ./install-packages"
                .to_owned()
        })
    }

    /// Starts the balancer, and waits until it forwards connections.
    pub(super) fn start(
        self,
        processes: &mut Processes,
        address: SocketAddr,
        gateways: &[Gateway],
    ) -> Result<(), String> {
        let path = processes.folder().join("haproxy.cfg");
        write_private(&path, &settings(address, gateways))?;
        // In the foreground, as one process, so that it ends like every other child.
        processes.start(NAME, Command::new(self.0).args(["-db", "-f"]).arg(path))?;
        let started = instant();
        // A gateway returns 404 for this path.
        while !matches!(http::get(address, "/"), Ok((404, _))) {
            processes.check_running()?;
            if started.elapsed() > START_TIME_MAX {
                return Err(format!(
                    "the {NAME} forwards no connection; its last lines:\n{}",
                    processes.last_lines(NAME)
                ));
            }
            pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The configuration of the balancer. `/readyz` decides which gateways receive new connections. Existing
/// connections stay open.
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
    # Longer than a callback waits for its instance.
    timeout client 60s
    timeout server 60s
    # If a gateway has just closed its socket, ask the next one.
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
