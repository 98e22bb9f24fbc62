//! The file of a stored fleet: its format, its checks and its replacement.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    fs::{DirBuilder, OpenOptions},
    io::{self, Read, Write},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use switchboard_routing::Name;
use tempfile::Builder;

use crate::{
    discovery::INSTANCES_MAX,
    member::{Member, SourceState},
    names::ADDRESSES_MAX,
    network::first_forbidden,
    settings::Discovery,
    trust_anchors::TrustAnchors,
    upstream_url::{Hostname, InvalidUpstreamUrl, UpstreamUrl},
};

/// The file of one region and one source. Several processes may share the folder: the file is replaced by a
/// rename, so each reader sees a complete file, and all gateways of a region know one fleet.
#[derive(Debug)]
pub(super) struct FleetFile {
    folder: PathBuf,
    region: Box<str>,
    discovery: Discovery,
}

/// A stored fleet that may be used.
#[derive(Debug)]
pub(super) struct StoredFleet {
    pub(super) members: Vec<Member>,
    pub(super) age: Duration,
}

/// One instance, as its source described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum StoredInstance {
    /// A discovered instance. Scheme and path come from the settings.
    Found { name: String, incarnation: String, host: String, port: u16, addresses: Vec<IpAddr> },
    /// An instance of a file.
    Listed {
        name: String,
        incarnation: String,
        url: String,
        callback_url: String,
        host: Option<String>,
        tls_name: Option<String>,
        /// Its own authorities, as a key of [`StoredFile::authorities`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    },
}

/// The JSON of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile<I> {
    version: u32,
    region: String,
    source: String,
    /// In Unix seconds.
    stored_at: u64,
    instances: I,
    /// The authorities of instances that have their own, in PEM. Their files may be away together with the
    /// source, and other authorities must not take their place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    authorities: BTreeMap<String, String>,
}

impl FleetFile {
    pub(super) fn new(folder: PathBuf, region: &Name, discovery: Discovery) -> Self {
        Self { folder, region: region.as_str().into(), discovery }
    }

