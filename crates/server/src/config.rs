//! `Config`: valid settings. The gateway reads one TOML file whole before it binds a socket. Secrets come
//! from the environment or from files.
//!
//! Reading order: `settings` (every setting, in one table), `model` (the parts of a configuration), `section`
//! (a table in which an unread setting is a problem), `unit`, `secret`, then the parsers in the order of the
//! file: `listen`, `trust`, `region`, `placement`, `fleet`.

mod ca;
mod changes;
mod cloud;
mod effective;
mod file_fingerprint;
mod file_time;
mod fleet;
mod fleet_file;
mod graph;
mod guid;
mod hint;
mod instance;
mod json;
mod listen;
mod loops;
mod model;
mod placement;
mod problems;
mod region;
mod secret;
mod section;
pub mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod trust;
mod unit;
mod url;
mod written;

use std::{path::Path, sync::Arc};

use serde_json::Value;
use switchboard_auth::{AppSettings, KeyPolicy};
use switchboard_delivery::ProbeSettings;
use switchboard_routing::{CallbackUris, Name, Policy};
use toml::de::DeTable;
use uuid::Uuid;

pub use self::{
    ca::CaCertificates,
    changes::{Change, changes, shown_value},
    effective::EffectiveConfig,
    file_time::FileHangs,
    fleet_file::FleetFile,
    model::{
        Admin, AffinityBy, Drain, Full, Limits, Listen, Log, PeerSettings, Placement, Proxies, ProxyProtocol,
        RedirectStatus, TlsFiles, Trust,
    },
    problems::{Position, Problem, Problems},
    secret::Secret,
};
use self::{
    cloud::Cloud,
    secret::Surroundings,
    section::Section,
    text::{tables, text},
};
pub(crate) use self::{
    file_fingerprint::FileFingerprint,
    file_time::is_running,
    guid::parse_guid,
    secret::{FILE_BYTES_MAX, bounded, read_bounded, shown},
    url::{absolute as absolute_url, is_loopback},
};

/// All settings: each is valid, and they do not contradict each other.
#[derive(Debug)]
pub struct Config {
    /// The region that this gateway serves.
    pub region: Name,
    /// The public listener.
    pub listen: Listen,
    /// The admin listener.
    pub admin: Admin,
    /// The apps that the gateway serves; at least one.
    pub apps: Vec<AppSettings>,
    /// The calls API of each app for which the gateway acts on calls.
    pub graph: Vec<(Uuid, switchboard_graph::GraphSettings)>,
    /// The issuer families; at least one.
    pub trusts: Vec<Trust>,
    /// The rules for fetching and keeping keys.
    pub keys: KeyPolicy,
    /// Writes and reads callback URIs.
    pub callback: Arc<CallbackUris>,
    /// The other regions.
    pub peers: Vec<PeerSettings>,
    /// The rules that give calls to regions.
    pub policy: Arc<Policy>,
    /// The status of a redirect to another region.
    pub redirect_status: RedirectStatus,
    /// The rules by which a new call is placed on an instance.
    pub placement: Placement,
    /// The fleet, and the way to it.
    pub delivery: switchboard_delivery::DeliverySettings,
    /// The file that lists the fleet, if one does. `delivery` has it, too.
    pub fleet_file: Option<Arc<FleetFile>>,
    /// The certificate authorities that are trusted for https instances besides the system's, in PEM.
    pub instances_ca: Option<CaCertificates>,
    /// The part by which the wanted size of the fleet exceeds what the present calls need.
    pub head_room: f64,
    /// True if instances receive `X-Forwarded-For`, `-Host` and `-Proto`.
    pub x_forwarded: bool,
    /// The limits of size, number and idle time.
    pub limits: Limits,
    /// The settings of the log.
    pub log: Log,
    /// All settings as operators see them.
    pub effective: EffectiveConfig,
}

