//! `[listen]`, `[admin]`, `[limits]`, `[log]`: the listeners, their limits, and the log.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use openssl::{pkey::PKey, x509::X509};
use switchboard_notification::BODY_BYTES_MAX;
use tracing::Level;

use super::{
    ca::NO_CERTIFICATE,
    model::{Admin, Drain, Limits, Listen, Log, Proxies, ProxyProtocol, TlsFiles},
    secret::Surroundings,
    section::{Section, Setting},
    unit, url,
};
use crate::{certificate_findings::key_fault, telemetry::Format};

pub(super) fn listen(root: &Section<'_>, around: &Surroundings<'_>) -> Option<Listen> {
    let section = root.section("listen");
    let address = section.or("address", SocketAddr::from(([0, 0, 0, 0], 8443)), address);
    let tls = section.maybe("tls", |setting| tls(setting, around));
    let webhook_path = section.or("webhook_path", "/api/calls".to_owned(), url::path);
    let callback_path = section.or("callback_path", "/api/callbacks".to_owned(), url::path);
    let health_path = section.maybe("health_path", url::path);
    let ready_path = section.maybe("ready_path", url::path);
    let proxies = section.maybe("proxies", proxies);
    let drain = drain(&section);
    let paths = [
        ("webhook_path", webhook_path.as_deref()),
        ("callback_path", callback_path.as_deref()),
        ("health_path", health_path.as_ref().and_then(Option::as_deref)),
        ("ready_path", ready_path.as_ref().and_then(Option::as_deref)),
    ];
    for (index, (name, path)) in paths.iter().enumerate() {
        for (other_name, other) in paths.iter().take(index) {
            if let (Some(path), Some(other)) = (path, other)
                && (is_below(path, other) || is_below(other, path))
            {
                section.problem(
                    name,
                    format!(
                        "overlaps with {other_name}: one path is below the other; use separate paths, like \
                         \"/api/calls\" and \"/api/callbacks\""
                    ),
                );
            }
        }
    }
    section.finish();
    Some(Listen {
        address: address?,
        tls: tls?,
        webhook_path: webhook_path?,
        callback_path: callback_path?,
        health_path: health_path?,
        ready_path: ready_path?,
        proxies: proxies?,
        drain: drain?,
    })
}

pub(super) fn admin(root: &Section<'_>, around: &Surroundings<'_>) -> Option<Admin> {
    let section = root.section("admin");
    let address = section.or("address", SocketAddr::from(([127, 0, 0, 1], 9090)), address);
    let token = section.maybe("token", |setting| {
        let secret = around.secret(setting)?;
        let fits = !secret.expose().is_empty() && secret.expose().iter().all(u8::is_ascii_graphic);
        if !fits {
            setting.problem("not a token that a header can carry; it must be printable ASCII without spaces");
            return None;
        }
        let length = secret.expose().len();
        if length < TOKEN_BYTES_MIN {
            setting.problem(format!(
                "{length} bytes; at least {TOKEN_BYTES_MIN} are required, since it can be guessed otherwise: \
                 `switchboard keygen` makes a secret"
            ));
            return None;
        }
        Some(secret)
    });
    let instance_metrics = section.or("instance_metrics", true, |setting| setting.boolean());
    section.finish();
    Some(Admin { address: address?, instance_metrics: instance_metrics?, token: token? })
}

/// The shortest admin token: 128 bits if its bytes are random.
const TOKEN_BYTES_MIN: usize = 16;

/// Checks that the two listeners do not share a port. Port 0 is another free port each time.
pub(super) fn check_apart(root: &Section<'_>, listen: &Listen, admin: &Admin) {
    if admin.address == listen.address && admin.address.port() != 0 {
        root.problem(
            "admin.address",
            "the same as listen.address; give the admin listener its own, like \"127.0.0.1:9090\"",
        );
    }
}

pub(super) fn limits(root: &Section<'_>) -> Option<Limits> {
    let section = root.section("limits");
    let count = |name, default| {
        section.or(name, default, |setting| usize::try_from(setting.integer(1..=1_000_000)?).ok())
    };
    let body = section.size_or("body", BODY_BYTES, |setting| setting.size(&(1 << 10..=BODY_BYTES_MAX)));
    let least = body.unwrap_or(BODY_BYTES);
    let body_memory = section.size_or("body_memory", BODY_MEMORY_BYTES.max(least), |setting| {
        let bytes = setting.size(&(1 << 10..=1 << 31))?;
        if bytes < least {
            setting.problem(format!("less than limits.body, which is {}", unit::show_size(least)));
        }
        (bytes >= least).then_some(bytes)
    });
    // hyper refuses a buffer of less than 8 KiB.
    let head = section.size_or("head", 16 << 10, |setting| setting.size(&(8 << 10..=256 << 10)));
    let connections = count("connections", 10_000);
    let per_source = section
        .maybe("connections_per_source", |setting| usize::try_from(setting.integer(1..=1_000_000)?).ok());
    let in_flight = count("in_flight", 10_000);
    // An instance that hangs leaves three quarters to the others.
    let quarter = u64::try_from(in_flight.unwrap_or(1) / 4).unwrap_or(u64::MAX).max(1);
    let in_flight_per_instance = section.or("in_flight_per_instance", quarter, |setting| {
        let per_instance = setting.integer(1..=1_000_000)?;
        let exceeded =
            in_flight.filter(|in_flight| usize::try_from(per_instance).is_ok_and(|one| one > *in_flight));
        if let Some(in_flight) = exceeded {
            setting.problem(format!("more than limits.in_flight, which is {in_flight}"));
        }
        exceeded.is_none().then_some(per_instance)
    });
    let hour = Duration::from_secs(3600);
    let idle = section.or("idle", Duration::from_secs(75), |setting| {
        setting.duration(&(Duration::from_millis(100)..=hour))
    });
    section.finish();
    Some(Limits {
        body: body?,
        body_memory: body_memory?,
        head: head?,
        connections: connections?,
        connections_per_source: per_source?,
        in_flight: in_flight?,
        in_flight_per_instance: in_flight_per_instance?,
        idle: idle?,
    })
}

