//! The instances after given responses at given times.

use proptest::prelude::*;

use super::*;
use crate::{
    discovery::dns::{address_name, members::member},
    upstream_url::UpstreamUrl,
};

fn instance(last: u8) -> Member {
    let url = UpstreamUrl::of_parts(false, "bots.example", 3978, "/").unwrap();
    member(address_name([10, 0, 0, last].into()), url, 1)
}

fn last_octets(listing: &Listing) -> Vec<u8> {
    let octet = |member: &Member| member.name.as_str().rsplit('.').next().unwrap().parse().unwrap();
    let mut octets: Vec<u8> = listing.members().iter().map(octet).collect();
    octets.sort_unstable();
    octets
}

/// The instances after responses with a TTL, each `(second, response, instances)`.
#[track_caller]
fn check(case: &str, ttl: u64, steps: &[(u64, &[u8], &[u8])]) {
    let (start, mut listing) = (Instant::now(), Listing::default());
    for (second, response, expected) in steps {
        let response = response.iter().copied().map(instance).collect();
        let now = start + Duration::from_secs(*second);
        listing.responded(response, Duration::from_secs(ttl), |_| 0, now);
        assert_eq!(last_octets(&listing), *expected, "{case}, after {second} s");
    }
}

#[test]
fn an_absent_instance_leaves_after_three_responses_two_ttls_and_thirty_seconds() {
    check(
        "the thirty seconds are the longest",
        5,
        &[
            (0, &[1, 2], &[1, 2]),
            (5, &[1], &[1, 2]),
            (10, &[1], &[1, 2]),
            (34, &[1], &[1, 2]),
            (35, &[1], &[1]),
        ],
    );
    check(
        "the responses are the longest",
        5,
        &[(0, &[1, 2], &[1, 2]), (60, &[1], &[1, 2]), (120, &[1], &[1, 2]), (180, &[1], &[1])],
    );
    check(
        "the TTL is the longest",
        100,
        &[
            (0, &[1, 2], &[1, 2]),
            (30, &[1], &[1, 2]),
            (60, &[1], &[1, 2]),
            (90, &[1], &[1, 2]),
            (229, &[1], &[1, 2]),
            (230, &[1], &[1]),
        ],
    );
    check(
        "one response with it starts again",
        5,
        &[
            (0, &[1, 2], &[1, 2]),
            (5, &[1], &[1, 2]),
            (30, &[1], &[1, 2]),
            (34, &[1, 2], &[1, 2]),
            (40, &[1], &[1, 2]),
            (69, &[1], &[1, 2]),
            (70, &[1], &[1]),
        ],
    );
    check(
        "new instances are used at once",
        5,
        &[(0, &[1], &[1]), (5, &[2, 3], &[1, 2, 3]), (40, &[2, 3], &[1, 2, 3]), (45, &[2, 3], &[2, 3])],
    );
}

#[test]
fn empty_responses_apply_after_five_minutes() {
    check(
        "all leave",
        5,
        &[
            (0, &[1, 2], &[1, 2]),
            (5, &[], &[1, 2]),
            (100, &[], &[1, 2]),
            (304, &[], &[1, 2]),
            (305, &[], &[]),
        ],
    );
    check(
        "the zone is back",
        5,
        &[(0, &[1, 2], &[1, 2]), (5, &[], &[1, 2]), (300, &[], &[1, 2]), (304, &[1, 3], &[1, 2, 3])],
    );
}

#[test]
fn changing_parts_are_united_for_five_minutes() {
    let (start, mut listing) = (Instant::now(), Listing::default());
    let mut respond = |second: u64, response: [u8; 3]| {
        let response = response.map(instance).into();
        listing.responded(response, Duration::from_secs(5), |_| 0, start + Duration::from_secs(second));
        (last_octets(&listing), listing.has_parts())
    };
    assert_eq!(respond(0, [1, 2, 3]), (vec![1, 2, 3], false));
    assert_eq!(respond(5, [1, 2, 4]), (vec![1, 2, 3, 4], false));
    assert_eq!(respond(10, [1, 2, 5]), (vec![1, 2, 3, 4, 5], false));
    assert_eq!(respond(15, [1, 2, 6]), (vec![1, 2, 3, 4, 5, 6], true));
    // The same set twice is chance: the union stays for five minutes.
    assert_eq!(respond(20, [1, 2, 6]), (vec![1, 2, 3, 4, 5, 6], true));
    assert_eq!(respond(304, [1, 2, 6]), (vec![1, 2, 3, 4, 5, 6], true));
    assert_eq!(respond(305, [1, 2, 6]), (vec![1, 2, 4, 5, 6], true));
    assert_eq!(respond(315, [1, 2, 6]), (vec![1, 2, 6], false));
}

