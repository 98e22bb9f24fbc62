//! The instances that DNS lists, and the instances that it listed a moment ago.
//!
//! A response may be a part of the whole: some servers pick eight random records, some resolvers return a
//! different part from each of their caches. So an instance that is absent from a response stays for a while,
//! unless it fails.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use switchboard_routing::Name;
use tokio::time::Instant;

use crate::{
    discovery::source::{EMPTY_HOLD, INSTANCES_MAX},
    member::Member,
};

/// The instances in the last responses, as a pure function of these responses and of time.
#[derive(Debug, Default)]
pub(super) struct Listing {
    members: BTreeMap<Name, Listed>,
    /// The responses in a row that had as many instances as the one before, but others.
    rotations: u32,
    /// The time of the last response that makes the responses look like changing parts of the whole.
    parts_seen: Option<Instant>,
    /// The time since which the responses are empty.
    empty_since: Option<Instant>,
}

/// An instance in the last response, or in one before.
#[derive(Debug)]
struct Listed {
    member: Member,
    /// The TTL of the last response with it.
    ttl: Duration,
    absence: Option<Absence>,
}

/// The absence of an instance from the last response.
#[derive(Debug)]
struct Absence {
    /// The time of the first response without it.
    since: Instant,
    /// The responses in a row without it.
    responses: u32,
    /// The failures of the instance until then.
    failures: u64,
}

impl Listing {
    /// A listing after a response with these members.
    pub(super) fn of(members: Vec<Member>) -> Self {
        let listed =
            |member: Member| (member.name.clone(), Listed { member, ttl: Duration::ZERO, absence: None });
        Self { members: members.into_iter().map(listed).collect(), ..Self::default() }
    }

    /// Notes a response. `failures` returns the number of failed attempts and missed probes of an instance.
    ///
    /// Example with a TTL of 5 s: an instance in the response at 0 s and in none since 5 s leaves at 35 s.
    pub(super) fn responded(
        &mut self,
        response: Vec<Member>,
        ttl: Duration,
        failures: impl Fn(&Name) -> u64,
        now: Instant,
    ) {
        if response.is_empty() {
            self.empty_since = self.empty_since.or(Some(now));
        } else {
            if self.empty_since.take().is_some() {
                // The zone was lost: the absence from its empty responses says nothing.
                self.members.values_mut().for_each(|listed| listed.absence = None);
            }
            self.note_rotation(&response, now);
        }
        let names: HashSet<Name> = response.iter().map(|member| member.name.clone()).collect();
        for (name, listed) in &mut self.members {
            if !names.contains(name) {
                let absence = listed.absence.get_or_insert_with(|| Absence {
                    since: now,
                    responses: 0,
                    failures: failures(name),
                });
                absence.responses = absence.responses.saturating_add(1);
            }
        }
        let ttl = ttl.min(TTL_MAX);
        for member in response {
            self.members.insert(member.name.clone(), Listed { member, ttl, absence: None });
        }
        let hold = match (self.empty_since, self.parts_seen) {
            (Some(_), _) => EMPTY_HOLD,
            (None, Some(_)) => UNION,
            (None, None) => HOLD_MIN,
        };
        self.members.retain(|_, listed| !listed.leaves(hold, now));
        self.limit();
        self.drop_failed(failures);
    }

    /// Removes the absent instances that failed an attempt or missed a probe since they are absent. Returns
    /// true if there are any.
    ///
    /// Empty responses say nothing about a single instance, so none is removed for them.
    pub(super) fn drop_failed(&mut self, failures: impl Fn(&Name) -> u64) -> bool {
        let before = self.members.len();
        if self.empty_since.is_none() {
            self.members.retain(|name, listed| {
                listed.absence.as_ref().is_none_or(|absence| failures(name) <= absence.failures)
            });
        }
        self.members.len() < before
    }

    /// The instances, absent ones included.
    pub(super) fn members(&self) -> Vec<Member> {
        self.members.values().map(|listed| listed.member.clone()).collect()
    }

    /// Returns true if an instance is absent from the last response.
    pub(super) fn has_absent(&self) -> bool {
        self.members.values().any(|listed| listed.absence.is_some())
    }

    /// Returns true if the responses look like changing parts of the whole.
    pub(super) fn has_parts(&self) -> bool {
        self.parts_seen.is_some()
    }

    /// Returns true if the last responses are empty, and that is not believed yet.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        let is_new = |since| now.saturating_duration_since(since) < EMPTY_HOLD;
        self.empty_since.is_some_and(|since| is_new(since) || !self.members.is_empty())
    }

    fn note_rotation(&mut self, response: &[Member], now: Instant) {
        let is_present = |name: &Name| self.members.get(name).is_some_and(|listed| listed.absence.is_none());
        let before = self.members.values().filter(|listed| listed.absence.is_none()).count();
        let is_rotation = before == response.len() && response.iter().any(|member| !is_present(&member.name));
        self.rotations = if is_rotation { self.rotations.saturating_add(1) } else { 0 };
        if self.rotations >= ROTATIONS {
            self.parts_seen = Some(now);
        } else if !is_rotation
            && self.parts_seen.is_some_and(|seen| now.saturating_duration_since(seen) >= UNION)
        {
            self.parts_seen = None;
        }
    }

    /// Removes the instances that are absent the longest, beyond [`INSTANCES_MAX`].
    fn limit(&mut self) {
        let Some(excess) = self.members.len().checked_sub(INSTANCES_MAX).filter(|excess| *excess > 0) else {
            return;
        };
        let absent = self.members.iter().filter_map(|(name, one)| Some((one.absence.as_ref()?.since, name)));
        let mut absent: Vec<_> = absent.map(|(since, name)| (since, name.clone())).collect();
        absent.sort_unstable();
        for (_, name) in absent.into_iter().take(excess) {
            self.members.remove(&name);
        }
    }
}

impl Listed {
    /// Returns true if it was absent from enough responses, for long enough.
    fn leaves(&self, hold: Duration, now: Instant) -> bool {
        self.absence.as_ref().is_some_and(|absence| {
            let absent_for = now.saturating_duration_since(absence.since);
            absence.responses >= ABSENT_RESPONSES && absent_for >= hold.max(self.ttl.saturating_mul(2))
        })
    }
}

/// The responses in a row from which an instance must be absent before it leaves.
const ABSENT_RESPONSES: u32 = 3;
/// The longest TTL that counts: one wrong response must not keep an instance for days.
const TTL_MAX: Duration = Duration::from_secs(300);
/// The least time for which it must be absent.
const HOLD_MIN: Duration = Duration::from_secs(30);
/// Responses in a row with as many instances, but others, that look like changing parts of the whole. It is
/// the number of responses after which an instance could leave.
const ROTATIONS: u32 = 3;
/// The time over which such parts are united.
const UNION: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
