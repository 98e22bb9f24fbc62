//! `Config`: settings that are already valid. One TOML file is read whole before a socket is bound; secrets come from
//! the environment or from files.
//!
//! Reading order: `section` (tables whose every setting must be asked for), `unit`, `secret`, then the parts of the file
//! in its own order: `listen`, `trust`, `region`, `fleet`.

mod fleet;
mod graph;
mod listen;
mod problems;
mod region;
mod secret;
mod section;
#[cfg(test)]
pub(crate) mod tests;
mod trust;
mod unit;
mod url;

use std::{
    borrow::Cow,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::url::Url;
use switchboard_auth::{AppSettings, KeyPolicy, TrustSettings};
use switchboard_delivery::UpstreamUrl;
use switchboard_notification::Call;
use switchboard_routing::{CallbackUris, Name, Policy};
use toml::de::DeTable;
use tracing::Level;
use uuid::Uuid;

pub use self::{
    problems::{Problem, Problems},
    secret::Secret,
};
use self::{secret::Surroundings, section::Section};
pub(crate) use self::{
    secret::{bounded, read_bounded, shown},
    trust::parse_guid,
    url::{absolute as absolute_url, is_loopback},
};
use crate::telemetry::Format;

/// All settings, each of them valid, and together without contradiction.
#[derive(Debug)]
pub struct Config {
    /// The region that this gateway serves.
    pub region: Name,
    /// The public listener.
    pub listen: Listen,
    /// The admin listener.
    pub admin: Admin,
    /// The apps that may be called; at least one.
    pub apps: Vec<AppSettings>,
    /// How the gateway acts on calls, by app; for those apps that let it.
    pub graph: Vec<(Uuid, switchboard_graph::GraphSettings)>,
    /// The issuer families; at least one.
    pub trusts: Vec<Trust>,
    /// When keys are fetched, and how long they are kept.
    pub keys: KeyPolicy,
    /// Writes and reads callback URIs.
    pub callback: Arc<CallbackUris>,
    /// The other regions.
    pub peers: Vec<PeerSettings>,
    /// Which calls belong to which region.
    pub policy: Arc<Policy>,
    /// How a call is sent to another region.
    pub redirect_status: RedirectStatus,
    /// How a new call is given to an instance.
    pub placement: Placement,
    /// The fleet, and how it is reached.
    pub delivery: switchboard_delivery::DeliverySettings,
    /// What is refused for its size or number.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
}

/// The public listener: the webhook and the callbacks.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where it is bound; port 0 takes a free one.
    pub address: SocketAddr,
    /// Without it, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where the platform posts, like `/api/calls`.
    pub webhook_path: String,
    /// What the paths of callbacks start with, like `/api/callbacks`.
    pub callback_path: String,
    /// Where peers ask whether this region can take a new call.
    pub health_path: Option<String>,
    /// What SIGTERM does.
    pub drain: Drain,
}

/// A certificate chain and its key, in PEM. They were there and belonged together when the configuration was read.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The two times of a drain, both from SIGTERM.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long new connections are still served: the balancer needs to notice.
    pub delay: Duration,
    /// When what is still in flight is cut.
    pub deadline: Duration,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it is bound; never public.
    pub address: SocketAddr,
    /// What every POST and the callback URI of an instance need. Without it they are answered on loopback only.
    pub token: Option<Secret>,
}

/// One issuer family, and how its documents are reached.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Its name, documents, issuers and callers.
    pub settings: TrustSettings,
    /// Certificates that are trusted for its documents besides the system's, in PEM.
    pub ca: Option<PathBuf>,
}

/// Another region.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Its name.
    pub name: Name,
    /// Where its calls are redirected to.
    pub webhook: Url,
    /// Where its callbacks are proxied to: the origin of its gateway. Without it they are refused.
    pub callback: Option<UpstreamUrl>,
    /// Where it is asked whether it can take a call.
    pub health: Option<Url>,
}

/// The status of a redirect to another region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 302, as Microsoft's documents have it.
    Found,
    /// 307, as Microsoft's recording sample has it.
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
}

/// How a new call is given to an instance.
#[derive(Clone, Debug)]
pub struct Placement {
    /// What decides the order in which instances are asked.
    pub key: AffinityBy,
    /// From the arrival of a new call until it must be placed; less than the platform's 15 s.
    pub budget: Duration,
    /// The same for a policy-recorded call; less than the platform's 5 s.
    pub recording_budget: Duration,
    /// What happens when no instance could take it.
    pub full: Full,
}

/// What decides the order in which instances are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityBy {
    /// The call id: calls spread evenly.
    Call,
    /// `callChainId`: the legs of a call meet on one instance.
    Chain,
    /// `chatInfo.threadId`: the calls of a meeting meet on one instance.
    Thread,
    /// The token's tenant.
    Tenant,
}

impl AffinityBy {
    /// The text that is hashed for a call; its id where the notification lacks what is asked for.
    pub fn text<'c>(self, call_id: &'c str, call: &'c Call<'_>, tenant: Uuid) -> Cow<'c, str> {
        match self {
            Self::Call => call_id.into(),
            Self::Chain => call.chain_id.as_deref().unwrap_or(call_id).into(),
            Self::Thread => call.thread_id.as_deref().unwrap_or(call_id).into(),
            Self::Tenant => tenant.hyphenated().to_string().into(),
        }
    }

    /// As the configuration writes it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Chain => "chain",
            Self::Thread => "thread",
            Self::Tenant => "tenant",
        }
    }
}

