//! `Readiness`: the conditions under which a gateway serves; for `/readyz` and `ready_path`.

use switchboard_auth::Authenticator;
use switchboard_delivery::{Awaited, Delivery};

/// The conditions of readiness, and the facts that they follow from.
#[derive(Debug)]
pub(crate) struct Readiness {
    pub(crate) trusts_with_keys: Vec<String>,
    pub(crate) trusts_without_keys: Vec<String>,
    awaited: Option<Awaited>,
    /// Worker threads that run.
    workers: usize,
    is_draining: bool,
}

impl Readiness {
    /// The readiness of a gateway with these parts.
    pub(crate) fn of(
        authenticator: &Authenticator,
        delivery: &Delivery,
        workers: usize,
        is_draining: bool,
    ) -> Self {
        let (with_keys, without_keys): (Vec<_>, Vec<_>) =
            authenticator.trusts().into_iter().partition(|trust| trust.keys > 0);
        let names = |trusts: Vec<switchboard_auth::TrustStatus>| {
            trusts.iter().map(|trust| String::from(&*trust.name)).collect()
        };
        Self {
            trusts_with_keys: names(with_keys),
            trusts_without_keys: names(without_keys),
            awaited: delivery.awaited(),
            workers,
            is_draining,
        }
    }

    /// The names of the conditions that fail.
    pub(crate) fn failing(&self) -> Vec<&'static str> {
        let conditions = [
            ("keys", !self.trusts_with_keys.is_empty()),
            ("fleet", self.awaited != Some(Awaited::Source)),
            ("probes", self.awaited != Some(Awaited::Probes)),
            ("drain", !self.is_draining),
            // In a drain they stop one after the other.
            ("workers", self.is_draining || self.workers > 0),
        ];
        conditions.into_iter().filter(|(_, holds)| !holds).map(|(name, _)| name).collect()
    }

    /// True if no condition fails.
    pub(crate) fn is_ready(&self) -> bool {
        self.failing().is_empty()
    }
}