pub(super) fn log(root: &Section<'_>) -> Option<Log> {
    let section = root.section("log");
    let formats = [("json", Format::Json), ("text", Format::Text)];
    let format = section.word_or("format", Format::Json, &formats);
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let level = section.word_or("level", Level::INFO, &levels);
    section.finish();
    Some(Log { format: format?, level: level? })
}

fn address(setting: &Setting<'_>) -> Option<SocketAddr> {
    setting
        .parse("an IP address and a port, like \"127.0.0.1:9090\" or \"[::]:8443\"", |text| text.parse().ok())
}

fn drain(listen: &Section<'_>) -> Option<Drain> {
    let section = listen.section("drain");
    let hour = Duration::from_secs(3600);
    let delay =
        section.or("delay", Duration::from_secs(5), |setting| setting.duration(&(Duration::ZERO..=hour)));
    // By default, requests in flight have five seconds after the delay.
    let usual = delay.unwrap_or_default() + Duration::from_secs(5);
    let deadline = section.or("deadline", usual, |setting| {
        let deadline = setting.duration(&(Duration::ZERO..=hour))?;
        let longer = delay.filter(|delay| deadline < *delay);
        if let Some(delay) = longer {
            let delay = unit::show(delay);
            setting.problem(format!(
                "shorter than listen.drain.delay, which is {delay}; both count from SIGTERM"
            ));
        }
        longer.is_none().then_some(deadline)
    });
    section.finish();
    Some(Drain { delay: delay?, deadline: deadline? })
}

fn proxies(setting: &Setting<'_>) -> Option<Proxies> {
    const NETWORKS: &str = "a list of networks, like [\"10.0.0.0/8\"]";
    let section = setting.table("{ networks = [\"10.0.0.0/8\"], protocol = \"proxy\" }");
    let networks = section.required("networks", NETWORKS).and_then(|setting| {
        let networks = setting.each(NETWORKS, network)?;
        if networks.is_empty() {
            setting.problem(format!("empty; write {NETWORKS}"));
        }
        (!networks.is_empty()).then_some(networks)
    });
    let protocols = [("proxy", ProxyProtocol::Header), ("x-forwarded-for", ProxyProtocol::XForwardedFor)];
    let protocol = section.required("protocol", "\"proxy\" or \"x-forwarded-for\"");
    let protocol = protocol.and_then(|setting| setting.word(&protocols));
    section.finish();
    Some(Proxies { networks: networks?, protocol: protocol? })
}

/// Reads a network, or one address.
fn network(setting: &Setting<'_>) -> Option<IpNet> {
    setting.parse("a network like \"10.0.0.0/8\" or an address like \"10.0.0.4\"", |text| {
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    })
}

/// Reads both files, so that a pair that does not match is found here and not at the first handshake.
fn tls(setting: &Setting<'_>, around: &Surroundings<'_>) -> Option<TlsFiles> {
    let section = setting.table("{ certificate = \"tls.crt\", key = \"tls.key\" }");
    if around.without_secrets {
        let right = "the path of a PEM file";
        let path = |name| section.required(name, right).and_then(|setting| around.path(&setting, right));
        let (certificate, key) = (path("certificate"), path("key"));
        section.finish();
        return Some(TlsFiles { certificate: certificate?, key: key? });
    }
    let certificate = section.required("certificate", "the path of a PEM file").and_then(|setting| {
        let (path, pem) = around.read(&setting)?;
        let chain = X509::stack_from_pem(&pem).unwrap_or_default();
        if chain.is_empty() {
            setting.problem(NO_CERTIFICATE);
            return None;
        }
        Some((path, chain))
    });
    let key = section.required("key", "the path of a PEM file").and_then(|setting| {
        let (path, pem) = around.read(&setting)?;
        // OpenSSL would ask for the password of an encrypted key on the terminal. Pass an empty one instead.
        let Ok(key) = PKey::private_key_from_pem_passphrase(&pem, b"") else {
            setting.problem("not a PEM file with a private key without a password");
            return None;
        };
        Some((path, key))
    });
    section.finish();
    let ((certificate, chain), (key, private)) = (certificate?, key?);
    if let Some(fault) = key_fault(&chain, &private) {
        setting.problem(fault.to_string());
        return None;
    }
    Some(TlsFiles { certificate, key })
}

/// The roster of 1,000 people, the most that take part in a meeting, has 1.8 MB.
const BODY_BYTES: usize = 4 << 20;
/// Sixty of the largest bodies, or many more requests of common size than may be in flight.
const BODY_MEMORY_BYTES: usize = 256 << 20;

/// True if `path` is `other` or below it.
fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
