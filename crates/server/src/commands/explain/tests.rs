//! The output of `explain`, as people see it.

use expect_test::{Expect, expect};

use super::*;
use crate::{
    cli::{CheckArgs, ConfigArgs, Given, GivenBy, OutputFormat},
    config::tests::parse,
    platform::CALLER_REGION,
};

const CONFIG: &str = r#"
    region = "emea"
    [[app]]
    id = "0efc74f7-41c3-47a4-8775-7259bfef4241"
    [[app]]
    id = "1efc74f7-41c3-47a4-8775-7259bfef4241"
    [callback]
    base = "https://emea.bots.contoso.com"
    seal = [{ id = "k1", secret = { env = "SEAL" } }]
    [[peer]]
    name = "amer"
    webhook = "https://amer.bots.contoso.com/api/calls"
    [affinity]
    status = 307
    [[affinity.rule]]
    caller_region = ["amer"]
    serve_in = "amer"
    [[affinity.rule]]
    country = ["HU"]
    share = 0.0
    serve_in = "amer"
    [[affinity.rule]]
    source_region = ["emea"]
    country = ["HU"]
    serve_in = "emea"
    [[fleet.instance]]
    name = "bot-0"
    url = "http://10.0.0.10:3978/api/calls"
    [[fleet.instance]]
    name = "bot-1"
    url = "http://10.0.0.11:3978/api/calls"
    [[fleet.instance]]
    name = "bot-2"
    url = "http://10.0.0.12:3978/api/calls"
    apps = ["1efc74f7-41c3-47a4-8775-7259bfef4241"]
"#;

fn incoming(call_id: &str, source: &str) -> String {
    format!(
        r##"{{"changeType":"created","resourceUrl":"/communications/calls/{call_id}","resourceData":{{
            "@odata.type":"#microsoft.graph.call","state":"incoming","callChainId":"chain-7","source":{source},
            "tenantId":"31537af4-6d77-4bb9-a681-d2394888ea26"}}}}"##
    )
}

fn explained(body: &str, headers: &[(&str, &str)]) -> Explanation {
    explained_with(CONFIG, body, headers)
}

fn explained_with(config: &str, body: &str, headers: &[(&str, &str)]) -> Explanation {
    let args = ExplainArgs {
        check: CheckArgs {
            config: ConfigArgs { file: Given { value: "unused".into(), by: GivenBy::Option } },
            without_secrets: false,
            format: OutputFormat::Text,
        },
        body: None,
        callback: None,
        token: None,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        tenant: None,
        app: None,
        json: false,
    };
    Explanation::of(&parse(config).unwrap(), Some(body.as_bytes()), None, &args)
}

#[track_caller]
fn check(body: &str, headers: &[(&str, &str)], expected: &Expect) {
    expected.assert_eq(&explained(body, headers).to_string());
}

