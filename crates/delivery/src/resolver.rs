//! Looking names up in DNS and in the hosts file.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

pub(crate) use hickory_resolver::proto::rr::Name as FullName;
use hickory_resolver::{
    Resolver as DnsResolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use tokio::time::timeout;

/// Looks names up. It is created for each look-up: the configuration of the system changes, and two look-ups
/// share no state.
#[derive(Debug)]
pub(crate) struct Resolver {
    dns: TokioResolver,
    /// The domains in which relative names are looked up.
    search: Vec<Name>,
    /// The dots with which a name is looked up as it is, before it is looked up in a domain of `search`.
    dots_min: usize,
}

/// The records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) data: Vec<RData>,
    /// The shortest TTL on the way to them: an alias may have a shorter one than its target.
    pub(crate) ttl: Duration,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundAddresses {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl: Duration,
}

/// The addresses of a name in both families. `None`: the look-up in this family failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundFamilies {
    pub(crate) v4: Option<Vec<IpAddr>>,
    pub(crate) v6: Option<Vec<IpAddr>>,
    pub(crate) ttl: Duration,
}

/// A name was not looked up, or has no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The DNS servers do not respond, or respond with an error.
    #[error("no usable response: {0}")]
    NoResponse(String),
    /// The name does not exist, or has no records of the type.
    #[error("the name has no address")]
    NoRecords,
    /// The text is not a name.
    #[error("not a valid host name")]
    NotAName,
}

impl LookupError {
    /// A stable name for logs.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::NoResponse(_) => "unanswered",
            Self::NoRecords => "empty",
            Self::NotAName => "not_a_host",
        }
    }
}

impl Resolver {
    /// A resolver that asks `servers`, or as the system is configured if there are none.
    pub(crate) fn new(servers: &[SocketAddr]) -> Result<Self, LookupError> {
        let (config, options) = if servers.is_empty() {
            read_system_conf().map_err(|error| no_response(&error))?
        } else {
            let servers = servers.iter().map(server).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        };
        Self::with(config, options)
    }

    fn with(config: ResolverConfig, options: ResolverOpts) -> Result<Self, LookupError> {
        // The domain of the host name stands in for a missing search list, as in libc.
        let search = match (config.search(), config.domain()) {
            ([], Some(domain)) => vec![domain.clone()],
            (search, _) => search.to_vec(),
        };
        let dots_min = options.ndots;
        let mut builder = DnsResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = RETRIES;
        options.cache_size = 0;
        // A plain query, as libc sends it. Some resolvers reject EDNS, or respond to it in a way that is
        // ignored as forged. A response that does not fit into 512 bytes comes over TCP.
        options.edns0 = false;
        // `in_hosts_file` reads it: hickory finds a name there only if no domain is searched before.
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self { dns: builder.build().map_err(|error| no_response(&error))?, search, dots_min })
    }

    /// The records of a name. `found` is the full name of the last success; see [`Self::search`].
    pub(crate) async fn records(
        &self,
        name: &str,
        kind: RecordType,
        found: &mut Option<Name>,
    ) -> Result<Records, LookupError> {
        self.search(name, found, |name| self.records_of(name, kind)).await
    }

    /// The addresses of a name: IPv4 if it has any, else IPv6. With both, an instance that has one of each
    /// would count as two.
    ///
    /// An error of IPv4 is an error, so that it does not move instances to the other family. An error of IPv6
    /// counts only if the name has no IPv4 address.
    pub(crate) async fn addresses(
        &self,
        name: &str,
        found: &mut Option<Name>,
    ) -> Result<FoundAddresses, LookupError> {
        self.search(name, found, |name| self.addresses_of(name)).await
    }

    /// The addresses of a name in both families. The failure of one family counts only if the other has no
    /// address.
    pub(crate) async fn both_families(
        &self,
        name: &str,
        found: &mut Option<Name>,
    ) -> Result<FoundFamilies, LookupError> {
        self.search(name, found, |name| self.families_of(name)).await
    }

    async fn addresses_of(&self, name: Name) -> Result<FoundAddresses, LookupError> {
        let records = match self.records_of(name.clone(), RecordType::A).await {
            Err(LookupError::NoRecords) => self.records_of(name, RecordType::AAAA).await?,
            v4 => v4?,
        };
        Ok(FoundAddresses { addresses: addresses(&records), ttl: records.ttl })
    }

    async fn families_of(&self, name: Name) -> Result<FoundFamilies, LookupError> {
        let mut v4 = pin!(self.records_of(name.clone(), RecordType::A));
        let mut v6 = pin!(self.records_of(name, RecordType::AAAA));
        let (v4, v6) = tokio::select! {
            v4 = &mut v4 => {
                // Some resolvers never respond to queries for IPv6.
                let patience = if v4.is_ok() { SECOND_FAMILY } else { LOOKUP_TIME };
                let late = || LookupError::NoResponse("timeout".into());
                (v4, timeout(patience, v6).await.unwrap_or_else(|_| Err(late())))
            }
            v6 = &mut v6 => (v4.await, v6),
        };
        let ttl = match (&v4, &v6) {
            (Ok(v4), Ok(v6)) => v4.ttl.min(v6.ttl),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => one.ttl,
            (Err(LookupError::NoRecords), Err(error)) | (Err(error), Err(_)) => return Err(error.clone()),
        };
        let family = |found: Result<Records, LookupError>| match found {
            Ok(records) => Some(addresses(&records)),
            Err(LookupError::NoRecords) => Some(Vec::new()),
            Err(_) => None,
        };
        Ok(FoundFamilies { v4: family(v4), v6: family(v6), ttl })
    }

    /// Looks a name up in the domains of the search list, until it has records.
    ///
    /// The name may exist in several domains. After an error in the domain of the last success, the domains
    /// behind it are not asked: the name there may be another host.
    async fn search<T, F: Future<Output = Result<T, LookupError>>>(
        &self,
        name: &str,
        found: &mut Option<Name>,
        look_up: impl Fn(Name) -> F,
    ) -> Result<T, LookupError> {
        let mut first_error = None;
        for name in full_names(name, &self.search, self.dots_min)? {
            match look_up(name.clone()).await {
                Ok(records) => {
                    *found = Some(name);
                    return Ok(records);
                }
                Err(LookupError::NoRecords) => {}
                Err(error) if found.as_ref() == Some(&name) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(LookupError::NoRecords))
    }

    /// The records of a full name, one or more.
    async fn records_of(&self, name: Name, kind: RecordType) -> Result<Records, LookupError> {
        let lookup = match self.dns.lookup(name, kind).await {
            Ok(lookup) => lookup,
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
            {
                return Err(LookupError::NoRecords);
            }
            Err(error) => return Err(no_response(&error)),
        };
        let of_kind = lookup.answers().iter().filter(|record| record.record_type() == kind);
        let data: Vec<RData> = of_kind.map(|record| record.data.clone()).collect();
        let ttl = lookup.answers().iter().map(|record| record.ttl).min();
        if data.is_empty() { Err(LookupError::NoRecords) } else { Ok(Records { data, ttl: seconds(ttl) }) }
    }
}

