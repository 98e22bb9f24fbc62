//! The output of `fleet list`, the fleets of several gateways as one, and the rule for when an instance is
//! empty.

use expect_test::expect;

use super::{
    instance::duration,
    merged::merge,
    wait::{all_empty, judge},
    watch::frame,
    *,
};

fn fleet() -> Vec<FleetInstance> {
    let json = r#"[
        {"name":"bot-0","incarnation":"0","state":"ready","since_ms":7384000,"reason":"its probe says ready","calls":12,
         "calls_expected":13,"calls_counted":7,"capacity":40,"placed":310,"callbacks":9120,"in_flight":2,"attempts":9431,
         "failures":{"refused":1,"timeout":2},
         "missed_probes":0,"last_probe_ms":1200},
        {"name":"bot-10","state":"draining","since_ms":65000,"reason":"drained by the operator","calls":null,"capacity":null,
         "placed":0,"callbacks":0,"in_flight":0,"attempts":0,"failures":{},"missed_probes":0,"last_probe_ms":null,
         "a_later_member":{}},
        {"name":"bad\u001b[31m","state":"ready","reason":"a\nb"}
    ]"#;
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_fleet_is_a_table() {
    expect![[r#"
        instance  state     since      calls  counted  in flight  placed  callbacks  failures  probed  reason
        bot-0     ready     2 h 3 min  12/40        7          2     310       9120         3  1 s     its probe says ready
        bot-10    draining  1 min 5 s      -        0          0       0          0         0  -       drained by the operator
        bad?[31m  ready     0 ms           -        0          0       0          0         0  -       a?b
        3 instances: 2 ready, 1 draining; 12 calls"#]]
    .assert_eq(&table(&fleet(), false));
    expect![[r#"
        instance  state  since  calls  counted  in flight  placed  callbacks  failures  probed  reason
        0 instances"#]]
    .assert_eq(&table(&[], false));
}

#[test]
fn durations_have_two_units() {
    for (ms, expected) in [
        (0, "0 ms"),
        (999, "999 ms"),
        (59_999, "59 s"),
        (60_000, "1 min 0 s"),
        (3_600_000, "1 h 0 min"),
        (90_061_000, "1 d 1 h"),
    ] {
        assert_eq!(duration(ms), expected);
    }
}

#[test]
fn an_instance_is_empty_after_a_report_of_no_calls_since_the_drain() {
    let drained = |calls, in_flight, last_probe_ms| FleetInstance {
        state: "draining".into(),
        calls,
        calls_expected: calls,
        in_flight,
        last_probe_ms,
        ..FleetInstance::default()
    };
    let placed = |calls_counted, drained| FleetInstance { calls_counted, ..drained };
    let expected = |calls_expected, drained| FleetInstance { calls_expected, ..drained };
    for (instance, since_ms, expected) in [
        (drained(Some(0), 0, Some(500)), 1000, Ok(true)),
        (drained(Some(0), 0, Some(1500)), 1000, Ok(false)),
        (drained(Some(0), 1, Some(500)), 1000, Ok(false)),
        (drained(Some(3), 0, Some(500)), 86_400_000, Ok(false)),
        (drained(Some(0), 0, None), 1000, Ok(true)),
        // A call was placed after the report; a call of the report has ended since.
        (expected(Some(1), drained(Some(0), 0, Some(500))), 1000, Ok(false)),
        (expected(Some(0), drained(Some(1), 0, Some(500))), 1000, Ok(false)),
        (expected(None, drained(Some(1), 0, Some(500))), 1000, Ok(false)),
        // The report of the instance takes precedence over the count of this gateway: another gateway may
        // have seen the end of a call.
        (placed(3, drained(Some(0), 0, Some(500))), 1000, Ok(true)),
        (drained(None, 0, None), 1000, Ok(false)),
        (drained(None, 0, None), 15_000, Err("bot-0 reports no call count")),
        (drained(None, 1, None), 15_000, Ok(false)),
        (placed(1, drained(None, 0, None)), 86_400_000, Ok(false)),
        (
            FleetInstance { state: "ready".into(), ..drained(Some(0), 0, Some(1)) },
            1000,
            Err("bot-0 no longer drains"),
        ),
    ] {
        let judged = judge("bot-0", Some(&instance), since_ms, None).map_err(|error| error.to_string());
        match (judged, expected) {
            (Ok(judged), Ok(expected)) => assert_eq!(judged, expected, "{instance:?}"),
            (Err(judged), Err(expected)) => assert!(judged.starts_with(expected), "{judged}"),
            (judged, _) => panic!("{judged:?} {instance:?}"),
        }
    }
    assert!(judge("bot-0", None, 0, None).unwrap_err().to_string().starts_with("bot-0 left"));
    let named = judge("bot-0", None, 0, Some("emea-1:9090")).unwrap_err().to_string();
    assert!(named.starts_with("emea-1:9090: bot-0 left"), "{named}");
}

#[test]
fn the_workload_of_an_instance_contains_every_known_count() {
    for (gateways, calls, calls_expected, calls_counted, in_flight, expected) in [
        (1, Some(1), Some(1), 0, 0, "1 call"),
        (1, Some(1), Some(3), 1, 2, "3 calls, 2 requests in flight"),
        (1, Some(2), None, 0, 0, "2 calls"),
        (1, None, None, 0, 1, "an unknown number of calls, 1 request in flight"),
        (1, None, None, 2, 0, "2 calls placed by this gateway, and an unknown number of others"),
        (2, None, None, 2, 0, "2 calls placed by these gateways, and an unknown number of others"),
    ] {
        let instance =
            FleetInstance { calls, calls_expected, calls_counted, in_flight, ..FleetInstance::default() };
        assert_eq!(instance.workload(gateways), expected);
    }
}

/// Merges the fleets of gateways `a`, `b`, …, and shows them as a table.
fn merged(fleets: &[&str]) -> String {
    let read = |(index, fleet): (usize, &&str)| (index, serde_json::from_str(fleet).unwrap());
    let names = |indices: &[usize]| {
        indices.iter().map(|index| ["a", "b", "c"][*index].to_owned()).collect::<Vec<_>>().join(", ")
    };
    let fleets: Vec<_> = fleets.iter().enumerate().map(read).collect();
    let responded = fleets.iter().map(|(index, _)| *index).collect();
    let fleet = MergedFleet { instances: merge(fleets, &names), responded, errors: Vec::new() };
    table(&fleet.rows(), false)
}

#[test]
fn the_fleets_of_several_gateways_are_one_table() {
    // The latest report, the sums, and the shortest time.
    expect![[r#"
        instance  state  since  calls  counted  in flight  placed  callbacks  failures  probed  reason
        bot-0     ready  4 s    13/41       14          3      31        300         6  1 s     its probe says ready
        1 instance: 1 ready; 13 calls"#]].assert_eq(&merged(&[
        r#"[{"name":"bot-0","incarnation":"7","state":"ready","since_ms":9000,"reason":"its probe says ready","calls":12,
            "capacity":40,"calls_counted":7,"in_flight":1,"placed":10,"callbacks":100,"failures":{"timeout":1},
            "last_probe_ms":3000}]"#,
        r#"[{"name":"bot-0","incarnation":"7","state":"ready","since_ms":4000,"reason":"its probe says ready","calls":13,
            "capacity":41,"calls_counted":6,"in_flight":2,"placed":20,"callbacks":200,"failures":{"timeout":2,"refused":3},
            "last_probe_ms":1000}]"#,
        r#"[{"name":"bot-0","incarnation":"7","state":"ready","since_ms":5000,"reason":"its probe says ready",
            "calls_counted":1,"placed":1}]"#,
    ]));
    // The gateways disagree on the state, on its reason, and on the instances.
    expect![[r#"
        instance  state          since  calls  counted  in flight  placed  callbacks  failures  probed  reason
        bot-0     ready|ejected  0 ms       -        0          0       0          0         0  -       ready at a, c: its probe says ready; ejected at b: it failed 3 calls
        bot-1     draining       0 ms       -        0          0       0          0         0  -       draining at a, c: drained by the operator; draining at b: its probe says draining
        bot-2     ready|-        0 ms       -        0          0       0          0         0  -       ready at a, b: its probe says ready; not listed by c
        bot-3     ready|-        0 ms       -        0          0       0          0         0  -       ready at c: not probed; not listed by a, b
        4 instances: 1 ready|ejected, 1 draining, 2 ready|-; 0 calls"#]].assert_eq(&merged(&[
        r#"[{"name":"bot-0","state":"ready","reason":"its probe says ready"},
            {"name":"bot-1","state":"draining","reason":"drained by the operator"},
            {"name":"bot-2","state":"ready","reason":"its probe says ready"}]"#,
        r#"[{"name":"bot-0","state":"ejected","reason":"it failed 3 calls"},
            {"name":"bot-1","state":"draining","reason":"its probe says draining"},
            {"name":"bot-2","state":"ready","reason":"its probe says ready"}]"#,
        r#"[{"name":"bot-1","state":"draining","reason":"drained by the operator"},
            {"name":"bot-0","state":"ready","reason":"its probe says ready"},
            {"name":"bot-3","state":"ready","reason":"not probed"}]"#,
    ]));
    // One row for each incarnation; rows of one name stand together.
    expect![[r#"
        instance  state    since  calls  counted  in flight  placed  callbacks  failures  probed  reason
        bot-0/7   ready|-  0 ms       -        0          0       0          0         0  -       ready at a: ; not listed by b
        bot-0/8   ready|-  0 ms       -        0          0       0          0         0  -       ready at b: ; not listed by a
        bot-1     ready    0 ms       -        0          0       0          0         0  -
        3 instances: 2 ready|-, 1 ready; 0 calls"#]].assert_eq(&merged(&[
        r#"[{"name":"bot-0","incarnation":"7","state":"ready"},
            {"name":"bot-1","incarnation":"5","state":"ready"}]"#,
        r#"[{"name":"bot-0","incarnation":"8","state":"ready"},
            {"name":"bot-1","incarnation":"5","state":"ready"}]"#,
    ]));
}