/// What happens when no instance could take a new call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// 503 with `Retry-After`.
    Refuse,
    /// It is sent to this region.
    Overflow(Name),
    /// It is rejected as busy, through Graph.
    Reject,
}

/// What is refused for its size or number.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Bytes of a head.
    pub head: usize,
    /// Connections of the public listener.
    pub connections: usize,
    /// Requests under way.
    pub in_flight: usize,
    /// How long a connection may be silent between two requests.
    pub idle: Duration,
}

/// What is logged.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// How an event is written.
    pub format: Format,
    /// The least important events that are.
    pub level: Level,
}

impl Config {
    /// Reads the file at `path`, and what it names. `env` looks up environment variables.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let unreadable =
            |reason: String| Problems::of_file(format!("{} cannot be read: {reason}", shown(path)));
        let bytes = read_bounded(path, CONFIG_BYTES_MAX).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8".to_owned()))?;
        // The folder of `switchboard.toml` is "", which joins to the same relative path.
        Self::parse(&text, path.parent().unwrap_or_else(|| Path::new("")), env)
    }

    /// The configuration that `text` holds, or everything that is wrong with it. Relative paths start at `folder`.
    pub fn parse(text: &str, folder: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let (table, errors) = DeTable::parse_recoverable(text);
        // What follows the first error may be no more than its echo.
        if let Some(first) = errors.iter().min_by_key(|error| error.span().map_or(0, |span| span.start)) {
            return Err(syntax(text, first));
        }
        let root = Section::root(table.get_ref());
        let config = Self::read(&root, &Surroundings { folder, env: &env });
        let problems = root.into_problems();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(problems),
        }
    }

    fn read(root: &Section<'_>, around: &Surroundings<'_>) -> Option<Self> {
        // Every part is read before the first `?`, so that every problem is found.
        let region = region::name(root);
        let cloud =
            root.or("cloud", PUBLIC_CLOUD, |setting| setting.text("the name of a cloud, like \"public\""));
        let listen = listen::listen(root, around);
        let admin = listen::admin(root, around);
        let apps = trust::apps(root, around, cloud);
        let (apps, graph): (Option<Vec<_>>, Option<Vec<_>>) = match apps {
            Some(apps) => {
                let (apps, graph) = apps.into_iter().unzip();
                (Some(apps), Some(graph))
            }
            None => (None, None),
        };
        let trusts = trust::trusts(root, around, cloud);
        let keys = trust::keys(root, around);
        let callback =
            region::callback(root, around, listen.as_ref().map(|listen| listen.callback_path.as_str()));
        let affinity = region::affinity(root, region.as_ref());
        let peers = affinity.as_ref().map(|affinity| affinity.peers.as_slice());
        let placement = fleet::placement(root, peers, graph.as_deref());
        let fleet = fleet::fleet(root, apps.as_deref());
        let forward = root.section("forward");
        let authorization = forward.or("authorization", true, |setting| setting.boolean());
        forward.finish();
        let limits = listen::limits(root);
        let log = listen::log(root);
        if let (Some(listen), Some(admin)) = (&listen, &admin) {
            listen::check_apart(root, listen, admin);
        }
        if let (Some(apps), Some(trusts), Some(keys)) = (&apps, &trusts, &keys)
            && !root.has_problems()
        {
            trust::check_together(root, apps, trusts, keys);
        }

        if let (Some(region), Some((uris, ..)), Some(fleet)) = (&region, &callback, &fleet) {
            fleet::check_uris(root, region, uris, &fleet.instances);
        }

        let region = region?;
        let (uris, patience, orphaned) = callback?;
        let (placement, attempt) = placement?;
        let fleet::Fleet { instances, discovery, keep_leaving, slow_start, probe } = fleet?;
        let affinity = affinity?;
        Some(Self {
            delivery: switchboard_delivery::DeliverySettings {
                region: region.clone(),
                instances,
                discovery,
                keep_leaving,
                slow_start,
                probe,
                attempt,
                patience,
                orphaned,
                authorization: authorization?,
            },
            region,
            listen: listen?,
            admin: admin?,
            graph: apps
                .iter()
                .flatten()
                .map(|app| app.id)
                .zip(graph?)
                .filter_map(|(id, graph)| Some((id, graph?)))
                .collect(),
            apps: apps?,
            trusts: trusts?,
            keys: keys?,
            callback: Arc::new(uris),
            peers: affinity.peers,
            policy: Arc::new(affinity.policy),
            redirect_status: affinity.status,
            placement,
            limits: limits?,
            log: log?,
        })
    }
}

/// A text that is not TOML: nothing more can be said of its settings.
fn syntax(text: &str, error: &toml::de::Error) -> Problems {
    let span = error.span().unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default();
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    let before = before.rsplit('\n').next().unwrap_or_default();
    let column = 1 + before.chars().count();
    let message = error.message().replace(char::is_control, " ");
    let (name, advice) = if message == "duplicate key" {
        (text.get(span), "; write each setting and each table once")
    } else {
        (before.split_once('=').map(|(name, _)| name), "")
    };
    // Nothing but what may be the name of a setting: the file may be a secret's, given by mistake.
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
    };
    let name = name.map(str::trim).filter(is_name).map_or_else(String::new, |name| format!(", at `{name}`"));
    Problems::of_file(format!("line {line}, column {column}{name}: not TOML: {message}{advice}"))
}

const PUBLIC_CLOUD: &str = "public";

/// A configuration with a thousand instances is about 100 KiB.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
