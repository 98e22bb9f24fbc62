//! The instances in SRV records (RFC 2782): one per target.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use hickory_resolver::proto::rr::{RData, RecordType, rdata::SRV};
use switchboard_routing::Name;
use tokio::task::JoinSet;

use super::members::{check_count, member};
use crate::{
    discovery::source::{SourceError, instance_name, loggable},
    member::Member,
    names::ADDRESSES_MAX,
    network::first_forbidden,
    resolver::{FoundAddresses, FullName, LookupError, Resolver},
    settings::DnsSettings,
    upstream_url::{Hostname, UpstreamUrl},
};

/// Reads the SRV records of one name, and looks up their targets.
pub(super) struct Services<'s> {
    settings: &'s DnsSettings,
    found: Option<FullName>,
    /// The targets of the last response, by host.
    known: HashMap<String, KnownTarget>,
    /// The records that are left out, as they were logged.
    left_out: HashSet<(String, &'static str)>,
}

#[derive(Debug)]
struct KnownTarget {
    port: u16,
    addresses: Vec<IpAddr>,
}

/// The target of a record.
struct Target {
    name: Name,
    host: String,
    port: u16,
    weight: u32,
    url: UpstreamUrl,
}

/// A record that makes no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRecord {
    #[error("its target is not a valid host name")]
    NotAHost,
    #[error("its port is 0")]
    NoPort,
    #[error("another record has the same target and another port")]
    Doubled,
    #[error("its target has the address {address}, which is {why}; fleet.allow permits it")]
    Forbidden { address: IpAddr, why: &'static str },
    #[error("its target was not looked up: {0}")]
    NoAddress(LookupError),
}

impl BadRecord {
    fn label(&self) -> &'static str {
        match self {
            Self::NotAHost => "not_a_host",
            Self::NoPort => "no_port",
            Self::Doubled => "doubled_name",
            Self::Forbidden { .. } => "forbidden_address",
            Self::NoAddress(error) => error.label(),
        }
    }
}

impl<'s> Services<'s> {
    pub(super) fn new(settings: &'s DnsSettings) -> Self {
        Self { settings, found: None, known: HashMap::new(), left_out: HashSet::new() }
    }

    /// The instances in the SRV records, with the addresses of their targets, and the time for which both are
    /// valid. A bad record is left out. Priorities are ignored: all instances take calls.
    pub(super) async fn read(&mut self, resolver: Resolver) -> Result<(Vec<Member>, Duration), SourceError> {
        let records = resolver.records(&self.settings.name, RecordType::SRV, &mut self.found).await?;
        check_count(records.data.len())?;
        let mut bad = Vec::new();
        let targets = self.targets(&records.data, &mut bad);
        let mut ttl = records.ttl;
        let mut members = Vec::with_capacity(targets.len());
        let mut known = HashMap::with_capacity(targets.len());
        let resolver = Arc::new(resolver);
        let mut targets = targets.into_iter();
        let mut lookups = JoinSet::new();
        loop {
            while lookups.len() < LOOKUPS_AT_ONCE
                && let Some(target) = targets.next()
            {
                let resolver = Arc::clone(&resolver);
                lookups.spawn(async move {
                    // Boxed: a hundred such futures would be large.
                    let full = format!("{}.", target.host);
                    (Box::pin(resolver.addresses(&full, &mut None)).await, target)
                });
            }
            let Some(done) = lookups.join_next().await else { break };
            let Ok((looked_up, target)) = done else { continue };
            match self.check(&target.host, looked_up) {
                Ok(found) => {
                    ttl = ttl.min(found.ttl);
                    let Target { name, host, port, weight, url } = target;
                    members.push(member(name, url.found_at(&found.addresses), weight));
                    known.insert(host, KnownTarget { port, addresses: found.addresses });
                }
                Err(error) => bad.push((target.host, error)),
            }
        }
        self.known = known;
        bad.sort_by(|(host, _), (other, _)| host.cmp(other));
        let first = bad.first().map(|(_, error)| error.clone());
        self.log_left_out(bad);
        match (members.is_empty(), first) {
            (false, _) => Ok((members, ttl)),
            (true, Some(error)) => Err(SourceError::NoUsableRecord(error.to_string())),
            (true, None) => Err(SourceError::Empty),
        }
    }

