//! Decisions, explanations, redirects, and settings that are refused.

use proptest::prelude::*;
use switchboard_notification::Call;
use url::Url;
use uuid::{Uuid, uuid};

use super::{Decision, DecisionReason, InvalidPolicy, Peer, Policy, Rule, RuleOutcome, Traits, is_marked};
use crate::{endpoint::InvalidUrl, name::Name};

const CONTOSO: Uuid = uuid!("72f988bf-86f1-41af-91ab-2d7cd011db47");
const FABRIKAM: Uuid = uuid!("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");
const APP: Uuid = uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn peer(region: &str, webhook: &str) -> Peer {
    Peer { name: name(region), webhook: Url::parse(webhook).unwrap() }
}

fn peers() -> Vec<Peer> {
    ["amer", "apac"].map(|region| peer(region, &format!("https://{region}.contoso.com/api/calls"))).into()
}

/// Returns the policy of emea.
fn policy(rules: Vec<Rule>) -> Policy {
    Policy::new(name("emea"), peers(), rules).unwrap()
}

fn to(region: &str) -> Rule {
    Rule::to(name(region))
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn a_call() -> Call<'static> {
    Call {
        chain_id: Some("d8217646-3110-40b1-bae6-e9ac6c3a9f74".into()),
        source_region: Some("amer".into()),
        country: Some("US".into()),
        media_region: Some("USEA".into()),
        organizer_tenant: Some(FABRIKAM),
        observed_user: Some("0D4D8E50-user".into()),
        ..Call::default()
    }
}

fn traits<'a>(call: &'a Call<'a>) -> Traits<'a> {
    Traits {
        call,
        call_id: "491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7",
        caller_region: Some("noam"),
        tenant: CONTOSO,
    }
}

/// Checks the decision for `a_call` in emea, with all regions healthy and no marker.
#[track_caller]
fn check(rules: Vec<Rule>, redirect: Option<&str>, rule: Option<usize>, reason: DecisionReason) {
    check_in(rules, false, true, redirect, rule, reason);
}

#[track_caller]
fn check_in(
    rules: Vec<Rule>,
    marked: bool,
    healthy: bool,
    redirect: Option<&str>,
    rule: Option<usize>,
    reason: DecisionReason,
) {
    let policy = policy(rules);
    let call = a_call();
    let found = policy.decide(&traits(&call), marked, |_| healthy);
    let redirect = redirect.map(name);
    assert_eq!(found, Decision { redirect: redirect.as_ref(), rule, reason });
}

#[test]
fn without_a_matching_rule_a_call_stays() {
    check(vec![], None, None, DecisionReason::NoRule);
    check(vec![Rule { country: texts(&["DE"]), ..to("amer") }], None, None, DecisionReason::NoRule);
}

#[test]
fn a_rule_without_conditions_takes_every_call() {
    check(vec![to("apac")], Some("apac"), Some(0), DecisionReason::Rule);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let german = || Rule { country: texts(&["DE"]), ..to("apac") };
    let american = || Rule { country: texts(&["US"]), ..to("amer") };
    check(vec![german(), american(), to("apac")], Some("amer"), Some(1), DecisionReason::Rule);
    check(
        vec![Rule { country: texts(&["US"]), ..to("emea") }, american()],
        None,
        Some(0),
        DecisionReason::RuleHere,
    );
}

#[test]
fn conditions_ignore_case() {
    let match_one = |rule: Rule| check(vec![rule], Some("amer"), Some(0), DecisionReason::Rule);
    match_one(Rule { source_region: texts(&["emea", "AMER"]), ..to("amer") });
    match_one(Rule { country: texts(&["us"]), ..to("amer") });
    match_one(Rule { caller_region: texts(&["NOAM"]), ..to("amer") });
    match_one(Rule { media_region: texts(&["usea"]), ..to("amer") });
    match_one(Rule { tenant: texts(&["72F988BF-86F1-41AF-91AB-2D7CD011DB47"]), ..to("amer") });
    match_one(Rule { tenant: texts(&["{72f988bf-86f1-41af-91ab-2d7cd011db47}"]), ..to("amer") });
    match_one(Rule { organizer_tenant: texts(&["AAAAAAAA-bbbb-cccc-dddd-EEEEEEEEEEEE"]), ..to("amer") });
    match_one(Rule { user: texts(&["0d4d8e50-USER"]), ..to("amer") });
}

