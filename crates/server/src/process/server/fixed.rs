//! The settings that a reload cannot change.

use std::net::SocketAddr;

use crate::config::Config;

/// The settings that stay as they were at the start, as the configuration wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FixedSettings {
    pub(super) region: String,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    tls: bool,
}

impl FixedSettings {
    /// The fixed settings of `config`.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            region: config.region.to_string(),
            listen: config.listen.address,
            admin: config.admin.address,
            tls: config.listen.tls.is_some(),
        }
    }

    /// The problems of a reload from these settings to `next`, with the names of the configuration.
    pub(super) fn problems(&self, next: &Self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut compare = |setting: &str, now: &dyn ToString, next: &dyn ToString| {
            let (now, next) = (now.to_string(), next.to_string());
            if now != next {
                problems
                    .push(format!("{setting}: a reload cannot change {now} to {next}; restart the gateway"));
            }
        };
        compare("region", &self.region, &next.region);
        compare("listen.address", &self.listen, &next.listen);
        compare("admin.address", &self.admin, &next.admin);
        let protocol = |tls: bool| if tls { "TLS" } else { "plain HTTP" };
        compare("listen.tls", &protocol(self.tls), &protocol(next.tls));
        problems
    }
}