#[test]
fn an_absent_instance_that_fails_leaves_at_once() {
    let now = Instant::now();
    let mut listing = Listing::default();
    let respond = |listing: &mut Listing, response: &[u8], failures: u64| {
        let response = response.iter().copied().map(instance).collect();
        listing.responded(response, Duration::from_secs(5), |_| failures, now);
    };
    respond(&mut listing, &[1, 2, 3], 0);
    // Failures before the absence, and of instances in the response, do not count.
    assert!(!listing.drop_failed(|_| 7));
    respond(&mut listing, &[1, 2], 7);
    assert!(listing.has_absent());
    assert!(!listing.drop_failed(|_| 7));
    assert!(listing.drop_failed(|_| 8));
    assert_eq!(last_octets(&listing), [1, 2]);
    assert!(!listing.has_absent());
    respond(&mut listing, &[1], 8);
    respond(&mut listing, &[1], 9);
    assert_eq!(last_octets(&listing), [1]);
    // Empty responses are about the zone, not about the instance.
    respond(&mut listing, &[1, 2], 9);
    respond(&mut listing, &[], 9);
    assert!(!listing.drop_failed(|_| 10));
    assert_eq!(last_octets(&listing), [1, 2]);
}

#[test]
fn the_union_is_bounded() {
    let now = Instant::now();
    let mut listing = Listing::default();
    let many = |from: usize| -> Vec<Member> {
        let [.., high, low] = from.to_be_bytes();
        let one = instance(1);
        let named = |at: usize| Member {
            name: Name::parse(&format!("bot-{high}-{low}-{at}")).unwrap(),
            ..one.clone()
        };
        (0..INSTANCES_MAX / 2).map(named).collect()
    };
    for round in 0..4 {
        listing.responded(
            many(round),
            Duration::from_secs(5),
            |_| 0,
            now + Duration::from_secs(u64::try_from(round).unwrap()),
        );
        assert!(listing.members().len() <= INSTANCES_MAX);
    }
    let names: HashSet<Name> = listing.members().into_iter().map(|member| member.name).collect();
    assert!(many(3).into_iter().chain(many(2)).all(|member| names.contains(&member.name)));
}

/// Three of six at random, and eight of forty: a response each five seconds for six hours. Before, half of
/// the fleet left with each response.
#[test]
fn no_instance_leaves_a_fleet_of_random_parts() {
    for (part, whole) in [(3, 6), (8, 40)] {
        let (start, mut listing) = (Instant::now(), Listing::default());
        let mut state = 1_u64;
        let mut random = move |below: u8| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from((state >> 33) % u64::from(below)).unwrap()
        };
        let (mut left, mut known) = (0, HashSet::new());
        for round in 0..4_320 {
            let mut response = HashSet::new();
            while response.len() < part {
                response.insert(random(whole));
            }
            let members = response.iter().copied().map(instance).collect();
            let now = start + Duration::from_secs(5) * round;
            listing.responded(members, Duration::from_secs(5), |_| 0, now);
            let now_known: HashSet<u8> = last_octets(&listing).into_iter().collect();
            left += known.difference(&now_known).count();
            known = now_known;
        }
        assert_eq!((left, known.len()), (0, usize::from(whole)), "{part} of {whole}");
    }
}

proptest! {
    /// An instance stays while it is in one of any three responses, or was in one within thirty seconds. It
    /// leaves in the end if it is in none. All instances of the last response are there.
    #[test]
    fn an_instance_leaves_exactly_when_it_may(
        responses in proptest::collection::vec(
            (proptest::collection::btree_set(0..6_u8, 1..6), 1..40_u64), 1..60,
        ),
        ttl in 0..40_u64,
    ) {
        let (mut now, mut listing) = (Instant::now(), Listing::default());
        let ttl = Duration::from_secs(ttl);
        let mut absent: [Option<(Instant, u32)>; 6] = [None; 6];
        let mut seen = [false; 6];
        for (response, pause) in &responses {
            now += Duration::from_secs(*pause);
            listing.responded(response.iter().copied().map(instance).collect(), ttl, |_| 0, now);
            let members = last_octets(&listing);
            for last in 0..6_u8 {
                let at = usize::from(last);
                if response.contains(&last) {
                    (seen[at], absent[at]) = (true, None);
                    prop_assert!(members.contains(&last));
                } else if seen[at] {
                    let (since, count) = absent[at].get_or_insert((now, 0));
                    *count += 1;
                    let absent_for = now - *since;
                    if *count < 3 || absent_for < Duration::from_secs(30) || absent_for < ttl * 2 {
                        prop_assert!(members.contains(&last), "{last} left early");
                    } else if absent_for >= UNION.max(ttl * 2) {
                        prop_assert!(!members.contains(&last), "{last} stays");
                    }
                } else {
                    prop_assert!(!members.contains(&last));
                }
            }
        }
    }
}
