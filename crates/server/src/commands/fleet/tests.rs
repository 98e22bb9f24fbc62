//! The output of `fleet list`, and the rule for when an instance is empty.

use expect_test::expect;

use super::{instance::duration, wait::judge, *};

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
    .assert_eq(&table(&fleet()));
    expect![[r#"
        instance  state  since  calls  counted  in flight  placed  callbacks  failures  probed  reason
        0 instances"#]]
    .assert_eq(&table(&[]));
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
        let judged = judge("bot-0", Some(&instance), since_ms).map_err(|error| error.to_string());
        match (judged, expected) {
            (Ok(judged), Ok(expected)) => assert_eq!(judged, expected, "{instance:?}"),
            (Err(judged), Err(expected)) => assert!(judged.starts_with(expected), "{judged}"),
            (judged, _) => panic!("{judged:?} {instance:?}"),
        }
    }
    assert!(judge("bot-0", None, 0).unwrap_err().to_string().starts_with("bot-0 left"));
}

#[test]
fn the_workload_of_an_instance_contains_every_known_count() {
    for (calls, calls_expected, calls_counted, in_flight, expected) in [
        (Some(1), Some(1), 0, 0, "1 call"),
        (Some(1), Some(3), 1, 2, "3 calls, 2 requests in flight"),
        (Some(2), None, 0, 0, "2 calls"),
        (None, None, 0, 1, "an unknown number of calls, 1 request in flight"),
        (None, None, 2, 0, "2 calls placed by this gateway, and an unknown number of others"),
    ] {
        let instance =
            FleetInstance { calls, calls_expected, calls_counted, in_flight, ..FleetInstance::default() };
        assert_eq!(instance.workload(), expected);
    }
}
