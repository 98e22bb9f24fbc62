//! The durations of attempts: each attempt that ended is in one histogram, by its result.

use switchboard_delivery::{Connections, Delivery, Histogram};

use crate::{setup::*, upstream::*};

fn count(histogram: &Histogram) -> u64 {
    histogram.read().buckets.last().unwrap().1
}

/// The numbers of successful and of failed attempts.
fn counts(delivery: &Delivery) -> (u64, u64) {
    (count(&delivery.durations().attempts_ok), count(&delivery.durations().attempts_failed))
}

/// Checks the results of the attempts, and that failures are counted by reason just as often.
#[track_caller]
fn check(delivery: &Delivery, expected: (u64, u64)) {
    assert_eq!(counts(delivery), expected);
    let all = delivery.instances();
    let failures: u64 = all.iter().flat_map(|one| &one.counts.failures).map(|(_, count)| count).sum();
    let attempts: u64 = all.iter().map(|one| one.counts.attempts).sum();
    assert_eq!((attempts, failures), (expected.0 + expected.1, expected.1));
}

#[tokio::test]
async fn a_callback_counts_each_of_its_attempts() {
    for (code, ok) in [(202, 1), (404, 1), (500, 1), (503, 1), (429, 0), (502, 0), (504, 0)] {
        let upstream = ScriptedInstance::always(Act::status(code));
        let delivery = delivery(settings([upstream.address]));
        forward(&delivery, &Connections::default(), "bot-0").await.unwrap();
        check(&delivery, (ok, 1 - ok));
    }
    // The second attempt, with new keys.
    let upstream = ScriptedInstance::in_turn(vec![Act::status(401), Act::status(202)]);
    let renewed = delivery(settings([upstream.address]));
    forward(&renewed, &Connections::default(), "bot-0").await.unwrap();
    check(&renewed, (1, 1));

    let mut settings = settings([Stopped::new().address]);
    settings.patience = SHORT;
    let stopped = delivery(settings);
    forward(&stopped, &Connections::default(), "bot-0").await.unwrap_err();
    let attempts = status(&stopped, "bot-0").counts.attempts;
    assert!(attempts > 1);
    check(&stopped, (0, attempts));
}

#[tokio::test]
async fn a_new_call_counts_each_of_its_attempts_and_a_reload_keeps_the_counts() {
    let first = ranking(2).remove(0);
    let failing = [Act::status(503), Act::status(401), Act::status(403), Act::SendAndReset(Vec::new())];
    for act in failing {
        let upstreams = [0, 1].map(|at| {
            let fails = first == format!("bot-{at}");
            ScriptedInstance::always(if fails { act.clone() } else { Act::status(202) })
        });
        let delivery = delivery(settings(upstreams.each_ref().map(|upstream| upstream.address)));
        let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
        assert_eq!(response.attempts, 2);
        check(&delivery, (1, 1));
        let next = delivery.successor(settings([upstreams[0].address]), uris(), tls());
        assert_eq!(counts(&next), (1, 1));
    }
}
