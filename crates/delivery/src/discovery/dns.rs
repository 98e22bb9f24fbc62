//! DNS as a source of the fleet: all addresses of a name, or its SRV records (RFC 2782).

mod listing;
mod members;
mod services;

use std::{net::IpAddr, time::Duration};

use switchboard_routing::Name;
use tokio::time::{Instant, sleep_until};

use self::{
    listing::Listing,
    members::{check_count, member},
    services::Services,
};
use super::source::{SourceError, SourceLog, loggable};
use crate::{
    delivery::Delivery,
    member::Member,
    network::first_forbidden,
    resolver::{FoundAddresses, FullName, Resolver},
    settings::DnsSettings,
    upstream_url::UpstreamUrl,
};

/// Follows a DNS name.
pub(super) struct Dns<'s> {
    settings: &'s DnsSettings,
    found: Option<FullName>,
    services: Services<'s>,
    listing: Listing,
}

impl<'s> Dns<'s> {
    pub(super) fn new(settings: &'s DnsSettings) -> Self {
        Self { settings, found: None, services: Services::new(settings), listing: Listing::default() }
    }

    /// Looks the name up whenever its records expire.
    pub(super) async fn follow(mut self, delivery: &Delivery) {
        // The instances that were found before a reload may be absent from the next response, too.
        self.listing = Listing::of(delivery.fleet.load().members());
        let mut log = SourceLog::default();
        let failures = |name: &Name| {
            delivery.fleet.load().instance(name.as_str()).map_or(0, |instance| instance.tracker.failures())
        };
        loop {
            let read = self.read().await;
            let now = Instant::now();
            let pause = match self.settle(read, failures, now) {
                Ok((members, pause)) => {
                    log.succeeded(&self.settings.name);
                    delivery.apply_members(members);
                    pause
                }
                Err(error) => {
                    log.failed(&self.settings.name, &error, &delivery.source_times, now);
                    RETRY.min(self.settings.refresh)
                }
            };
            let next = now + pause;
            while self.listing.has_absent() && Instant::now() + CHECK_INTERVAL < next {
                sleep_until(next.min(Instant::now() + CHECK_INTERVAL)).await;
                if self.listing.drop_failed(failures) {
                    delivery.change_members(self.listing.members());
                }
            }
            sleep_until(next).await;
        }
    }

    /// The members after a look-up, and the time for which they are valid.
    fn settle(
        &mut self,
        read: Result<(Vec<Member>, Duration), SourceError>,
        failures: impl Fn(&Name) -> u64,
        now: Instant,
    ) -> Result<(Vec<Member>, Duration), SourceError> {
        let (response, ttl) = match read {
            // The service may have no ready endpoint, or the zone may be lost.
            Err(SourceError::Empty) => (Vec::new(), RETRY),
            read => read?,
        };
        let (count, had_parts) = (response.len(), self.listing.has_parts());
        self.listing.responded(response, ttl, failures, now);
        if self.listing.is_held(now) {
            return Err(SourceError::Empty);
        }
        let members = self.listing.members();
        if self.listing.has_parts() && !had_parts {
            tracing::warn!(
                source = &*self.settings.name,
                response = count,
                instances = members.len(),
                "responses of DNS are changing parts of the fleet: keeping the union of five minutes"
            );
        }
        Ok((members, ttl.clamp(TTL_MIN.min(self.settings.refresh), self.settings.refresh)))
    }

    async fn read(&mut self) -> Result<(Vec<Member>, Duration), SourceError> {
        let resolver = Resolver::new(&self.settings.servers)?;
        if self.settings.name.starts_with('_') {
            return self.services.read(resolver).await;
        }
        let found = resolver.addresses(&self.settings.name, &mut self.found).await?;
        let members = self.members(&found)?;
        Ok((members, found.ttl))
    }

    /// One member per address. A forbidden address refuses them all: the response may be forged.
    fn members(&self, found: &FoundAddresses) -> Result<Vec<Member>, SourceError> {
        check_count(found.addresses.len())?;
        if let Some((address, why)) = first_forbidden(&found.addresses, &self.settings.allow) {
            return Err(SourceError::Forbidden { address, why });
        }
        let host = self.settings.name.trim_end_matches('.').to_ascii_lowercase();
        let DnsSettings { secure, port, path, .. } = self.settings;
        let url = UpstreamUrl::of_parts(*secure, &host, *port, path);
        let url = url.map_err(|_| SourceError::NotAHost(loggable(&host)))?;
        let of = |address: &IpAddr| member(address_name(*address), url.clone().found_at(&[*address]), 1);
        Ok(found.addresses.iter().map(of).collect())
    }
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
/// The interval of checks whether an absent instance failed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
