//! The instances that `fleet list` is asked for.

use super::{
    instance::FleetInstance,
    merged::{MergedFleet, MergedInstance},
    wait::is_empty,
};
use crate::cli::FleetListArgs;

/// Keeps the instances that the options ask for: in the state at one gateway, or empty at all of them.
pub(super) fn retain_listed(fleet: &mut MergedFleet, args: &FleetListArgs) {
    let responded = fleet.responded.len();
    fleet.instances.retain(|MergedInstance { at, .. }| {
        let at: Vec<_> = at.iter().map(|(_, instance)| instance).collect();
        (!args.empty || at.len() == responded) && is_listed(args, &at)
    });
}

/// Returns true if the options ask for an instance, as each gateway sees it.
pub(super) fn is_listed(args: &FleetListArgs, at: &[&FleetInstance]) -> bool {
    args.state.as_ref().is_none_or(|state| at.iter().any(|instance| instance.state == *state))
        && (!args.empty || at.iter().all(|instance| is_empty(instance)))
}
