//! The metrics of the fleet as a whole.

use std::fmt;

use super::families::Families;
use crate::fleet_totals::FleetTotals;

/// Writes the totals of the fleet.
pub(super) fn encode(totals: &FleetTotals, families: &mut Families<'_>) -> fmt::Result {
    families.gauges(
        "fleet_instances",
        "Instances in the fleet by state",
        totals.by_state().map(|(state, count)| ([("state", state)], count)),
    )?;
    for (name, help, value) in [
        ("fleet_calls", "Expected calls of all instances that report their calls", Some(totals.calls)),
        ("fleet_capacity", "Calls that all instances report they can hold", Some(totals.capacity)),
        ("fleet_free", "Calls that the instances that are ready can still take", Some(totals.free)),
        (
            "fleet_wanted_instances",
            "Instances for the present calls and fleet.head_room; absent if no instance reports a capacity",
            totals.wanted,
        ),
    ] {
        if let Some(value) = value {
            families.gauge(name, help, &value)?;
        }
    }
    Ok(())
}