/// The addresses of a name in the hosts file of the system; `None` if the name is not in it.
pub(crate) fn in_hosts_file(name: &str) -> Option<FoundFamilies> {
    let text = std::fs::read(HOSTS_FILE).ok()?;
    hosts_entry(&String::from_utf8_lossy(&text), name)
}

/// The addresses of a name in a hosts file: lines of an address and its names, with comments after `#`.
fn hosts_entry(text: &str, name: &str) -> Option<FoundFamilies> {
    let name = name.trim_end_matches('.');
    let address = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    let (v4, v6): (Vec<_>, Vec<_>) =
        sorted(text.lines().filter_map(address)).into_iter().partition(IpAddr::is_ipv4);
    let is_listed = !(v4.is_empty() && v6.is_empty());
    is_listed.then_some(FoundFamilies { v4: Some(v4), v6: Some(v6), ttl: HOSTS_FILE_TTL })
}

/// The full names that a name may stand for, in the order in which they are looked up.
fn full_names(name: &str, search: &[Name], dots_min: usize) -> Result<Vec<Name>, LookupError> {
    let name = Name::from_ascii(name).map_err(|_| LookupError::NotAName)?;
    let mut full = name.clone();
    full.set_fqdn(true);
    if name.is_fqdn() {
        return Ok(vec![full]);
    }
    // A name that becomes too long in a domain does not exist there.
    let mut names: Vec<Name> =
        search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
    for in_domain in &mut names {
        in_domain.set_fqdn(true);
    }
    let at = if usize::from(name.num_labels()) > dots_min { 0 } else { names.len() };
    names.insert(at, full);
    Ok(names)
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn addresses(records: &Records) -> Vec<IpAddr> {
    sorted(records.data.iter().filter_map(RData::ip_addr))
}

fn sorted(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn seconds(ttl: Option<u32>) -> Duration {
    Duration::from_secs(ttl.unwrap_or_default().into())
}

fn no_response(error: &NetError) -> LookupError {
    LookupError::NoResponse(error.to_string())
}

/// The timeout of one query: a resolver responds from its cache or its neighbour.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The times that a query is sent again.
const RETRIES: usize = 1;
/// The timeout of a query and its retry.
const LOOKUP_TIME: Duration = Duration::from_secs(4);
/// The time for which the addresses of one family wait for those of the other.
const SECOND_FAMILY: Duration = Duration::from_millis(300);
const HOSTS_FILE: &str = "/etc/hosts";
/// The time for which an entry of the hosts file is valid. The file is small and near.
const HOSTS_FILE_TTL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
