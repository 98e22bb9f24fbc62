//! A bounded memory of the calls that this gateway placed within ten minutes, for items without a callback
//! URI of the gateway.

use std::time::Duration;

use moka::{policy::EvictionPolicy, sync::Cache};
use switchboard_routing::Owner;
use tokio::time::Instant;

/// The instance that accepted each call, or that last received it and may have accepted it. All threads share
/// the memory, and a reload hands it on.
#[derive(Clone, Debug)]
pub(crate) struct Placements(Cache<Box<str>, Placement>);

#[derive(Clone, Debug)]
struct Placement {
    owner: Owner,
    at: Instant,
}

impl Placements {
    pub(crate) fn new() -> Self {
        Self::with_capacity(CALLS_MAX)
    }

    /// A memory of `calls_max` calls that evicts the oldest. moka's default policy keeps entries that are
    /// read often. No call is, so the first hundred thousand calls would stay and no later one would be
    /// remembered.
    fn with_capacity(calls_max: u64) -> Self {
        Self(Cache::builder().max_capacity(calls_max).eviction_policy(EvictionPolicy::lru()).build())
    }

    pub(crate) fn remember(&self, call_id: &str, owner: &Owner, now: Instant) {
        if call_id.len() <= CALL_ID_BYTES_MAX {
            self.0.insert(key(call_id), Placement { owner: owner.clone(), at: now });
        }
    }

    /// The instance that accepted the call within ten minutes, or may have accepted it.
    pub(crate) fn find(&self, call_id: &str, now: Instant) -> Option<Owner> {
        if call_id.len() > CALL_ID_BYTES_MAX {
            return None;
        }
        let placement = self.0.get(&key(call_id))?;
        (now.saturating_duration_since(placement.at) < AGE_MAX).then_some(placement.owner)
    }
}

/// The key of a call id. Case is ignored.
fn key(call_id: &str) -> Box<str> {
    call_id.to_ascii_lowercase().into()
}

/// Enough for 500 new calls per second over more than three minutes, in about 20 MiB.
const CALLS_MAX: u64 = 100_000;
/// After this time a bot uses its own callback URI, or the call has ended.
const AGE_MAX: Duration = Duration::from_secs(600);
/// Real ids have 36 characters. The bound keeps the memory small whatever a sender invents.
const CALL_ID_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use switchboard_routing::Name;

    use super::*;

    fn owner() -> Owner {
        let name = |text| Name::parse(text).unwrap();
        Owner { region: name("emea"), instance: name("bot-1"), incarnation: name("a1") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_placement_is_remembered_for_ten_minutes_whatever_the_case_of_the_id() {
        let placements = Placements::new();
        let instance = owner();
        placements.remember("A1B2", &instance, Instant::now());
        tokio::time::advance(AGE_MAX - Duration::from_millis(1)).await;
        assert_eq!(placements.find("a1b2", Instant::now()), Some(instance));
        assert_eq!(placements.find("a1b3", Instant::now()), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(placements.find("a1b2", Instant::now()), None);
    }

    #[tokio::test]
    async fn the_latest_calls_are_remembered_however_many_came_before() {
        let placements = Placements::with_capacity(100);
        let instance = owner();
        for call in 0..1000 {
            placements.remember(&format!("call-{call}"), &instance, Instant::now());
            placements.0.run_pending_tasks();
            assert!(placements.0.entry_count() <= 100);
        }
        let known = |call: i32| placements.find(&format!("call-{call}"), Instant::now()).is_some();
        assert!((900..1000).all(known));
        assert!(!(0..900).any(known));
    }

    #[tokio::test]
    async fn an_overlong_call_id_is_not_remembered() {
        let placements = Placements::new();
        let id = "x".repeat(CALL_ID_BYTES_MAX + 1);
        placements.remember(&id, &owner(), Instant::now());
        assert_eq!(placements.find(&id, Instant::now()), None);
    }
}