    /// The targets of the records, each host once.
    fn targets(&self, records: &[RData], bad: &mut Vec<(String, BadRecord)>) -> Vec<Target> {
        let mut services: Vec<(String, &SRV)> = records
            .iter()
            .filter_map(|data| if let RData::SRV(srv) = data { Some((host(srv), srv)) } else { None })
            // The root as the target: the service is explicitly not available (RFC 2782, "Target").
            .filter(|(host, _)| !host.is_empty())
            .collect();
        // Of two records with one target the one that the fleet has already comes first, in whichever order
        // they arrive.
        let is_new = |host: &str, port| self.known.get(host).is_none_or(|known| known.port != port);
        services.sort_by(|(host, srv), (other_host, other)| {
            let key = |host: &str, srv: &SRV| (is_new(host, srv.port), srv.port, srv.weight);
            host.cmp(other_host).then_with(|| key(host, srv).cmp(&key(other_host, other)))
        });
        let mut targets: Vec<Target> = Vec::with_capacity(services.len());
        for (host, srv) in services {
            let same_host = targets.last().filter(|last| last.host == host);
            let target = match same_host {
                Some(last) if last.port == srv.port => continue,
                Some(_) => Err(BadRecord::Doubled),
                None => self.target(&host, srv),
            };
            match target {
                Ok(target) => targets.push(target),
                Err(error) => bad.push((host, error)),
            }
        }
        targets
    }

    fn target(&self, host: &str, srv: &SRV) -> Result<Target, BadRecord> {
        if srv.port == 0 {
            return Err(BadRecord::NoPort);
        }
        if !Hostname::is_plain(host) {
            return Err(BadRecord::NotAHost);
        }
        let DnsSettings { secure, path, .. } = self.settings;
        Ok(Target {
            name: instance_name(host),
            url: UpstreamUrl::of_parts(*secure, host, srv.port, path).map_err(|_| BadRecord::NotAHost)?,
            host: host.to_owned(),
            port: srv.port,
            weight: u32::from(srv.weight).clamp(1, WEIGHT_MAX),
        })
    }

    /// The addresses of a target, if it may have them. The last known ones survive a look-up that fails.
    fn check(
        &self,
        host: &str,
        looked_up: Result<FoundAddresses, LookupError>,
    ) -> Result<FoundAddresses, BadRecord> {
        let found = match (looked_up, self.known.get(host)) {
            (Ok(mut found), _) => {
                found.addresses.truncate(ADDRESSES_MAX);
                found
            }
            (Err(_), Some(known)) => {
                FoundAddresses { addresses: known.addresses.clone(), ttl: Duration::MAX }
            }
            (Err(error), None) => return Err(BadRecord::NoAddress(error)),
        };
        match first_forbidden(&found.addresses, &self.settings.allow) {
            Some((address, why)) => Err(BadRecord::Forbidden { address, why }),
            None => Ok(found),
        }
    }

    /// Logs the records that are left out, if some were not before.
    fn log_left_out(&mut self, bad: Vec<(String, BadRecord)>) {
        let new =
            |(host, error): &&(String, BadRecord)| !self.left_out.contains(&(host.clone(), error.label()));
        if let Some((host, error)) = bad.iter().find(new) {
            tracing::warn!(
                source = &*self.settings.name,
                target_host = loggable(host),
                reason = error.label(),
                error = error.to_string(),
                records = bad.len(),
                "SRV records left out: they make no instance"
            );
        }
        self.left_out = bad.into_iter().map(|(host, error)| (host, error.label())).collect();
    }
}

/// The target of a record, in lower case and without the final dot.
fn host(srv: &SRV) -> String {
    srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// Targets to look up at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// The largest weight, as of a static instance.
const WEIGHT_MAX: u32 = 1000;