#[test]
fn all_conditions_given_must_hold() {
    let both =
        |country: &str| Rule { source_region: texts(&["amer"]), country: texts(&[country]), ..to("amer") };
    check(vec![both("US")], Some("amer"), Some(0), DecisionReason::Rule);
    check(vec![both("CA")], None, None, DecisionReason::NoRule);
}

#[test]
fn a_call_without_the_value_does_not_match() {
    let call = Call::default();
    let traits = Traits { caller_region: None, ..traits(&call) };
    let every = [
        ("source_region", Rule { source_region: texts(&["", "amer"]), ..to("amer") }),
        ("country", Rule { country: texts(&["US"]), ..to("amer") }),
        ("caller_region", Rule { caller_region: texts(&["noam"]), ..to("amer") }),
        ("media_region", Rule { media_region: texts(&["USEA"]), ..to("amer") }),
        ("organizer_tenant", Rule { organizer_tenant: vec![FABRIKAM.to_string()], ..to("amer") }),
        ("user", Rule { user: texts(&["u"]), ..to("amer") }),
    ];
    for (condition, rule) in every {
        let policy = policy(vec![rule]);
        assert_eq!(policy.decide(&traits, false, |_| true).reason, DecisionReason::NoRule, "{condition}");
        assert_eq!(policy.explain(&traits), [RuleOutcome::Failed { condition, seen: None }]);
    }
}

#[test]
fn a_marked_request_is_never_redirected() {
    check_in(vec![to("amer")], true, true, None, Some(0), DecisionReason::Marked);
    check_in(vec![to("amer")], true, false, None, Some(0), DecisionReason::Marked);
    check_in(vec![to("emea")], true, true, None, Some(0), DecisionReason::RuleHere);
    check_in(vec![], true, true, None, None, DecisionReason::NoRule);
}

#[test]
fn a_call_for_an_unhealthy_region_stays() {
    check_in(vec![to("amer"), to("apac")], false, false, None, Some(0), DecisionReason::Unhealthy);
    check_in(vec![to("emea")], false, false, None, Some(0), DecisionReason::RuleHere);
    let policy = policy(vec![to("amer")]);
    let call = a_call();
    let decision = policy.decide(&traits(&call), false, |region| region.as_str() != "apac");
    assert_eq!(decision.reason, DecisionReason::Rule, "the health of other regions does not matter");
}

#[test]
fn explain_returns_the_outcome_of_each_rule() {
    let policy = policy(vec![
        Rule { country: texts(&["US"]), media_region: texts(&["EUNO", "EUWE"]), ..to("apac") },
        Rule { tenant: vec![FABRIKAM.to_string()], ..to("amer") },
        Rule { share: 0.0, ..to("amer") },
        to("emea"),
        to("apac"),
    ]);
    let call = a_call();
    let failed = |condition, seen: &str| RuleOutcome::Failed { condition, seen: Some(seen.to_owned()) };
    assert_eq!(
        policy.explain(&traits(&call)),
        [
            failed("media_region", "USEA"),
            failed("tenant", "72f988bf-86f1-41af-91ab-2d7cd011db47"),
            RuleOutcome::OutsideShare,
            RuleOutcome::Matched,
            RuleOutcome::Matched,
        ]
    );
}

/// Returns how many of 4000 chains stay, go to amer, and go elsewhere.
fn spread(rules: Vec<Rule>) -> [usize; 3] {
    let policy = policy(rules);
    let mut counts = [0; 3];
    for chain in 0..4_000 {
        let call = Call {
            chain_id: Some(format!("d8217646-3110-40b1-bae6-{chain:012x}").into()),
            ..Call::default()
        };
        let decision = policy.decide(&traits(&call), false, |_| true);
        match decision.redirect.map(Name::as_str) {
            None => counts[0] += 1,
            Some("amer") => counts[1] += 1,
            Some(_) => counts[2] += 1,
        }
    }
    counts
}

