//! The configuration files of the gateways in a testbed.

use std::{net::SocketAddr, path::Path};

use super::{
    layout::{App, EVERY_APP, GraphAccess, Ingress, Layout},
    members::{Bot, Gateway},
};
use crate::support::setup::trusts;

/// The values that all gateways of a testbed share.
pub(super) struct Shared<'a> {
    pub(super) layout: &'a Layout,
    /// The origin of the platform.
    pub(super) platform: &'a str,
    /// An address without a listener.
    pub(super) closed: SocketAddr,
    pub(super) seal: &'a Path,
    pub(super) secret: &'a Path,
    pub(super) wrong_secret: &'a Path,
    pub(super) bots: &'a [Bot],
    /// The address of the DNS server, whether it runs or not.
    pub(super) dns: SocketAddr,
}

impl Shared<'_> {
    /// The configuration of a gateway whose callback URIs start with `base`.
    pub(super) fn configuration(&self, gateway: &Gateway, base: SocketAddr) -> String {
        let (drain, patience) = match self.layout.ingress {
            Ingress::Crossed => (CROSSED_DRAIN, "8s"),
            Ingress::Balanced => (BALANCED_DRAIN, "15s"),
            Ingress::Scarce => (CROSSED_DRAIN, "4s"),
        };
        let mut settings = SETTINGS
            .replace("{drain}", drain)
            .replace("{patience}", patience)
            .replace("{public}", &gateway.public.to_string())
            .replace("{admin}", &gateway.admin.to_string())
            .replace("{base}", &base.to_string())
            .replace("{trusts}", &trusts(self.platform))
            .replace("{seal}", &self.seal.display().to_string());
        settings.extend(self.layout.apps.iter().map(|app| self.app(app)));
        match self.layout.ingress {
            Ingress::Crossed | Ingress::Balanced => settings.extend(self.bots.iter().map(instance)),
            Ingress::Scarce => settings.push_str(&SCARCE.replace("{dns}", &self.dns.to_string())),
        }
        settings
    }

    fn app(&self, app: &App) -> String {
        let closed = format!("http://{}", self.closed);
        let wrong = app.graph == GraphAccess::WrongSecret;
        let secret = if wrong { self.wrong_secret } else { self.secret }.display();
        let authority = if app.graph == GraphAccess::NoAuthority { &closed } else { self.platform };
        let endpoint = if app.graph == GraphAccess::NoGraph { &closed } else { self.platform };
        format!(
            "\n[[app]]\nid = \"{}\"\n[app.graph]\nsecret = {{ file = \"{secret}\" }}\nauthority = \
             \"{authority}\"\n\
             endpoint = \"{endpoint}\"\n",
            app.id
        )
    }
}

fn instance(bot: &Bot) -> String {
    let Bot { name, address, app, .. } = bot;
    let apps = if *app == EVERY_APP { String::new() } else { format!("apps = [\"{app}\"]\n") };
    format!("\n[[fleet.instance]]\nname = \"{name}\"\nurl = \"http://{address}/api/calls\"\n{apps}")
}

const CROSSED_DRAIN: &str = r#"delay = "0s", deadline = "1s""#;
/// The delay exceeds the time in which the balancer notices; the deadline exceeds the patience.
const BALANCED_DRAIN: &str = r#"delay = "1s", deadline = "20s""#;

/// A fleet that a DNS server names, and few requests at once.
const SCARCE: &str = r#"
[limits]
connections = 400
in_flight = 200

[fleet]
allow = ["127.0.0.0/8"]

[fleet.dns]
name = "_calls._tcp.bots.test"
servers = ["{dns}"]
"#;

/// A gateway of one region, in the format that the documents describe.
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