impl Config {
    /// Reads the file at `path` and the files that it names. `env` looks up environment variables.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the configuration is not valid: all of its problems.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        Self::load_in(path, &Surroundings { folder: folder_of(path), env: &env, without_secrets: false })
    }

    /// Reads the file at `path`, but no file or environment variable that it names. The secrets of the result
    /// are placeholders, so it must not serve.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the configuration is not valid: all problems that show without secrets,
    /// certificates and keys.
    pub fn load_without_secrets(path: &Path) -> Result<Self, Problems> {
        Self::load_in(path, &Surroundings { folder: folder_of(path), env: &|_| None, without_secrets: true })
    }

    /// Returns the position of a setting in the file at `path`, for a warning about a valid configuration.
    pub(crate) fn position_of(path: &Path, setting: &str) -> Option<Position> {
        let text = read_bounded(path, CONFIG_BYTES_MAX).and_then(text).ok()?;
        let file = DeTable::parse(&text).ok()?;
        let (mut table, mut start) = (Some(file.get_ref()), None);
        for name in setting.split('.') {
            let (key, value) = table?.get_key_value(name)?;
            start = Some(key.span().start);
            table = value.get_ref().as_table();
        }
        Some(Position::of(&text, start?))
    }

    fn load_in(path: &Path, around: &Surroundings<'_>) -> Result<Self, Problems> {
        let loaded = read_bounded(path, CONFIG_BYTES_MAX)
            .and_then(text)
            .map_err(|reason| Problems::of_file(format!("cannot be read: {reason}")))
            .and_then(|text| Self::parse_in(&text, around));
        loaded.map_err(|problems| problems.in_file(shown(path)))
    }

    /// Parses a configuration. Relative paths start at `folder`.
    ///
    /// # Errors
    ///
    /// The configuration is not valid: all of its problems.
    pub fn parse(text: &str, folder: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        Self::parse_in(text, &Surroundings { folder, env: &env, without_secrets: false })
    }

    fn parse_in(text: &str, around: &Surroundings<'_>) -> Result<Self, Problems> {
        let table = tables(text)?;
        let root = Section::root(table.get_ref());
        let config =
            Self::read(&root, around, |defaults| EffectiveConfig::new(text, table.get_ref(), defaults));
        let problems = root.into_problems();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(problems.placed_in(text)),
        }
    }

    fn read(
        root: &Section<'_>,
        around: &Surroundings<'_>,
        effective: impl FnOnce(Vec<(String, Value)>) -> EffectiveConfig,
    ) -> Option<Self> {
        // Read every part before the first `?`, so that every problem is found.
        let region = region::name(root);
        let cloud = Cloud::read(root);
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
        let placement = placement::placement(root, peers, graph.as_deref());
        let address = listen.as_ref().map(|listen| listen.address);
        let base = callback.as_ref().map(|callback| &callback.base);
        let fleet = fleet::fleet(root, around, apps.as_deref(), address, base);
        let forward = root.section("forward");
        let authorization = forward.or("authorization", true, |setting| setting.boolean());
        let x_forwarded = forward.or("x_forwarded", false, |setting| setting.boolean());
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

        if let (Some(region), Some(callback), Some(fleet)) = (&region, &callback, &fleet) {
            fleet::check_uris(root, region, &callback.uris, &fleet.instances);
        }
        if let Some(fleet) = &fleet {
            loops::check(root, "fleet.instance", address, base, &fleet.instances);
        }

        let region = region?;
        let region::Callback { base: _, uris, patience, orphaned } = callback?;
        let (placement, attempt, eject_share, fill) = placement?;
        let fleet::Fleet {
            instances,
            discovery,
            file: fleet_file,
            store,
            name_servers,
            keep_leaving,
            slow_start,
            head_room,
            probe,
            ca: instances_ca,
        } = fleet?;
        let (affinity, limits, x_forwarded) = (affinity?, limits?, x_forwarded?);
        Some(Self {
            delivery: switchboard_delivery::DeliverySettings {
                region: region.clone(),
                instances,
                discovery,
                store,
                name_servers,
                keep_leaving,
                slow_start,
                fill,
                eject_share,
                probe: probe.map(|probe| ProbeSettings { is_forwarded: x_forwarded, ..probe }),
                attempt,
                waiting_max: (limits.in_flight / WAITING_PART).max(1),
                patience,
                in_flight_per_instance: limits.in_flight_per_instance,
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
            fleet_file,
            instances_ca,
            head_room,
            x_forwarded,
            limits,
            log: log?,
            effective: effective(root.defaults()),
        })
    }
}

/// One request in so many may be a new call that waits for an instance. A wait that lasts must not use up the
/// gateway.
const WAITING_PART: usize = 10;

/// The folder of a configuration. That of `switchboard.toml` is "", to which a relative path joins unchanged.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

/// The largest configuration. One with a thousand instances has about 100 KiB.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