#[test]
fn a_share_takes_its_share_of_the_chains() {
    let check = |rules, expected: [usize; 3]| {
        let found = spread(rules);
        let near = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 120);
        assert!(near, "{found:?}, not {expected:?}");
    };
    check(vec![Rule { share: 0.25, ..to("amer") }], [3_000, 1_000, 0]);
    check(vec![Rule { share: 0.5, ..to("amer") }, Rule { share: 0.5, ..to("apac") }], [1_000, 2_000, 1_000]);
    check(vec![Rule { share: 0.5, ..to("amer") }, to("apac")], [0, 2_000, 2_000]);
    assert_eq!(spread(vec![Rule { share: 0.0, ..to("amer") }]), [4_000, 0, 0]);
    assert_eq!(spread(vec![to("amer")]), [0, 4_000, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_chain_stays_together(
        chain in "[a-zA-Z0-9-]{1,40}",
        id in "[a-z0-9-]{1,40}",
        share in 0.0..=1.0_f64,
    ) {
        let policy = policy(vec![Rule { share, ..to("amer") }]);
        let takes = |chain: Option<&str>, call_id: &str| {
            let call = Call { chain_id: chain.map(Into::into), ..Call::default() };
            policy.decide(&Traits { call_id, ..traits(&call) }, false, |_| true).redirect.is_some()
        };
        prop_assert_eq!(takes(Some(&chain), &id), takes(Some(&chain.to_ascii_uppercase()), "another"));
        prop_assert_eq!(takes(None, &chain), takes(Some(&chain), &id), "the call id replaces it");
        prop_assert_eq!(takes(Some(""), &chain), takes(Some(&chain), &id), "also if the chain id is empty");
    }

    #[test]
    fn a_greater_share_takes_all_chains_of_a_smaller_share(
        chain in "[a-z0-9-]{1,40}",
        shares in (0.0..=1.0_f64, 0.0..=1.0_f64),
    ) {
        let takes = |share| {
            let policy = policy(vec![Rule { share, ..to("amer") }]);
            let call = Call { chain_id: Some(chain.as_str().into()), ..Call::default() };
            policy.decide(&traits(&call), false, |_| true).redirect.is_some()
        };
        prop_assert!(takes(shares.0.max(shares.1)) >= takes(shares.0.min(shares.1)));
    }

    #[test]
    fn a_redirect_leads_to_a_healthy_peer(
        rules in prop::collection::vec((0..3_usize, 0..4_usize, 0.0..=1.0_f64), 0..6),
        region in prop::sample::select(
            vec!["amer", "apac", "emea", "", "//evil.example", "x\r\nLocation: y"],
        ),
        marked: bool,
        down in 0..3_usize,
    ) {
        let regions = ["emea", "amer", "apac"];
        let conditions = [&[][..], &["amer"], &["apac"], &["emea", "amer"]];
        let rules = rules.into_iter().map(|(serve_in, condition, share)| Rule {
            source_region: texts(conditions[condition]),
            share,
            ..to(regions[serve_in])
        });
        let policy = policy(rules.collect());
        let call = Call { source_region: Some(region.into()), ..a_call() };
        let traits = traits(&call);
        let decision = policy.decide(&traits, marked, |name| name.as_str() != regions[down]);
        prop_assert_eq!(decision, policy.decide(&traits, marked, |name| name.as_str() != regions[down]));
        prop_assert_eq!(decision.redirect.is_some(), decision.reason == DecisionReason::Rule);
        let matched = policy.explain(&traits).iter().position(|outcome| *outcome == RuleOutcome::Matched);
        prop_assert_eq!(decision.rule, matched, "explain agrees with decide");
        if let Some(target) = decision.redirect {
            prop_assert!(!marked && target.as_str() != "emea" && target.as_str() != regions[down]);
            let location = policy.location(target, None).unwrap();
            prop_assert_eq!(location, format!("https://{target}.contoso.com/api/calls?switchboard-from=emea"));
        }
    }
}

/// The rules that shadow the decision about `a_call`: index, redirect and reason.
#[track_caller]
fn check_shadows(rules: Vec<Rule>, marked: bool, expected: &[(usize, Option<&str>, DecisionReason)]) {
    let (policy, call) = (policy(rules), a_call());
    let traits = traits(&call);
    let decision = policy.decide(&traits, marked, |region| region.as_str() != "apac");
    let shadows = policy.shadows(&decision, &traits, marked, |region| region.as_str() != "apac");
    let found: Vec<_> = shadows
        .iter()
        .map(|shadow| (shadow.rule.unwrap(), shadow.redirect.map(Name::as_str), shadow.reason))
        .collect();
    assert_eq!(found, expected);
}

fn dry(rule: Rule) -> Rule {
    Rule { dry_run: true, ..rule }
}

#[test]
fn a_dry_run_does_not_decide() {
    check(vec![dry(to("amer"))], None, None, DecisionReason::NoRule);
    check(vec![dry(to("amer")), to("apac")], Some("apac"), Some(1), DecisionReason::Rule);
    check(vec![to("apac"), dry(to("amer"))], Some("apac"), Some(0), DecisionReason::Rule);
}

#[test]
fn a_shadow_is_the_decision_of_a_dry_run_that_was_reached() {
    use DecisionReason::{Marked, Rule as ByRule, RuleHere, Unhealthy};
    let german = || Rule { country: texts(&["DE"]), ..to("amer") };
    check_shadows(vec![to("amer")], false, &[]);
    check_shadows(vec![dry(to("amer"))], false, &[(0, Some("amer"), ByRule)]);
    check_shadows(vec![dry(german()), dry(to("emea"))], false, &[(1, None, RuleHere)]);
    check_shadows(vec![dry(to("apac"))], false, &[(0, None, Unhealthy)]);
    check_shadows(vec![dry(to("amer"))], true, &[(0, None, Marked)]);
    // Each is evaluated as if the ones before had not matched, up to the rule that decides.
    let all = vec![dry(to("amer")), dry(to("emea")), to("apac"), dry(to("amer"))];
    check_shadows(all, false, &[(0, Some("amer"), ByRule), (1, None, RuleHere)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The first shadow is the decision with the dry run switched off, and the decision is the one without
    /// the rules in a dry run.
    #[test]
    fn a_shadow_is_what_the_rule_would_decide(
        rules in prop::collection::vec((0..3_usize, 0..4_usize, 0.0..=1.0_f64, any::<bool>()), 0..8),
        region in prop::sample::select(vec!["amer", "apac", "emea"]),
        marked: bool,
        down in 0..3_usize,
    ) {
        let regions = ["emea", "amer", "apac"];
        let conditions = [&[][..], &["amer"], &["apac"], &["emea", "amer"]];
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(serve_in, condition, share, dry_run)| Rule {
                source_region: texts(conditions[condition]),
                share,
                dry_run,
                ..to(regions[serve_in])
            })
            .collect();
        let call = Call { source_region: Some(region.into()), ..a_call() };
        let (traits, healthy) = (traits(&call), |name: &Name| name.as_str() != regions[down]);
        let whole = policy(rules.clone());
        let decision = whole.decide(&traits, marked, healthy);
        let shadows = whole.shadows(&decision, &traits, marked, healthy);

        let followed: Vec<_> = (0..rules.len()).filter(|index| !rules[*index].dry_run).collect();
        let without = policy(followed.iter().map(|index| rules[*index].clone()).collect());
        let expected = without.decide(&traits, marked, healthy);
        prop_assert_eq!(decision.rule, expected.rule.map(|index| followed[index]));
        prop_assert_eq!((decision.redirect, decision.reason), (expected.redirect, expected.reason));

        let live = policy(rules.iter().map(|rule| Rule { dry_run: false, ..rule.clone() }).collect());
        let first = live.decide(&traits, marked, healthy);
        match shadows.first() {
            Some(shadow) => prop_assert_eq!(*shadow, first),
            None => prop_assert_eq!(decision, first),
        }
        for shadow in &shadows {
            let index = shadow.rule.unwrap();
            prop_assert!(rules[index].dry_run && decision.rule.is_none_or(|decisive| index < decisive));
        }
        prop_assert!(shadows.is_sorted_by_key(|shadow| shadow.rule));
    }

    #[test]
    fn the_shadow_of_a_share_moves_the_same_chains_as_the_share(
        chain in "[a-z0-9-]{1,40}",
        share in 0.0..=1.0_f64,
    ) {
        let call = Call { chain_id: Some(chain.as_str().into()), ..Call::default() };
        let traits = traits(&call);
        let rule = Rule { share, ..to("amer") };
        let (wet, shadowed) = (policy(vec![rule.clone()]), policy(vec![dry(rule)]));
        let decision = shadowed.decide(&traits, false, |_| true);
        let moved = shadowed.shadows(&decision, &traits, false, |_| true).len() == 1;
        prop_assert_eq!(moved, wet.decide(&traits, false, |_| true).redirect.is_some());
        prop_assert_eq!(decision.redirect, None);
    }
}

#[track_caller]
fn check_location(webhook: &str, app: Option<Uuid>, expected: &str) {
    let policy = Policy::new(name("emea"), vec![peer("amer", webhook)], vec![]).unwrap();
    let location = policy.location(&name("amer"), app).unwrap();
    assert_eq!(location, expected);
    let url = Url::parse(&location).unwrap();
    assert_eq!(url.as_str(), expected, "a client does not change it");
    assert!(is_marked(url.query()), "the next gateway does not redirect it again");
}

#[test]
fn a_location_is_the_webhook_with_app_and_marker() {
    let app = "0efc74f7-41c3-47a4-8775-7259bfef4241";
    let marker = "switchboard-from=emea";
    check_location("https://a.com/api/calls", None, &format!("https://a.com/api/calls?{marker}"));
    check_location("https://a.com/api/calls", Some(APP), &format!("https://a.com/api/calls/{app}?{marker}"));
    check_location("https://a.com:8443/c/", None, &format!("https://a.com:8443/c/?{marker}"));
    check_location("https://a.com:8443/c/", Some(APP), &format!("https://a.com:8443/c/{app}?{marker}"));
    check_location("https://a.com", None, &format!("https://a.com/?{marker}"));
    check_location("https://a.com", Some(APP), &format!("https://a.com/{app}?{marker}"));
    check_location("https://a.com/c?code=1&x", None, &format!("https://a.com/c?code=1&x&{marker}"));
    check_location("https://a.com/c/?code=1", Some(APP), &format!("https://a.com/c/{app}?code=1&{marker}"));
    check_location("https://a.com/c?", None, &format!("https://a.com/c?{marker}"));
    check_location("http://127.0.0.1:9/c", None, &format!("http://127.0.0.1:9/c?{marker}"));
}

#[test]
fn only_a_peer_has_a_location() {
    let policy = policy(vec![]);
    assert_eq!(policy.location(&name("emea"), None), None);
    assert_eq!(policy.location(&name("mars"), None), None);
}

#[test]
fn a_request_is_marked_by_the_exact_name() {
    for marked in [
        "switchboard-from=emea",
        "switchboard-from",
        "switchboard-from=",
        "a=b&switchboard-from=x&c",
        "&switchboard-from",
    ] {
        assert!(is_marked(Some(marked)), "{marked}");
    }
    for not in [
        "",
        "a",
        "switchboard-fro=m",
        "switchboard-from2=x",
        "Switchboard-From=x",
        "a=switchboard-from",
        "xswitchboard-from=1",
        "a;switchboard-from=1",
        "switchboard%2Dfrom=1",
    ] {
        assert!(!is_marked(Some(not)), "{not}");
    }
    assert!(!is_marked(None));
}

#[track_caller]
fn check_refused(peers: &[Peer], rules: &[Rule], expected: &[(&str, &str, &str)]) {
    let here = name("emea");
    let found = Policy::problems(&here, peers, rules);
    let reported: Vec<_> =
        found.iter().map(|error| (error.label(), error.path(), error.to_string())).collect();
    let expected: Vec<_> =
        expected.iter().map(|(label, path, text)| (*label, (*path).to_owned(), (*text).to_owned())).collect();
    assert_eq!(reported, expected);
    let first = Policy::new(here, peers.to_vec(), rules.to_vec()).err().map(|error| error.to_string());
    assert_eq!(first, found.first().map(ToString::to_string), "`new` refuses the first");
}

#[test]
fn good_settings_have_no_problems() {
    check_refused(&[], &[], &[]);
    check_refused(&peers(), &[to("emea"), to("amer"), Rule { share: 0.0, ..to("apac") }], &[]);
}

#[test]
fn a_rule_names_a_known_region() {
    check_refused(
        &peers(),
        &[to("amer"), to("AMER")],
        &[(
            "unknown_region",
            "rule[1].serve_in",
            "rule 1 names the unknown region AMER; known are emea, amer, apac",
        )],
    );
}

#[test]
fn a_share_is_a_number_from_0_to_1() {
    for share in [-0.1, 1.000_1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let text = format!("rule 0 takes a share of {share}; write a number from 0 to 1");
        check_refused(&peers(), &[Rule { share, ..to("amer") }], &[("share", "rule[0].share", &text)]);
    }
}

#[test]
fn tenants_are_guids() {
    check_refused(
        &peers(),
        &[Rule {
            tenant: vec![CONTOSO.to_string(), "contoso.com".into()],
            organizer_tenant: texts(&["\n"]),
            ..to("amer")
        }],
        &[
            (
                "not_a_tenant",
                "rule[0].tenant",
                r#"rule 0 has the tenant "contoso.com", which is not a GUID; write the tenant's id"#,
            ),
            (
                "not_a_tenant",
                "rule[0].organizer_tenant",
                r#"rule 0 has the organizer_tenant "\n", which is not a GUID; write the tenant's id"#,
            ),
        ],
    );
}

#[test]
fn names_of_peers_are_unique() {
    let webhook = "https://contoso.com/c";
    check_refused(
        &[peer("amer", webhook), peer("emea", webhook), peer("amer", webhook)],
        &[],
        &[
            (
                "peer_is_here",
                "peer[1].name",
                "peer 1 is named emea, as this region is; list the other regions only",
            ),
            ("doubled_peer", "peer[2].name", "peer 2 is named amer, as peer 0 is; list each region once"),
        ],
    );
}

#[test]
fn the_webhook_of_a_peer_is_https_and_plain() {
    for (webhook, problem) in [
        ("http://amer.contoso.com/c", InvalidUrl::Scheme),
        ("ftp://localhost/c", InvalidUrl::Scheme),
        ("https://me:secret@amer.contoso.com/c", InvalidUrl::Userinfo),
        ("https://amer.contoso.com/c#top", InvalidUrl::Fragment),
    ] {
        let text = format!("the webhook of peer 0 (amer) {problem}");
        assert!(!text.contains("secret"));
        check_refused(&[peer("amer", webhook)], &[], &[("webhook", "peer[0].webhook", &text)]);
    }
    check_refused(&[peer("amer", "http://localhost:9000/c")], &[], &[]);
}

#[test]
fn all_problems_are_reported() {
    let found = Policy::problems(
        &name("emea"),
        &[peer("emea", "http://contoso.com")],
        &[Rule { share: 2.0, tenant: texts(&["x"]), ..to("mars") }],
    );
    let labels: Vec<_> = found.iter().map(InvalidPolicy::label).collect();
    assert_eq!(labels, ["peer_is_here", "webhook", "unknown_region", "share", "not_a_tenant"]);
}

#[test]
fn each_reason_has_a_label() {
    let reasons = [
        DecisionReason::NoRule,
        DecisionReason::RuleHere,
        DecisionReason::Rule,
        DecisionReason::Unhealthy,
        DecisionReason::Marked,
    ];
    assert_eq!(reasons.map(DecisionReason::label), ["no_rule", "rule_here", "rule", "unhealthy", "marked"]);
}
