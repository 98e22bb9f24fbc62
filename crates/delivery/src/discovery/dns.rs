//! DNS as a source of the fleet: all addresses of a name, or its SRV records (RFC 2782).

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use hickory_resolver::{
    ConnectionProvider, Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{RData, RecordType},
    },
};
use switchboard_routing::Name;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::source::{EMPTY_HOLD, INSTANCES_MAX, SourceError, SourceLog, instance_name};
use crate::{
    delivery::Delivery,
    member::{Member, SourceState},
    network::forbidden,
    settings::DnsSettings,
    upstream_url::UpstreamUrl,
};

/// Follows a DNS name.
pub(super) struct Dns<'s> {
    settings: &'s DnsSettings,
    /// The addresses last found for the targets of SRV records.
    targets: HashMap<String, Vec<IpAddr>>,
    empty_since: Option<Instant>,
}

/// One instance, as the records describe it.
#[derive(Debug, PartialEq, Eq)]
struct FoundInstance {
    name: Name,
    host: String,
    addresses: Vec<IpAddr>,
    port: u16,
    weight: u32,
}

/// The records of one name and type, with their TTL in seconds.
#[derive(Debug, Default)]
struct Records {
    data: Vec<RData>,
    ttl: Option<u32>,
}

impl<'s> Dns<'s> {
    pub(super) fn new(settings: &'s DnsSettings) -> Self {
        Self { settings, targets: HashMap::new(), empty_since: None }
    }

    /// Looks the name up whenever its records expire.
    pub(super) async fn follow(mut self, delivery: &Delivery) {
        let mut log = SourceLog::default();
        loop {
            let read = self.read().await;
            let now = Instant::now();
            let pause = match self.settle(read, now) {
                Ok((members, pause)) => {
                    log.succeeded(&self.settings.name);
                    delivery.apply_members(members);
                    pause
                }
                Err(error) => {
                    log.failed(&self.settings.name, &error, now);
                    RETRY.min(self.settings.refresh)
                }
            };
            sleep(pause).await;
        }
    }

    /// The members in a result of a look-up, and the time for which they are valid.
    ///
    /// An empty result may mean that the service has no ready endpoint, or that the zone was lost. The
    /// current instances stay for [`EMPTY_HOLD`]. Then they leave, and keep their callbacks.
    fn settle(
        &mut self,
        read: Result<(Vec<FoundInstance>, Duration), SourceError>,
        now: Instant,
    ) -> Result<(Vec<Member>, Duration), SourceError> {
        let (found, ttl) = match read {
            Err(SourceError::Empty) => {
                let since = *self.empty_since.get_or_insert(now);
                if now.saturating_duration_since(since) < EMPTY_HOLD {
                    return Err(SourceError::Empty);
                }
                (Vec::new(), RETRY)
            }
            Err(error) => return Err(error),
            Ok(read) => {
                self.empty_since = None;
                read
            }
        };
        let members = found.into_iter().map(|found| self.member(found)).collect::<Result<_, _>>()?;
        Ok((members, ttl.clamp(TTL_MIN.min(self.settings.refresh), self.settings.refresh)))
    }

    fn member(&self, found: FoundInstance) -> Result<Member, SourceError> {
        let DnsSettings { secure, path, .. } = self.settings;
        let scheme = if *secure { "https" } else { "http" };
        let FoundInstance { name, host, addresses, port, weight } = found;
        let url = UpstreamUrl::parse(&format!("{scheme}://{host}:{port}{path}"));
        let url =
            url.map_err(|_| SourceError::NotAHost(host.escape_debug().to_string()))?.found_at(&addresses);
        Ok(Member {
            name,
            incarnation: Member::no_incarnation(),
            new_calls: url.clone(),
            callbacks: url,
            apps: None,
            weight,
            source_state: SourceState::Ready,
            outlives_listing: true,
        })
    }

    async fn read(&mut self) -> Result<(Vec<FoundInstance>, Duration), SourceError> {
        // Created for each look-up: the system's resolvers change, and two look-ups share no state.
        let resolver = resolver(self.settings)?;
        if self.settings.name.starts_with('_') {
            self.services(&resolver).await
        } else {
            let (addresses, ttl) = self.addresses(&resolver, self.settings.name.to_string()).await?;
            check_count(addresses.len())?;
            let host = self.settings.name.trim_end_matches('.').to_ascii_lowercase();
            let found = |address: IpAddr| FoundInstance {
                name: address_name(address),
                host: host.clone(),
                addresses: vec![address],
                port: self.settings.port,
                weight: 1,
            };
            Ok((addresses.into_iter().map(found).collect(), ttl))
        }
    }

