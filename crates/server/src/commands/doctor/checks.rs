//! The list of checks of a configuration.

use std::sync::Arc;

use super::{address, check::Check, finding::Finding, fleet, graph, observed::ClockOffsets, peers, trust};
use crate::{
    cli::DoctorArgs,
    config::{Config, shown},
    process::descriptors,
};

/// All checks that use the network, in the order of the output.
pub(super) fn all(config: Config, args: &DoctorArgs, clocks: &Arc<ClockOffsets>) -> Vec<Check> {
    // Without `..`: a setting that no check uses is named here.
    let Config {
        region,
        listen,
        admin: _,
        apps,
        graph,
        trusts,
        keys: _,
        callback,
        peers: listed,
        policy: _,
        redirect_status: _,
        placement: _,
        delivery,
        fleet_file,
        instances_ca,
        x_forwarded: _,
        limits: _,
        head_room: _,
        log: _,
        effective: _,
    } = config;
    let mut checks = vec![address::check(callback.origin(), &listen.webhook_path, clocks)];
    checks.extend(trusts.into_iter().map(|one| trust::check(one, clocks)));
    let servers = delivery.name_servers.clone();
    checks.push(fleet::check(delivery, fleet_file, instances_ca, Arc::clone(&callback)));
    checks.extend(peers::checks(&region, listed, &servers, clocks));
    checks.extend(graph::checks(graph, &apps, args.tenant, clocks));
    checks
}

/// The configuration is valid, or `doctor` had ended with its problems.
pub(super) fn configuration(args: &DoctorArgs) -> Finding {
    Finding::ok("configuration", &shown(args.config.path()), "valid")
}

/// The limit of file descriptors, to which the gateway raises its own.
pub(super) fn descriptors(config: &Config) -> Finding {
    let needed = descriptors::needed(&config.limits);
    let (area, subject) = ("descriptors", "this process");
    match descriptors::hard_limit() {
        Some(limit) if limit < needed => Finding::warning(
            area,
            subject,
            format!("at most {limit}, and the limits may need {needed}"),
            "raise the hard limit (LimitNOFILE=), or lower limits.connections and limits.in_flight",
        ),
        Some(limit) => {
            Finding::ok(area, subject, format!("at most {limit}, and the limits may need {needed}"))
        }
        None => Finding::ok(area, subject, format!("not limited, and the limits may need {needed}")),
    }
}
