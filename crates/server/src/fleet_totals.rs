//! `FleetTotals`: the calls, the capacity and the wanted size of the whole fleet.

use switchboard_delivery::{Delivery, InstanceState, InstanceStatus};

/// The numbers of the fleet as a whole. Instances that are gone do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetTotals {
    /// The instances in each of [`FleetTotals::STATES`].
    by_state: [u64; Self::STATES.len()],
    /// The expected calls of the instances that report their calls, in any state: the calls of an instance
    /// that drains need a place on another one when they are made again.
    pub calls: u64,
    /// The capacity of the instances that report it.
    pub capacity: u64,
    /// The calls that the instances that are ready can take until they are at their capacity.
    pub free: u64,
    /// The number of instances for the present calls and the head-room. `None` if it is not known.
    pub wanted: Option<u64>,
}

impl FleetTotals {
    /// The states of an instance that is in the fleet.
    const STATES: [InstanceState; 6] = [
        InstanceState::Starting,
        InstanceState::Ready,
        InstanceState::Full,
        InstanceState::Draining,
        InstanceState::Ejected,
        InstanceState::Unreachable,
    ];

    /// The totals of these instances of a delivery.
    ///
    /// Before the delivery has read its source and has waited for the first probes, it knows a part of the
    /// calls only. A size for that part would end instances that have the others, so there is none.
    pub fn of(delivery: &Delivery, instances: &[InstanceStatus], head_room: f64) -> Self {
        let totals = Self::add_up(instances, head_room);
        let is_known = delivery.is_known() && delivery.awaited().is_none();
        Self { wanted: totals.wanted.filter(|_| is_known), ..totals }
    }

    fn add_up(instances: &[InstanceStatus], head_room: f64) -> Self {
        let mut totals = Self::default();
        let mut with_capacity = 0_u64;
        for one in instances {
            let Some(at) = Self::STATES.iter().position(|state| *state == one.state) else { continue };
            if let Some(count) = totals.by_state.get_mut(at) {
                *count = count.saturating_add(1);
            }
            let calls = u64::from(one.calls_expected.unwrap_or(0));
            totals.calls = totals.calls.saturating_add(calls);
            let Some(capacity) = one.capacity.filter(|capacity| *capacity > 0).map(u64::from) else {
                continue;
            };
            with_capacity = with_capacity.saturating_add(1);
            totals.capacity = totals.capacity.saturating_add(capacity);
            if one.state == InstanceState::Ready {
                totals.free = totals.free.saturating_add(capacity.saturating_sub(calls));
            }
        }
        totals.wanted = wanted(totals.calls, with_capacity, totals.capacity, head_room);
        totals
    }

    /// The number of instances.
    pub fn instances(&self) -> u64 {
        self.by_state.iter().sum()
    }

    /// The number of instances in each state.
    pub fn by_state(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::STATES.map(InstanceState::label).into_iter().zip(self.by_state)
    }
}

/// The calls and the head-room, divided by the mean capacity of an instance, rounded up, and at least 1.
///
/// Example: 130 calls on four instances for 40 each. With a head-room of 0.2 there must be room for 156
/// calls: 156 / 40 = 3.9, so 4 instances are wanted.
fn wanted(calls: u64, instances: u64, capacity: u64, head_room: f64) -> Option<u64> {
    let calls = u128::from(calls) * u128::from(1000 + thousandths(head_room));
    let needed = calls.checked_mul(instances.into())?;
    // No capacity, no mean.
    let capacity = u128::from(capacity.checked_mul(1000)?);
    let wanted = needed.checked_add(capacity)?.checked_sub(1)?.checked_div(capacity)?;
    u64::try_from(wanted).ok().map(|wanted| wanted.max(1))
}

#[expect(clippy::as_conversions, reason = "a number from 0 to 1 has at most 1000 thousandths")]
fn thousandths(part: f64) -> u32 {
    (part * 1000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(calls: u64, instances: u64, capacity: u64, head_room: f64, expected: Option<u64>) {
        assert_eq!(wanted(calls, instances, capacity, head_room), expected);
    }

    #[test]
    fn the_wanted_size_is_the_calls_and_the_head_room_by_the_mean_capacity() {
        check(130, 4, 160, 0.2, Some(4));
        check(133, 4, 160, 0.2, Some(4)); // 159.6
        check(134, 4, 160, 0.2, Some(5)); // 160.8
        check(100, 20, 200, 0.0, Some(10));
        check(101, 20, 200, 0.0, Some(11));
        check(100, 20, 200, 1.0, Some(20));
        // Instances of different sizes: 60 calls, a mean of 20.
        check(60, 2, 40, 0.0, Some(3));
    }

    #[test]
    fn the_wanted_size_is_one_at_least_and_unknown_without_a_capacity() {
        check(0, 4, 160, 0.2, Some(1));
        check(7, 0, 0, 0.2, None);
        check(u64::from(u32::MAX) * 20_000, 20_000, 20_000, 1.0, Some(u64::from(u32::MAX) * 40_000));
        check(u64::MAX, u64::MAX, 1, 1.0, None);
    }
}