    /// The SRV records, with the addresses of their targets. Priorities are ignored: all instances take
    /// calls.
    async fn services(
        &mut self,
        resolver: &TokioResolver,
    ) -> Result<(Vec<FoundInstance>, Duration), SourceError> {
        let records = records(resolver, &self.settings.name, RecordType::SRV).await?;
        check_count(records.data.len())?;
        let mut ttl = seconds(records.ttl);
        let mut found = Vec::with_capacity(records.data.len());
        let mut names = HashSet::new();
        for data in records.data {
            let RData::SRV(srv) = data else { continue };
            let host = srv.target.to_utf8().trim_end_matches('.').to_ascii_lowercase();
            if host.is_empty() {
                // The root as the target: the service is explicitly not available (RFC 2782, "Target").
                continue;
            }
            let name = instance_name(&host);
            if !names.insert(name.clone()) {
                return Err(SourceError::Doubled(name.to_string()));
            }
            let weight = u32::from(srv.weight).clamp(1, WEIGHT_MAX);
            found.push(FoundInstance { name, host, addresses: Vec::new(), port: srv.port, weight });
        }
        check_count(found.len())?;
        for some in found.chunks_mut(LOOKUPS_AT_ONCE) {
            let mut lookups = JoinSet::new();
            for one in &*some {
                let (resolver, host) = (resolver.clone(), one.host.clone());
                lookups.spawn(async move { (addresses(&resolver, &format!("{host}.")).await, host) });
            }
            while let Some(done) = lookups.join_next().await {
                let Ok((looked_up, host)) = done else { continue };
                let Some(one) = some.iter_mut().find(|one| one.host == host) else { continue };
                match looked_up {
                    Ok((addresses, valid)) => {
                        self.check_allowed(&addresses)?;
                        ttl = ttl.min(valid);
                        one.addresses = addresses;
                    }
                    // The last known addresses of a target survive a look-up that fails.
                    Err(error) => match self.targets.get(&host) {
                        Some(addresses) => one.addresses.clone_from(addresses),
                        None => tracing::warn!(
                            target_host = host,
                            reason = error.label(),
                            error = error.to_string(),
                            "instance left out: the target of its SRV record has no address"
                        ),
                    },
                }
            }
        }
        found.retain(|one| !one.addresses.is_empty());
        check_count(found.len())?;
        self.targets = found.iter().map(|one| (one.host.clone(), one.addresses.clone())).collect();
        Ok((found, ttl))
    }

    async fn addresses(
        &self,
        resolver: &TokioResolver,
        name: String,
    ) -> Result<(Vec<IpAddr>, Duration), SourceError> {
        let (addresses, ttl) = addresses(resolver, &name).await?;
        self.check_allowed(&addresses)?;
        Ok((addresses, ttl))
    }

    fn check_allowed(&self, addresses: &[IpAddr]) -> Result<(), SourceError> {
        let refused = |address: &IpAddr| Some((*address, forbidden(*address, &self.settings.allow)?));
        match addresses.iter().find_map(refused) {
            Some((address, why)) => Err(SourceError::Forbidden { address, why }),
            None => Ok(()),
        }
    }
}

fn resolver(settings: &DnsSettings) -> Result<TokioResolver, SourceError> {
    let no_response = |error: NetError| SourceError::NoResponse(error.to_string());
    let mut builder = if settings.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(no_response)?
    } else {
        let server = |address: &std::net::SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = address.port();
            }
            NameServerConfig::new(address.ip(), true, connections)
        };
        let config =
            ResolverConfig::from_parts(None, Vec::new(), settings.servers.iter().map(server).collect());
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    // Its entries have no TTL, and only this machine has them.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(no_response)
}

/// The addresses of a name: IPv4 if there are any, else IPv6. With both, an instance that has one of each
/// would count as two. Both look-ups must succeed, so that the failure of one family does not move instances
/// to the other.
async fn addresses(resolver: &TokioResolver, name: &str) -> Result<(Vec<IpAddr>, Duration), SourceError> {
    let (v4, v6) =
        tokio::join!(records(resolver, name, RecordType::A), records(resolver, name, RecordType::AAAA));
    let (v4, v6) = (v4?, v6?);
    let records = if v4.data.is_empty() { v6 } else { v4 };
    let address = |data: &RData| data.ip_addr();
    let mut addresses: Vec<IpAddr> = records.data.iter().filter_map(address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err(SourceError::Empty) } else { Ok((addresses, seconds(records.ttl))) }
}

/// The records of a name; none if it has none or does not exist.
async fn records<P: ConnectionProvider>(
    resolver: &Resolver<P>,
    name: &str,
    kind: RecordType,
) -> Result<Records, SourceError> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => {
            let of_kind = lookup.answers().iter().filter(|record| record.record_type() == kind);
            Ok(Records {
                // An alias on the way may have a shorter TTL than its target.
                ttl: lookup.answers().iter().map(|record| record.ttl).min(),
                data: of_kind.map(|record| record.data.clone()).collect(),
            })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            Ok(Records::default())
        }
        Err(error) => Err(SourceError::NoResponse(error.to_string())),
    }
}

fn check_count(count: usize) -> Result<(), SourceError> {
    match count {
        0 => Err(SourceError::Empty),
        1..=INSTANCES_MAX => Ok(()),
        _ => Err(SourceError::TooMany { count }),
    }
}

fn seconds(ttl: Option<u32>) -> Duration {
    ttl.map_or(TTL_MIN, |ttl| Duration::from_secs(ttl.into()))
}

/// An address as a name: `10.0.0.10` stays as it is, `2001:db8::1` becomes `2001-db8--1`.
fn address_name(address: IpAddr) -> Name {
    let text = address.to_string().replace(':', "-");
    Name::parse(&text).expect("at most 45 of 0-9 a-f . -")
}

/// The least time between two look-ups: some records have a TTL of 0.
const TTL_MIN: Duration = Duration::from_secs(1);
/// The pause after a failed look-up.
const RETRY: Duration = Duration::from_secs(2);
/// The timeout of one query to one server: a resolver responds from its cache or its neighbour.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts of one query.
const ATTEMPTS: usize = 2;
/// Targets of SRV records to look up at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// The largest weight, as of a static instance.
const WEIGHT_MAX: u32 = 1000;

#[cfg(test)]
mod tests;
