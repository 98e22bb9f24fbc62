//! The metrics of placement: its retries, its bounds and its waits.

use std::fmt;

use switchboard_delivery::PlacementCounters;

use super::families::Families;

/// Writes the counters of placement.
pub(super) fn encode(placement: &PlacementCounters, families: &mut Families<'_>) -> fmt::Result {
    // Without `..`: a counter without a metric does not compile.
    let PlacementCounters {
        hedges,
        further_attempts,
        retries_refused,
        races_lost,
        attempts_exhausted,
        waits,
        waits_successful,
        waits_refused,
        waiting,
    } = placement;
    families.counters(
        "placement_retries",
        "Written attempts of new calls after the first: hedge beside an open one, further after a failed one",
        [("hedge", *hedges), ("further", *further_attempts)].map(|(kind, count)| ([("kind", kind)], count)),
    )?;
    families.counter(
        "placement_retries_refused",
        "Further attempts of new calls that the retry budget of the fleet did not allow",
        *retries_refused,
    )?;
    families.counter(
        "placement_races_lost",
        "Attempts of new calls given up because another instance accepted the call first",
        *races_lost,
    )?;
    families.counter(
        "placement_attempts_exhausted",
        "New calls that reached the bound of attempts",
        *attempts_exhausted,
    )?;
    families.counter(
        "placement_waits",
        "New calls that waited for an instance because none could be asked",
        *waits,
    )?;
    families.counter(
        "placement_waits_successful",
        "Waits of new calls in which an instance became eligible",
        *waits_successful,
    )?;
    families.counter(
        "placement_waits_refused",
        "New calls that did not wait for an instance because too many others did",
        *waits_refused,
    )?;
    families.gauge("placement_waiting", "New calls that wait for an instance", waiting)
}
