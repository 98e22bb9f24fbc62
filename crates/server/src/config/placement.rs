//! `[placement]`: the placement of new calls.

use std::time::Duration;

use serde_json::Value;
use switchboard_delivery::Fill;
use switchboard_graph::GraphSettings;
use switchboard_routing::Name;

use super::{
    model::{AffinityBy, Full, PeerSettings, Placement},
    section::{Section, Setting},
    unit,
    written::Written,
};
use crate::platform::{CALL_LIMIT, RECORDING_LIMIT};

/// Reads the rules of placement, the longest attempt, the part of the fleet that may be ejected, and the way
/// in which instances are filled. `graph` has an element for each app. `peers` and `graph` are `None` if they
/// have a problem already.
pub(super) fn placement(
    root: &Section<'_>,
    peers: Option<&[PeerSettings]>,
    graph: Option<&[Option<GraphSettings>]>,
) -> Option<(Placement, Duration, f64, Fill)> {
    let section = root.section("placement");
    let keys = [
        ("call", AffinityBy::Call),
        ("chain", AffinityBy::Chain),
        ("thread", AffinityBy::Thread),
        ("tenant", AffinityBy::Tenant),
    ];
    let key = section.word_or("key", AffinityBy::Call, &keys);
    let budget = section.or("budget", Duration::from_secs(12), |setting| less_than(setting, CALL_LIMIT));
    let recording_budget = section
        .or("recording_budget", Duration::from_millis(3500), |setting| less_than(setting, RECORDING_LIMIT));
    // The default never exceeds the budget, so a short budget needs no setting for the attempt.
    let default = budget.map_or(ATTEMPT, |budget| budget.min(ATTEMPT));
    let attempt = section.or("attempt", default, |setting| {
        let attempt = setting.duration(&(Duration::from_millis(1)..=CALL_LIMIT))?;
        let longest = budget.filter(|budget| attempt > *budget);
        if let Some(budget) = longest {
            setting.problem(format!("longer than placement.budget, which is {}", unit::show(budget)));
        }
        longest.is_none().then_some(attempt)
    });
    let eject_share = section.or("eject_share", 0.5, Setting::fraction);
    let fill = fill(&section, key);
    let full = section.or("full", Full::Refuse, |setting| full(setting, peers, graph));
    section.finish();
    let placement =
        Placement { key: key?, budget: budget?, recording_budget: recording_budget?, full: full? };
    Some((placement, attempt?, eject_share?, fill?))
}

/// Reads the way in which instances are filled. `key` is `None` if it has a problem already.
fn fill(section: &Section<'_>, key: Option<AffinityBy>) -> Option<Fill> {
    let is_packed = section.word_or("fill", false, &[("spread", false), ("pack", true)]);
    let other_key = key.filter(|key| is_packed == Some(true) && *key != AffinityBy::Call);
    if let Some(key) = other_key {
        section.problem(
            "fill",
            format!(
                "\"pack\" fills the instances in one order, and placement.key = \"{}\" would have no effect; \
                 leave the key out, or write \"spread\"",
                key.label()
            ),
        );
    }
    let is_packed = is_packed.filter(|_| other_key.is_none());
    let share = section.or("fill_share", 0.8, |setting| {
        if is_packed == Some(false) {
            setting.problem("applies to placement.fill = \"pack\" only; write it, too, or leave this out");
            return None;
        }
        let share = setting.fraction()?;
        if share == 0.0 {
            setting.problem("0 fills no instance; write a number above it, like 0.8");
        }
        (share > 0.0).then_some(share)
    });
    let (is_packed, share) = (is_packed?, share?);
    Some(if is_packed { Fill::Pack { share } } else { Fill::Spread })
}

fn less_than(setting: &Setting<'_>, limit: Duration) -> Option<Duration> {
    let duration = setting.duration(&(Duration::from_millis(1)..=Duration::from_secs(3600)))?;
    if duration >= limit {
        let limit = unit::show(limit);
        setting
            .problem(format!("not less than {limit}, the time after which the platform gives the call up"));
        return None;
    }
    Some(duration)
}

fn full(
    setting: &Setting<'_>,
    peers: Option<&[PeerSettings]>,
    graph: Option<&[Option<GraphSettings>]>,
) -> Option<Full> {
    let text = setting.text(FULL)?;
    if text == "refuse" {
        return Some(Full::Refuse);
    }
    if text == "reject" {
        // Without a credential the gateway cannot ask Graph to reject the call.
        let lacking = graph.and_then(|graph| graph.iter().position(Option::is_none));
        if let Some(index) = lacking {
            setting.problem(format!("\"reject\" needs Graph, and app[{index}] has no [app.graph]; add it"));
        }
        return lacking.is_none().then_some(Full::Reject);
    }
    let region = text.strip_prefix("overflow:").and_then(|name| Name::parse(name).ok());
    let Some(region) = region else {
        setting.problem(format!("not {FULL}"));
        return None;
    };
    if peers.is_some_and(|peers| peers.iter().all(|peer| peer.name != region)) {
        setting.problem(format!("overflows to {region}, which is not a [[peer]]; add it"));
        return None;
    }
    Some(Full::Overflow(region))
}

impl Written for Full {
    fn written(&self) -> Value {
        Value::from(match self {
            Self::Refuse => "refuse".to_owned(),
            Self::Overflow(region) => format!("overflow:{region}"),
            Self::Reject => "reject".to_owned(),
        })
    }
}

/// The longest attempt by default. Three attempts fit into the budget, one after the other.
const ATTEMPT: Duration = Duration::from_secs(3);
const FULL: &str = "\"refuse\", \"overflow:REGION\" or \"reject\"";