    /// Returns the stored fleet if there is a file, it belongs to this region and source, and it is not older
    /// than [`AGE_MAX`]. Every instance must pass the checks of found ones. `now` is in Unix seconds.
    pub(super) fn read(&self, now: u64) -> Result<Option<StoredFleet>, StoreError> {
        let mut bytes = Vec::new();
        match OpenOptions::new().read(true).open(self.path()) {
            Ok(file) => file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(StoreError::Read)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Read(error)),
        };
        check_size(&bytes)?;
        let file: StoredFile<Vec<StoredInstance>> =
            serde_json::from_slice(&bytes).map_err(|_| StoreError::Malformed)?;
        let is_ours = file.region == *self.region && file.source == self.discovery.identity();
        if file.version != VERSION || !is_ours {
            return Err(StoreError::OtherFleet);
        }
        if file.stored_at > now.saturating_add(SKEW_S) {
            return Err(StoreError::FromTheFuture);
        }
        let age = Duration::from_secs(now.saturating_sub(file.stored_at));
        if age > AGE_MAX {
            return Err(StoreError::TooOld);
        }
        if file.instances.len() > INSTANCES_MAX {
            return Err(StoreError::Malformed);
        }
        let authorities = file.authorities.iter().map(|(id, pem)| {
            let anchors = TrustAnchors::from_pem(pem.as_bytes()).filter(|anchors| anchors.id() == *id);
            Ok((id.as_str(), Arc::new(anchors.ok_or(StoreError::Malformed)?)))
        });
        let authorities = authorities.collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        let members = file.instances.iter().map(|instance| {
            let is_new = names.insert(instance.name());
            if is_new { self.member(instance, &authorities) } else { Err(StoreError::Malformed) }
        });
        Ok(Some(StoredFleet { members: members.collect::<Result<_, _>>()?, age }))
    }

    fn member(
        &self,
        stored: &StoredInstance,
        authorities: &HashMap<&str, Arc<TrustAnchors>>,
    ) -> Result<Member, StoreError> {
        let parse = |text: &str| Name::parse(text).map_err(|_| StoreError::Malformed);
        let (name, incarnation, new_calls, callbacks) = match stored {
            StoredInstance::Found { name, incarnation, host, port, addresses } => {
                let url = self.found(host, *port, addresses)?;
                (name, incarnation, url.clone(), url)
            }
            // Its addresses are not checked, so no discovered instance may be stored in this form.
            StoredInstance::Listed { name, incarnation, url, callback_url, host, tls_name, ca }
                if matches!(self.discovery, Discovery::File(_)) =>
            {
                let anchors = ca.as_deref().map(|id| authorities.get(id).ok_or(StoreError::Malformed));
                let anchors = anchors.transpose()?;
                let parse = |url| {
                    let url = listed(url, host.as_deref(), tls_name.as_deref());
                    let url = url.map_err(|_| StoreError::Malformed)?;
                    Ok(url.with_trust_anchors(anchors))
                };
                (name, incarnation, parse(url)?, parse(callback_url)?)
            }
            StoredInstance::Listed { .. } => return Err(StoreError::Malformed),
        };
        Ok(Member {
            name: parse(name)?,
            incarnation: parse(incarnation)?,
            new_calls,
            callbacks,
            apps: None,
            weight: 1,
            source_state: SourceState::Restored,
        })
    }

    /// The URL of a discovered instance.
    fn found(&self, host: &str, port: u16, addresses: &[IpAddr]) -> Result<UpstreamUrl, StoreError> {
        let url = self.discovery.url(host, port).map_err(|_| StoreError::Malformed)?;
        let is_address = matches!(url.origin().host, Hostname::Address(_));
        if !(1..=ADDRESSES_MAX).contains(&addresses.len()) || is_address || !Hostname::is_plain(host) {
            return Err(StoreError::Malformed);
        }
        if let Some((address, why)) = first_forbidden(addresses, self.discovery.allow()) {
            return Err(StoreError::Forbidden { address, why });
        }
        Ok(url.found_at(addresses))
    }

    /// Replaces the file. Only this process's user may read or change it: its content determines where
    /// callbacks go, and the tokens in them. `now` is in Unix seconds.
    pub(super) fn write(
        &self,
        instances: &[StoredInstance],
        members: &[Member],
        now: u64,
    ) -> Result<(), StoreError> {
        let mut authorities = BTreeMap::new();
        for anchors in members.iter().filter_map(anchors) {
            if let Entry::Vacant(entry) = authorities.entry(anchors.id()) {
                entry.insert(anchors.to_pem().map_err(|error| StoreError::Write(error.into()))?);
            }
        }
        let file = StoredFile {
            version: VERSION,
            region: self.region.to_string(),
            source: self.discovery.identity(),
            stored_at: now,
            instances,
            authorities,
        };
        let bytes = serde_json::to_vec(&file).map_err(|error| StoreError::Write(error.into()))?;
        // A file that no start would read must not replace one that it reads.
        check_size(&bytes)?;
        self.replace(&bytes).map_err(StoreError::Write)
    }

    /// The temporary file can be read by this process's user only, and is removed after an error.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let mut folder = DirBuilder::new();
        folder.recursive(true);
        // Elsewhere the access control list of the parent applies.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(&self.folder)?;
        let prefix = format!("{}.fleet.", self.region);
        let mut file = Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        // Without it, a power failure could leave an empty file.
        file.as_file().sync_all()?;
        file.persist(self.path())?;
        Ok(())
    }

    /// The stored form of an instance; `None` for one that another kind of source has left behind.
    pub(super) fn stored(&self, member: &Member) -> Option<StoredInstance> {
        let (name, incarnation) = (member.name.to_string(), member.incarnation.to_string());
        let origin = member.callbacks.origin();
        // Only https URLs have a name and authorities, and one of the two may be http.
        let tls_name = origin.tls_name.as_ref().or_else(|| member.new_calls.origin().tls_name.as_ref());
        let is_file = matches!(self.discovery, Discovery::File(_));
        match &origin.host {
            Hostname::Found(host, addresses) => (!is_file).then(|| StoredInstance::Found {
                name,
                incarnation,
                host: host.to_string(),
                port: origin.port,
                addresses: addresses.to_vec(),
            }),
            Hostname::Name(_) | Hostname::Address(_) => is_file.then(|| StoredInstance::Listed {
                name,
                incarnation,
                url: member.new_calls.to_string(),
                callback_url: member.callbacks.to_string(),
                host: member.callbacks.own_host().map(str::to_owned),
                tls_name: tls_name.map(ToString::to_string),
                ca: anchors(member).map(|anchors| anchors.id()),
            }),
        }
    }

    /// The name of a trust has no dot, so the folder may be that of the key store.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.fleet.json", self.region))
    }
}

impl StoredInstance {
    fn name(&self) -> &str {
        match self {
            Self::Found { name, .. } | Self::Listed { name, .. } => name,
        }
    }
}

fn check_size(bytes: &[u8]) -> Result<(), StoreError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(StoreError::TooLarge);
    }
    Ok(())
}

/// The authorities of a member that has its own.
fn anchors(member: &Member) -> Option<&Arc<TrustAnchors>> {
    member.callbacks.origin().anchors.as_ref().or_else(|| member.new_calls.origin().anchors.as_ref())
}

/// The URL of an instance of a file.
fn listed(url: &str, host: Option<&str>, tls_name: Option<&str>) -> Result<UpstreamUrl, InvalidUpstreamUrl> {
    let url = UpstreamUrl::parse(url)?;
    let url = host.map_or(Ok(url.clone()), |host| url.with_host(host))?;
    tls_name.map_or(Ok(url.clone()), |name| url.with_tls_name(name))
}

/// An error of reading or writing a stored fleet.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    #[error("cannot write the file")]
    Write(#[source] io::Error),
    #[error("the file is not a stored fleet")]
    Malformed,
    #[error("a stored fleet has at most 32 MiB; certificate authorities of instances count, too")]
    TooLarge,
    #[error("the file is of another region, source or version")]
    OtherFleet,
    #[error("it has {address}, which is {why}; fleet.allow permits it")]
    Forbidden { address: IpAddr, why: &'static str },
    #[error("the fleet was stored in the future")]
    FromTheFuture,
    #[error("the fleet was stored more than a day ago")]
    TooOld,
}

/// The version of the file's format.
const VERSION: u32 = 1;

/// The largest fleet, with long names and ten addresses each, in half of it. Authorities of instances come on
/// top: some 8,000 certificates in the other half.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// A call lasts at most a day, so no callback of an older fleet can arrive.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The seconds by which the clock may have gone back, as for stored keys.
const SKEW_S: u64 = 300;