fn envelope(items: &[String]) -> String {
    format!(r#"{{"value":[{}]}}"#, items.join(","))
}

#[test]
fn a_new_call_that_stays_names_its_rule_and_its_instances() {
    let body = envelope(&[incoming("call-1", r#"{"region":"emea","countryCode":"HU"}"#)]);
    check(
        &body,
        &[],
        &expect![[r#"
            app: 0efc74f7-41c3-47a4-8775-7259bfef4241
            tenant: 31537af4-6d77-4bb9-a681-d2394888ea26, from the body
            body: Graph, items: 1

            item 0: incoming_call
              call id: call-1
              new call, not policy-recorded: an instance must accept it within 12000 ms
              chain id: chain-7
              source_region: emea
              country: HU
              tenant: 31537af4-6d77-4bb9-a681-d2394888ea26
              affinity.rule[0]: does not match: the call has no caller_region
              affinity.rule[1]: matches, but its share does not include this chain
              affinity.rule[2]: matches; decides
              decision: here in emea; by affinity.rule[2]
              affinity: call, call-1
              asked: bot-1, then bot-0"#]],
    );
}

#[test]
fn a_new_call_that_goes_names_where() {
    let body = envelope(&[incoming("call-1", r#"{"region":"emea"}"#)]);
    check(
        &body,
        &[(CALLER_REGION.as_str(), "AMER")],
        &expect![[r#"
            app: 0efc74f7-41c3-47a4-8775-7259bfef4241
            tenant: 31537af4-6d77-4bb9-a681-d2394888ea26, from the body
            body: Graph, items: 1

            item 0: incoming_call
              call id: call-1
              new call, not policy-recorded: an instance must accept it within 12000 ms
              chain id: chain-7
              source_region: emea
              caller_region: AMER
              tenant: 31537af4-6d77-4bb9-a681-d2394888ea26
              affinity.rule[0]: matches; decides
              affinity.rule[1]: does not match: the call has no country
              affinity.rule[2]: does not match: the call has no country
              decision: amer, with 307 to https://amer.bots.contoso.com/api/calls?switchboard-from=emea; by affinity.rule[0]"#]],
    );
}

#[test]
fn a_dry_run_and_the_order_in_which_instances_are_filled_are_explained() {
    let config = CONFIG
        .replace("caller_region = [\"amer\"]", "caller_region = [\"amer\"]\n    dry_run = true")
        .replace(
            "[[fleet.instance]]\n    name = \"bot-0\"",
            "[placement]\n    fill = \"pack\"\n    [[fleet.instance]]\n    name = \"bot-0\"",
        );
    let body = envelope(&[incoming("call-1", r#"{"region":"emea","countryCode":"HU"}"#)]);
    let explanation = explained_with(&config, &body, &[(CALLER_REGION.as_str(), "amer")]);
    expect![[r#"
        app: 0efc74f7-41c3-47a4-8775-7259bfef4241
        tenant: 31537af4-6d77-4bb9-a681-d2394888ea26, from the body
        body: Graph, items: 1

        item 0: incoming_call
          call id: call-1
          new call, not policy-recorded: an instance must accept it within 12000 ms
          chain id: chain-7
          source_region: emea
          country: HU
          caller_region: amer
          tenant: 31537af4-6d77-4bb9-a681-d2394888ea26
          affinity.rule[0]: matches; would redirect to amer (dry run), goes on
          affinity.rule[1]: matches, but its share does not include this chain
          affinity.rule[2]: matches; decides
          decision: here in emea; by affinity.rule[2]
          filled: bot-0, then bot-1; the first below 0.8 of its capacity takes the call
          affinity: call, call-1
          asked, if none is below: bot-1, then bot-0"#]]
    .assert_eq(&explanation.to_string());
    let json: serde_json::Value = serde_json::from_str(&explanation.json()).unwrap();
    let call = &json["body"]["items"][0]["target"];
    assert_eq!(
        call["rules"][0],
        serde_json::json!({
            "outcome": "matched",
            "dry_run": { "reason": "rule", "region": "amer", "redirect": true },
        })
    );
    assert_eq!((&call["decision"]["rule"], &call["filled"]["share"]), (&2.into(), &0.8.into()));
}

#[test]
fn a_value_of_the_body_is_escaped() {
    let body = envelope(&[incoming("call-1", r#"{"region":"\u001b[2J"}"#)]);
    check(
        &body,
        &[],
        &expect![[r#"
            app: 0efc74f7-41c3-47a4-8775-7259bfef4241
            tenant: 31537af4-6d77-4bb9-a681-d2394888ea26, from the body
            body: Graph, items: 1

            item 0: incoming_call
              call id: call-1
              new call, not policy-recorded: an instance must accept it within 12000 ms
              chain id: chain-7
              source_region: \u{1b}[2J
              tenant: 31537af4-6d77-4bb9-a681-d2394888ea26
              affinity.rule[0]: does not match: the call has no caller_region
              affinity.rule[1]: does not match: the call has no country
              affinity.rule[2]: does not match: source_region is \u{1b}[2J
              decision: here in emea; no rule matches
              affinity: call, call-1
              asked: bot-1, then bot-0"#]],
    );
}

#[test]
fn what_is_no_new_call_goes_to_its_probable_owner() {
    let item = r#"{"changeType":"updated","resource":"/app/calls/call-1/participants","resourceData":[]}"#;
    check(
        &envelope(&[item.to_owned()]),
        &[],
        &expect![[r#"
            app: 0efc74f7-41c3-47a4-8775-7259bfef4241
            tenant: unknown; set the tenant of the token with --tenant
            body: Graph, items: 1

            item 0: roster
              call id: call-1
              not a new call: goes where it was placed in the last ten minutes, else to bot-1"#]],
    );
}

#[test]
fn nothing_of_a_batch_of_several_owners_is_redirected() {
    let body = envelope(&[
        incoming("call-1", r#"{"region":"emea"}"#),
        incoming("call-2", r#"{"region":"emea"}"#),
        r#"{"changeType":"updated","resource":"/app/calls/CALL-1/participants","resourceData":[]}"#
            .to_owned(),
        r#"{"changeType":"created","resource":"/users/1"}"#.to_owned(),
    ]);
    check(
        &body,
        &[(CALLER_REGION.as_str(), "amer")],
        &expect![[r#"
            app: 0efc74f7-41c3-47a4-8775-7259bfef4241
            tenant: 31537af4-6d77-4bb9-a681-d2394888ea26, from the body
            body: Graph, items: 4; of several owners: each gets its items, and no call is redirected

            item 0: incoming_call
              call id: call-1
              new call, not policy-recorded: an instance must accept it within 12000 ms
              chain id: chain-7
              source_region: emea
              caller_region: amer
              tenant: 31537af4-6d77-4bb9-a681-d2394888ea26
              affinity.rule[0]: matches; decides
              affinity.rule[1]: does not match: the call has no country
              affinity.rule[2]: does not match: the call has no country
              decision: here in emea; by affinity.rule[0], which names another region; no call of a batch is redirected
              affinity: call, call-1
              asked: bot-1, then bot-0

            item 1: incoming_call
              call id: call-2
              new call, not policy-recorded: an instance must accept it within 12000 ms
              chain id: chain-7
              source_region: emea
              caller_region: amer
              tenant: 31537af4-6d77-4bb9-a681-d2394888ea26
              affinity.rule[0]: matches; decides
              affinity.rule[1]: does not match: the call has no country
              affinity.rule[2]: does not match: the call has no country
              decision: here in emea; by affinity.rule[0], which names another region; no call of a batch is redirected
              affinity: call, call-2
              asked: bot-1, then bot-0

            item 2: roster
              call id: CALL-1
              about a call that is new in this body: goes to the same instance

            item 3: not_a_call
              not about a call: goes with the first part"#]],
    );
}

#[test]
fn a_legacy_body_is_asked_for_again() {
    check(
        r#"{"id":"1","participants":[],"callState":"incoming","presentedModalityTypes":["audio"]}"#,
        &[],
        &expect![[r#"
            app: 0efc74f7-41c3-47a4-8775-7259bfef4241
            tenant: unknown; set the tenant of the token with --tenant
            body: legacy (incoming); the gateway responds 204, and the platform sends it again as Graph"#]],
    );
}

#[test]
fn a_body_that_is_refused_says_why() {
    check(
        "{}",
        &[],
        &expect![[r#"
            app: 0efc74f7-41c3-47a4-8775-7259bfef4241
            tenant: unknown; set the tenant of the token with --tenant
            body: refused with 400, neither_legacy_nor_graph: neither a Graph notification (no "value") nor a legacy call (no "participants")"#]],
    );
}

#[test]
fn programs_get_the_same_as_json() {
    let body = envelope(&[incoming("call-1", r#"{"region":"emea","countryCode":"HU"}"#)]);
    expect![[r#"
        {
          "app": "0efc74f7-41c3-47a4-8775-7259bfef4241",
          "tenant": {
            "id": "31537af4-6d77-4bb9-a681-d2394888ea26",
            "given": false
          },
          "body": {
            "is": "graph",
            "split": false,
            "items": [
              {
                "kind": "incoming_call",
                "call_id": "call-1",
                "target": {
                  "goes": "placed",
                  "seen": {
                    "source_region": "emea",
                    "country": "HU",
                    "caller_region": null,
                    "media_region": null,
                    "tenant": "31537af4-6d77-4bb9-a681-d2394888ea26",
                    "organizer_tenant": null,
                    "user": null
                  },
                  "chain_id": "chain-7",
                  "thread_id": null,
                  "policy_recording": false,
                  "budget_ms": 12000,
                  "rules": [
                    {
                      "outcome": "failed",
                      "condition": "caller_region"
                    },
                    {
                      "outcome": "not_in_share"
                    },
                    {
                      "outcome": "matched"
                    }
                  ],
                  "decision": {
                    "reason": "rule_here",
                    "rule": 2,
                    "region": "emea",
                    "redirect": null
                  },
                  "affinity": {
                    "key": "call",
                    "value": "call-1"
                  },
                  "instances": [
                    "bot-1",
                    "bot-0"
                  ]
                }
              }
            ]
          }
        }"#]]
    .assert_eq(&explained(&body, &[]).json());
}
