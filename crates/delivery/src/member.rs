//! One instance as a source of the fleet describes it. The static list is a source, too.

use switchboard_routing::Name;
use uuid::Uuid;

use crate::{
    names::Names,
    settings::{FileInstance, InstanceSettings},
    upstream_url::UpstreamUrl,
};

/// One instance as a source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Name,
    pub(crate) incarnation: Name,
    pub(crate) new_calls: UpstreamUrl,
    pub(crate) callbacks: UpstreamUrl,
    pub(crate) apps: Option<Vec<Uuid>>,
    pub(crate) weight: u32,
    pub(crate) source_state: SourceState,
}

/// The state of an instance according to its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SourceState {
    /// It may take new calls.
    #[default]
    Ready,
    /// It is not ready.
    #[cfg_attr(
        not(any(test, feature = "kubernetes")),
        expect(dead_code, reason = "only a source that reports readiness uses it")
    )]
    NotReady,
    /// It was asked to stop, and stops when its calls have ended.
    #[cfg_attr(
        not(any(test, feature = "kubernetes")),
        expect(dead_code, reason = "only a source that reports readiness uses it")
    )]
    Terminating,
    /// Its source drains it. It takes new calls again once the source says so.
    Draining,
    /// It was restored from the store, and its source has not been read since.
    Restored,
    /// The source no longer lists it.
    Unlisted,
    /// It is no longer in the fleet.
    Removed,
}

impl Member {
    /// The members of the static list. They have no incarnation: the list cannot tell a restarted instance
    /// from the old one.
    ///
    /// Their host names are added to `names`, or share the addresses that are known there.
    pub(crate) fn from_list(instances: Vec<InstanceSettings>, names: &mut Names) -> Vec<Self> {
        let member = |instance| Self::described(instance, Self::no_incarnation(), SourceState::Ready, names);
        instances.into_iter().map(member).collect()
    }

    /// The members that a file lists. Their host names are added to `names` in the same way.
    pub(crate) fn from_file(instances: Vec<FileInstance>, names: &mut Names) -> Vec<Self> {
        let member = |FileInstance { settings, incarnation, is_draining }: FileInstance| {
            let state = if is_draining { SourceState::Draining } else { SourceState::Ready };
            Self::described(settings, incarnation.unwrap_or_else(Self::no_incarnation), state, names)
        };
        instances.into_iter().map(member).collect()
    }

    fn described(
        instance: InstanceSettings,
        incarnation: Name,
        source_state: SourceState,
        names: &mut Names,
    ) -> Self {
        Self {
            name: instance.name,
            incarnation,
            callbacks: instance.callback_url.unwrap_or_else(|| instance.url.clone()).with_shared_name(names),
            new_calls: instance.url.with_shared_name(names),
            apps: instance.apps,
            weight: instance.weight,
            source_state,
        }
    }

    /// The same member, whose host names are added to `names` or share the addresses that are known there.
    pub(crate) fn with_shared_names(self, names: &mut Names) -> Self {
        let new_calls = self.new_calls.with_shared_name(names);
        Self { new_calls, callbacks: self.callbacks.with_shared_name(names), ..self }
    }

    /// The incarnation of an instance whose source knows none.
    pub(crate) fn no_incarnation() -> Name {
        Name::parse(NO_INCARNATION).expect("a digit is a name")
    }
}

/// Returns false for the incarnation that stands for none.
pub(crate) fn is_known(incarnation: &Name) -> bool {
    incarnation.as_str() != NO_INCARNATION
}

/// The incarnation of an instance of which neither the source nor the probe knows one.
pub(crate) const NO_INCARNATION: &str = "0";

/// The most instances that a source may list, and the most without calls that may outlive their listing.
///
/// Twice the largest measured fleet (10,000 instances place a call in tens of microseconds). A UDP response
/// has some thirty addresses, one over TCP, of 64 KiB, some four thousand: more is a mistake or an attack.
pub const INSTANCES_MAX: usize = 20_000;