#[test]
fn the_calls_of_an_instance_have_the_changes_of_every_gateway() {
    // Each row: the report, and the calls that the gateway expects now, from the latest report to the oldest.
    for (seen, expected) in [
        (vec![(Some(10), Some(12)), (Some(10), Some(9))], Some(11)),
        (vec![(Some(1), Some(0)), (Some(3), Some(0))], Some(0)),
        (vec![(Some(5), None)], Some(5)),
        (vec![(None, None), (Some(5), Some(6))], None),
        (vec![(Some(u64::MAX), Some(u64::MAX)), (Some(0), Some(9))], Some(u64::MAX)),
    ] {
        let instance = |(index, (calls, calls_expected))| {
            let last_probe_ms = Some(u64::try_from(index).unwrap());
            (index, vec![FleetInstance { calls, calls_expected, last_probe_ms, ..FleetInstance::default() }])
        };
        let instances = seen.iter().copied().enumerate().map(instance).collect();
        assert_eq!(merge(instances, &|_| String::new())[0].total.calls_now(), expected, "{seen:?}");
    }
}

#[test]
fn an_instance_is_empty_only_if_every_gateway_says_so() {
    let unknown = || Err(FleetError::NoCallCount { instance: "bot-0".to_owned() });
    let resumed = || Err(FleetError::Resumed { instance: "bot-0".to_owned() });
    for (verdicts, expected) in [
        (vec![Ok(true), Ok(true)], Ok(true)),
        (vec![Ok(true), Ok(false)], Ok(false)),
        // Another gateway still counts calls, so there is something to wait for.
        (vec![unknown(), Ok(false)], Ok(false)),
        (vec![unknown(), Ok(true)], Err("bot-0 reports no call count")),
        (vec![unknown(), unknown()], Err("bot-0 reports no call count")),
        (vec![Ok(false), resumed()], Err("bot-0 no longer drains")),
    ] {
        match (all_empty(verdicts).map_err(|error| error.to_string()), expected) {
            (Ok(judged), Ok(expected)) => assert_eq!(judged, expected),
            (Err(judged), Err(expected)) => assert!(judged.starts_with(expected), "{judged}"),
            (judged, expected) => panic!("{judged:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_frame_fits_on_the_terminal() {
    let lines = |frame: &str| -> Vec<String> {
        let shown =
            frame.strip_prefix("\u{1b}[H\u{1b}[?7l").unwrap().strip_suffix("\u{1b}[?7h\u{1b}[J").unwrap();
        shown.split_terminator("\u{1b}[K\n").map(str::to_owned).collect()
    };
    assert_eq!(lines(&frame("1\n2\n3\n4", 5)), ["1", "2", "3", "4"]);
    assert_eq!(lines(&frame("1\n2\n3\n4", 4)), ["1", "… 2 more lines", "4"]);
    assert_eq!(lines(&frame("1\n2\n3\n4", 0)), ["1", "… 2 more lines", "4"]);
    assert_eq!(lines(&frame("1\n2\n3\n4\n5", 5)), ["1", "2", "… 2 more lines", "5"]);
}

#[test]
fn only_the_state_is_coloured() {
    let text = table(&fleet(), true);
    assert!(text.contains("\u{1b}[32mready\u{1b}[0m     2 h 3 min"), "{text:?}");
    assert!(text.contains("\u{1b}[33mdraining\u{1b}[0m  1 min 5 s"), "{text:?}");
    let bare = text.replace("\u{1b}[32m", "").replace("\u{1b}[33m", "").replace("\u{1b}[0m", "");
    assert_eq!(bare, table(&fleet(), false));
}
