//! Properties that hold for any input. They have few cases each, so that they always run.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::Index};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

use crate::support::{
    APP, BOTH_KEYS, Behaviour, COOLDOWN, FIRST, FIRST_KEY, HOUR, NOW, SECOND, SECOND_KEY, TENANT, World, at,
    claims, unknown, unsigned, verdict,
};

/// Runs `test` on a paused clock of its own.
fn paused<T>(test: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

const ENTRA_TOKEN: &[u8] = include_bytes!("../../../../fixtures/tokens/entra-v2.jwt");

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_token_with_one_changed_bit_is_rejected(place: Index, bit in 0..8_u8) {
        paused(async {
            let world = World::new(Behaviour::publishes(BOTH_KEYS));
            let mut token = FIRST.fresh();
            prop_assert_eq!(world.verdict(&token).await, "accepted");
            let place = place.index(token.len());
            token[place] ^= 1 << bit;
            let found = world.verdict(&token).await;
            prop_assert!(found != "accepted" && found != "keys_unavailable", "byte {place}: {found}");
            Ok(())
        })?;
    }

    #[test]
    fn a_token_with_text_before_or_after_it_is_rejected(before in ".{0,3}", after in ".{0,3}") {
        prop_assume!(!before.is_empty() || !after.is_empty());
        paused(async {
            let world = World::new(Behaviour::publishes(BOTH_KEYS));
            let token = [before.as_bytes(), &FIRST.fresh(), after.as_bytes()].concat();
            prop_assert_ne!(world.verdict(&token).await, "accepted");
            Ok(())
        })?;
    }

    #[test]
    fn member_order_and_white_space_do_not_matter(
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
        space in "[ \t\r\n]{0,3}",
    ) {
        let whole = claims(NOW - 10, NOW + 290);
        let members: Vec<_> = whole.trim_matches(['{', '}']).split(',').collect();
        let members: Vec<_> = order.iter().map(|at| members[*at]).collect();
        let claims = format!("{space}{{{space}{}{space}}}{space}", members.join(&format!("{space},{space}")));
        let header = format!("{{{space}\"kid\":{space}\"{}\",\"alg\"{space}:\"RS256\"}}", FIRST.id());
        paused(async {
            let world = World::new(Behaviour::publishes(BOTH_KEYS));
            prop_assert_eq!(world.verdict(&FIRST.sign(&header, &claims)).await, "accepted");
            Ok(())
        })?;
    }

    /// A token is accepted exactly within one interval, cached or not, even if the clock goes back.
    #[test]
    fn a_token_is_valid_in_one_interval(
        nbf in option::of(-1_000_i64..1_000),
        iat in option::of(-1_000_i64..1_000),
        lifetime in 0_i64..104_000,
        mut instants in vec(-104_000_i64..109_000, 1..12),
    ) {
        let now = i64::try_from(NOW).unwrap();
        let exp = nbf.or(iat).unwrap_or(0) + lifetime;
        let member = |name, value: Option<i64>| {
            value.map_or_else(String::new, |value| format!("\"{name}\":{},", now + value))
        };
        let claims = claims(0, 0)
            .replace("\"nbf\":0,", &format!("{}{}", member("nbf", nbf), member("iat", iat)))
            .replace("\"exp\":0", &format!("\"exp\":{}", now + exp));
        let token = FIRST.sign(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, FIRST.id()), &claims);
        instants.extend([exp + 299, exp + 300, nbf.unwrap_or(0) - 300, nbf.unwrap_or(0) - 301]);
        paused(async {
            let world = World::new(Behaviour::publishes(BOTH_KEYS));
            for instant in instants {
                let is_valid = instant < exp + 300
                    && nbf.is_none_or(|nbf| instant + 300 >= nbf)
                    && iat.is_none_or(|iat| instant + 300 >= iat)
                    && nbf
                        .or(iat)
                        .map_or(exp - instant <= 100_800, |start| exp > start && exp - start <= 100_800);
                let found = world.authenticate(&token, u64::try_from(now + instant).unwrap()).await;
                prop_assert_eq!(found.is_ok(), is_valid, "{} at {}: {}", claims, instant, verdict(&found));
            }
            Ok(())
        })?;
    }

    #[test]
    fn tokens_of_a_withdrawn_key_are_rejected(
        sets in vec(prop::sample::select(vec![FIRST_KEY, SECOND_KEY, BOTH_KEYS]), 1..6),
    ) {
        paused(async {
            let world = World::new(Behaviour::publishes(BOTH_KEYS));
            for set in sets {
                world.skype.set(Behaviour::publishes(set));
                sleep(HOUR * 106 / 100).await;
                for key in [FIRST, SECOND] {
                    let expected = if set.contains(&key.id()) { "accepted" } else { "unknown_key" };
                    prop_assert_eq!(world.verdict(&key.fresh()).await, expected);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn documents_of_one_issuer_do_not_affect_another(
        document in vec(any::<u8>(), 0..200),
        is_metadata: bool,
    ) {
        paused(async {
            let document = Bytes::from(document);
            let world = World::new(if is_metadata {
                Behaviour::BadMetadata(document)
            } else {
                Behaviour::Publishes(document)
            });
            prop_assert_eq!(world.verdict(ENTRA_TOKEN).await, "accepted");
            prop_assert_eq!(world.verdict(&FIRST.fresh()).await, "keys_unavailable");
            Ok(())
        })?;
    }

    /// Any sequence of requests, dropped requests and pauses causes one fetch per cool-down. A known key is
    /// always accepted, and a new one is accepted in time.
    #[test]
    fn fetches_are_bounded_and_known_keys_undisturbed(events in vec(event(), 1..60)) {
        paused(async {
            let world = World::new(Behaviour::publishes(FIRST_KEY));
            prop_assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
            let started = Instant::now();
            let known = FIRST.fresh();
            for event in events {
                match event {
                    Event::Unknown(id) => {
                        let before = world.skype.fetches();
                        let verdict = world.verdict(&unknown(&id)).await;
                        // Only a fetch that began after the request arrived proves that the key is missing.
                        let fetched = world.skype.fetches() > before;
                        prop_assert_eq!(verdict, if fetched { "unknown_key" } else { "key_not_fetched" });
                    }
                    Event::HangUp(id) => {
                        let token = unknown(&id);
                        let _ = tokio::time::timeout(Duration::ZERO, world.verdict(&token)).await;
                    }
                    Event::Pause(millis) => sleep(Duration::from_millis(millis)).await,
                    Event::Known => prop_assert_eq!(world.verdict(&known).await, "accepted"),
                }
            }
            let cooldowns = started.elapsed().as_secs().div_ceil(COOLDOWN.as_secs());
            let fetches = world.skype.fetches();
            prop_assert!(fetches <= 1 + cooldowns.max(1), "{fetches} in {:?}", started.elapsed());
            prop_assert_eq!(world.skype.dropped(), 0);

            world.skype.set(Behaviour::publishes(BOTH_KEYS));
            let rotated = Instant::now();
            let new = SECOND.fresh();
            while world.verdict(&new).await != "accepted" {
                sleep(Duration::from_millis(250)).await;
                prop_assert!(rotated.elapsed() <= COOLDOWN + Duration::from_secs(1));
            }
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes as a field, as a header and as claims.
    #[test]
    fn no_field_and_no_token_panics(
        field in vec(any::<u8>(), 0..300),
        header in "\\PC{0,60}",
        claims in "\\PC{0,60}",
        now: u64,
    ) {
        paused(async {
            let world = World::new(Behaviour::Fails("connect"));
            let now = at(now % (1 << 62));
            prop_assert!(world.authenticator.authenticate(&field, now).await.is_err());
            let token = unsigned(&header, &claims);
            prop_assert!(world.authenticator.authenticate(&token, now).await.is_err());
            Ok(())
        })?;
    }

    #[test]
    fn no_value_of_a_claim_panics(
        name in prop::sample::select(vec![
            "iss", "aud", "exp", "nbf", "iat", "tid", "appid", "azp", "ver", "scp", "idtyp",
        ]),
        value in json(),
        now in prop::sample::select(vec![0, NOW, u64::MAX >> 2]),
    ) {
        paused(async {
            let world = World::new(Behaviour::Fails("connect"));
            let claims = claims(NOW - 10, NOW + 290);
            let at_name = claims.find(&format!("\"{name}\":"));
            let claims = match at_name {
                None => claims.replacen('{', &format!("{{\"{name}\":{value},"), 1),
                Some(from) => {
                    let (before, rest) = claims.split_at(from);
                    let (_, after) = rest.split_at(rest.find([',', '}']).unwrap());
                    format!("{before}\"{name}\":{value}{after}")
                }
            };
            let token = unsigned(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, FIRST.id()), &claims);
            let field = crate::support::bearer(&token);
            prop_assert!(world.authenticator.authenticate(&field, at(now)).await.is_err());
            Ok(())
        })?;
    }

    #[test]
    fn any_document_is_a_key_set_or_an_error(document in vec(any::<u8>(), 0..300), member in json()) {
        let _ = switchboard_auth::KeySet::parse(&document);
        let set = switchboard_auth::KeySet::parse(format!("{{\"keys\":[{member}]}}").as_bytes());
        prop_assert!(set.as_ref().is_ok_and(|set| set.is_empty()) || set.is_err());
        let skipped = set.map_or_else(|_| Vec::new(), |set| set.skipped().to_vec());
        let ids: BTreeSet<_> = skipped.iter().filter_map(|skipped| skipped.key_id.clone()).collect();
        prop_assert!(ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_graphic())));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Unknown(String),
    HangUp(String),
    Pause(u64),
    Known,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        "[a-c]".prop_map(Event::Unknown),
        "[a-z0-9]{8}".prop_map(Event::Unknown),
        "[a-z]".prop_map(Event::HangUp),
        (0..40_000_u64).prop_map(Event::Pause),
        Just(Event::Known),
    ]
}

/// JSON of any shape, with numbers that are hard to parse.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "1e19",
            "1e300",
            "-1e300",
            "1e400",
            "-0.0",
            "1e-400",
            "9223372036854775808",
            "18446744073709551615",
            "-9223372036854775808",
            "\"\\ud800\"",
            "\"\"",
            "NaN",
        ])
        .prop_map(str::to_owned),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "[a-z{}/-]{0,40}".prop_map(|text| format!("\"{text}\"")),
        Just(format!("\"{APP}\"")),
        Just(format!("\"{TENANT}\"")),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec(("[a-z]{1,3}", inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}
