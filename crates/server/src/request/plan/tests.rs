//! Plans of whole notifications: a table of batches, and laws.

use proptest::prelude::*;
use switchboard_notification::Envelope;

use super::*;
use crate::config::{
    Config,
    tests::{MINIMAL, parse},
};

/// The minimal configuration, with a peer, a rule and budgets.
fn config() -> Config {
    const MORE: &str = r#"
        [[peer]]
        name = "amer"
        webhook = "https://amer.bots.contoso.com/api/calls"
        [affinity]
        status = 307
        [[affinity.rule]]
        source_region = ["amer"]
        serve_in = "amer"
        [placement]
        budget = "11s"
        recording_budget = "3s"
    "#;
    parse(&format!("{MINIMAL}{MORE}")).unwrap()
}

/// A new call, from a caller in `region`.
fn incoming(call_id: &str, region: &str) -> String {
    format!(
        r##"{{"changeType":"created","resourceUrl":"/communications/calls/{call_id}","resourceData":{{
            "@odata.type":"#microsoft.graph.call","state":"incoming","source":{{"region":"{region}"}}}}}}"##
    )
}

/// The roster of a call.
fn roster(call_id: &str) -> String {
    format!(r#"{{"changeType":"updated","resource":"/app/calls/{call_id}/participants","resourceData":[]}}"#)
}

fn about_no_call() -> String {
    r#"{"changeType":"created","resource":"/users/1"}"#.to_owned()
}

fn recorded(call_id: &str) -> String {
    let policy = r##","incomingContext":{
        "@odata.type":"#microsoft.graph.incomingContext","observedParticipantId":"1"}"##;
    incoming(call_id, "emea").replace(r#","source""#, &format!(r#"{policy},"source""#))
}

fn envelope(items: &[String]) -> String {
    format!(r#"{{"value":[{}]}}"#, items.join(","))
}

fn context(config: &Config, is_redirected: bool) -> PlanContext<'_> {
    PlanContext {
        policy: &config.policy,
        placement: &config.placement,
        redirect_status: config.redirect_status,
        tenant: Uuid::nil(),
        app_in_path: None,
        caller_region: None,
        is_redirected,
    }
}

/// The owner of a call is the instance that its id starts with: `bot-1-a` belongs to `bot-1`; `x-a` to none.
fn probable_owner(call_id: &str) -> Option<Name> {
    let (name, _) = call_id.rsplit_once('-')?;
    name.starts_with("bot").then(|| Name::parse(&name.to_ascii_lowercase()).unwrap())
}

fn described(part: &PlannedPart<'_>) -> String {
    let destination = match &part.destination {
        Destination::NewCall(call) => match call.redirect {
            Some(region) => format!("to {region}"),
            None => "here".to_owned(),
        },
        Destination::ProbableOwner(Some(owner)) => format!("{owner}"),
        Destination::ProbableOwner(None) => "no instance".to_owned(),
    };
    format!("{} {:?}: {destination}", part.call_id, part.items)
}

#[track_caller]
fn check(items: &[String], expected: &[&str]) {
    let config = config();
    let body = envelope(items);
    let Ok(Envelope::Graph(notifications)) = Envelope::parse(body.as_bytes()) else { panic!("{body}") };
    let knowledge = Knowledge { is_healthy: &|_| true, probable_owner: &probable_owner };
    let plan = context(&config, false).plan(&notifications, knowledge);
    assert_eq!(plan.parts.iter().map(described).collect::<Vec<_>>(), expected);
}

#[test]
fn one_new_call_goes_to_the_region_of_its_rule() {
    check(&[incoming("a", "emea")], &["a [0]: here"]);
    check(&[incoming("a", "amer")], &["a [0]: to amer"]);
}

#[test]
fn a_call_that_is_not_new_goes_to_its_probable_owner() {
    check(&[roster("bot-1-a")], &["bot-1-a [0]: bot-1"]);
    check(&[roster("x-a")], &["x-a [0]: no instance"]);
}

#[test]
fn items_about_a_new_call_travel_with_it() {
    check(&[incoming("a", "amer"), roster("a")], &["a [0, 1]: to amer"]);
    // Before it, too, and in any case.
    check(&[roster("A"), incoming("a", "emea")], &["a [0, 1]: here"]);
    // Announced twice, it is one new call.
    check(&[incoming("a", "emea"), incoming("A", "amer")], &["a [0, 1]: here"]);
}

#[test]
fn calls_of_one_owner_travel_together() {
    check(&[roster("bot-1-a"), roster("bot-1-b")], &["bot-1-a [0, 1]: bot-1"]);
}

#[test]
fn a_batch_has_a_part_for_each_owner() {
    check(
        &[roster("bot-1-a"), incoming("a", "emea"), roster("bot-2-b"), roster("bot-1-c"), roster("a")],
        &["bot-1-a [0, 3]: bot-1", "a [1, 4]: here", "bot-2-b [2]: bot-2"],
    );
    check(&[incoming("a", "emea"), incoming("b", "emea")], &["a [0]: here", "b [1]: here"]);
}

#[test]
fn no_call_of_a_batch_is_redirected() {
    check(&[incoming("a", "amer"), roster("bot-1-a")], &["a [0]: here", "bot-1-a [1]: bot-1"]);
}

#[test]
fn items_about_no_call_travel_with_the_first_part() {
    check(
        &[about_no_call(), roster("bot-1-a"), incoming("a", "emea"), about_no_call()],
        &["bot-1-a [0, 1, 3]: bot-1", "a [2]: here"],
    );
}

#[test]
fn a_recorded_call_has_the_smaller_budget_and_limit() {
    let config = config();
    for (item, budget_s, limit_s) in [(incoming("a", "emea"), 11, 15), (recorded("a"), 3, 5)] {
        let body = envelope(&[item]);
        let Ok(Envelope::Graph(notifications)) = Envelope::parse(body.as_bytes()) else { panic!("{body}") };
        let knowledge = Knowledge { is_healthy: &|_| true, probable_owner: &probable_owner };
        let plan = context(&config, false).plan(&notifications, knowledge);
        let [PlannedPart { destination: Destination::NewCall(call), .. }] = plan.parts.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!((call.budget.as_secs(), call.limit.as_secs()), (budget_s, limit_s));
        assert_eq!((call.item, &*call.affinity), (0, "a"));
    }
}

#[test]
fn a_call_stays_here_if_it_was_redirected_here_or_its_region_is_unhealthy() {
    let config = config();
    let body = envelope(&[incoming("a", "amer")]);
    let Ok(Envelope::Graph(notifications)) = Envelope::parse(body.as_bytes()) else { panic!("{body}") };
    for (is_redirected, is_healthy, expected) in
        [(false, true, "a [0]: to amer"), (true, true, "a [0]: here"), (false, false, "a [0]: here")]
    {
        let knowledge = Knowledge { is_healthy: &|_| is_healthy, probable_owner: &probable_owner };
        let plan = context(&config, is_redirected).plan(&notifications, knowledge);
        assert_eq!(plan.parts.iter().map(described).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn a_redirect_keeps_the_app_in_the_path() {
    let config = config();
    let app = config.apps[0].id;
    let amer = Name::parse("amer").unwrap();
    for (app_in_path, expected) in [
        (None, "https://amer.bots.contoso.com/api/calls?switchboard-from=emea".to_owned()),
        (Some(app), format!("https://amer.bots.contoso.com/api/calls/{app}?switchboard-from=emea")),
    ] {
        let context = PlanContext { app_in_path, ..context(&config, false) };
        let redirection = context.redirection(&amer).unwrap();
        assert_eq!(redirection.location, expected);
        assert_eq!(redirection.status, RedirectStatus::TemporaryRedirect);
    }
    assert!(context(&config, false).redirection(&Name::parse("apac").unwrap()).is_none());
}

#[test]
fn a_terminated_or_deleted_call_has_ended() {
    let terminated = incoming("a", "emea").replace("incoming", "terminated").replace("created", "updated");
    let deleted = r#"{"changeType":"deleted","resource":"/communications/calls/b"}"#.to_owned();
    let left = r#"{"changeType":"deleted","resource":"/communications/calls/c/participants/1"}"#.to_owned();
    let body = envelope(&[terminated, deleted, left, incoming("d", "emea"), roster("e")]);
    let Ok(Envelope::Graph(notifications)) = Envelope::parse(body.as_bytes()) else { panic!("{body}") };
    let ended = ended_calls(&notifications.items);
    assert_eq!(ended.iter().map(|call_id| &**call_id).collect::<Vec<_>>(), ["a", "b"]);
}

/// An item by its kind and the number of its call.
fn item((kind, call): (u8, u8)) -> String {
    match kind {
        0 => incoming(&format!("new-{call}"), "emea"),
        1 => roster(&format!("new-{call}")),
        2 => roster(&format!("bot-{}-{call}", call % 2)),
        _ => about_no_call(),
    }
}

proptest! {
    #[test]
    fn every_item_is_in_one_part(items in prop::collection::vec((0..4_u8, 0..4_u8), 1..12)) {
        let config = config();
        let body = envelope(&items.iter().copied().map(item).collect::<Vec<_>>());
        // A notification without an item about a call is refused.
        let Ok(Envelope::Graph(notifications)) = Envelope::parse(body.as_bytes()) else { return Ok(()) };
        let knowledge = Knowledge { is_healthy: &|_| true, probable_owner: &probable_owner };
        let plan = context(&config, false).plan(&notifications, knowledge);
        let mut planned: Vec<usize> = plan.parts.iter().flat_map(|part| part.items.clone()).collect();
        planned.sort_unstable();
        prop_assert_eq!(planned, (0..items.len()).collect::<Vec<_>>());
        for part in &plan.parts {
            prop_assert!(part.items.is_sorted());
            if let Destination::NewCall(call) = &part.destination {
                prop_assert!(part.items.contains(&call.item));
            }
        }
    }
}
