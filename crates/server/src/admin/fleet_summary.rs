//! `/fleet/summary`: the fleet in a few numbers, for autoscalers. Its names are documented in
//! `docs/admin.md`.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;

use crate::{
    admin::{
        response::{AdminResponse, json},
        state::AdminState,
    },
    fleet_totals::FleetTotals,
};

#[derive(Serialize)]
struct FleetSummaryJson {
    instances: InstancesJson,
    calls: u64,
    capacity: u64,
    free: u64,
    wanted: Option<u64>,
}

#[derive(Serialize)]
struct InstancesJson {
    total: u64,
    by_state: BTreeMap<&'static str, u64>,
}

pub(super) fn response(state: &AdminState) -> AdminResponse {
    let totals = FleetTotals::of(&state.delivery, &state.delivery.instances(), state.head_room);
    let instances = InstancesJson { total: totals.instances(), by_state: totals.by_state().collect() };
    let FleetTotals { calls, capacity, free, wanted, .. } = totals;
    json(StatusCode::OK, &FleetSummaryJson { instances, calls, capacity, free, wanted })
}
