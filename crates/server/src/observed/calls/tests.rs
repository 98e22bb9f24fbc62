//! The memory of calls: its look-ups, its bounds, and its frames.

use proptest::prelude::*;

use super::*;

fn instance(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn seen<'a>(call_id: &'a str, instance: &'a Name) -> CallSighting<'a> {
    CallSighting { call_id, chain_id: None, message_id: None, instance, state: None, placed: None }
}

fn ids(found: &FoundCalls) -> Vec<&str> {
    found.calls.iter().map(|call| &*call.id).collect()
}

#[test]
fn a_call_is_found_by_any_of_its_ids_whatever_their_case() {
    let memory = CallMemory::default();
    let bot = instance("bot-1");
    let first = CallSighting {
        chain_id: Some("chain-A"),
        message_id: Some("message-1"),
        state: Some("incoming"),
        placed: Some(CallKind::Meeting),
        ..seen("Call-A", &bot)
    };
    memory.note(&first, 1000);
    let second =
        CallSighting { message_id: Some("message-2"), state: Some("established"), ..seen("call-a", &bot) };
    memory.note(&second, 2000);
    memory.note(&seen("call-b", &bot), 3000);
    for (text, expected) in [
        ("call-A", vec!["Call-A"]),
        ("CALL", vec!["call-b", "Call-A"]),
        ("CHAIN-a", vec!["Call-A"]),
        ("message-2", vec!["Call-A"]),
        ("message-1", vec![]),
        ("", vec!["call-b", "Call-A"]),
        ("all-a", vec![]),
        ("é", vec![]),
    ] {
        assert_eq!(ids(&memory.search(text, 10, 3000)), expected, "{text}");
    }
    let found = memory.search("call", 1, 3000);
    assert_eq!((ids(&found), found.matched, found.remembered), (vec!["call-b"], 2, 2));
    let call = memory.find("CALL-a", 3000).unwrap();
    let json = serde_json::json!({
        "id": "Call-A", "chain": "chain-A", "message": "message-2", "kind": "meeting", "instance": "bot-1",
        "state": "established", "placed_here": true, "first_seen": 1000, "last_seen": 2000,
    });
    assert_eq!(serde_json::to_value(&call).unwrap(), json);
    assert_eq!(memory.find("call", 3000), None);
}

#[test]
fn a_call_that_ended_leaves_after_ten_minutes_and_does_not_come_back_to_life() {
    let memory = CallMemory::default();
    let bot = instance("bot-1");
    memory.note(&CallSighting { state: Some(TERMINATED), ..seen("ended", &bot) }, 1000);
    memory.note(&CallSighting { state: Some("established"), ..seen("ended", &bot) }, 2000);
    memory.note(&CallSighting { state: Some("established"), ..seen("lives", &bot) }, 1000);
    let last = 2000 + ENDED_KEPT_MS - 1;
    assert_eq!(memory.find("ended", last).unwrap().state, Some(TERMINATED));
    assert_eq!(memory.search("", 10, last).remembered, 2);
    assert_eq!(memory.find("ended", last + 1), None);
    assert_eq!(ids(&memory.search("", 10, last + 1)), ["lives"]);
    assert_eq!(memory.len(), 1);
}

#[test]
fn an_overlong_id_is_not_remembered() {
    let memory = CallMemory::default();
    let bot = instance("bot-1");
    let (longest, overlong) = ("x".repeat(ID_BYTES_MAX), "x".repeat(ID_BYTES_MAX + 1));
    memory.note(&seen(&overlong, &bot), 1);
    assert_eq!(memory.len(), 0);
    memory.note(
        &CallSighting { chain_id: Some(&overlong), message_id: Some(&overlong), ..seen(&longest, &bot) },
        1,
    );
    let call = memory.find(&longest, 1).unwrap();
    assert_eq!((call.chain, call.message), (None, None));
    assert_eq!(memory.find(&overlong, 1), None);
}

#[test]
fn a_frame_has_the_calls_that_were_seen_since_the_last_one() {
    let memory = CallMemory::default();
    let bot = instance("bot-1");
    memory.note(&seen("a", &bot), 1);
    memory.note(&seen("b", &bot), 2);
    assert_eq!(ids(&memory.changes(10, 2)), ["b", "a"]);
    assert_eq!(ids(&memory.changes(10, 2)), [""; 0]);
    memory.note(&seen("a", &bot), 3);
    memory.note(&seen("c", &bot), 4);
    let frame = memory.changes(1, 4);
    assert_eq!((ids(&frame), frame.matched, frame.remembered), (vec!["c"], 2, 3));
}

/// The update of a known call reuses its memory.
#[test]
fn a_known_call_keeps_the_memory_of_its_texts() {
    let memory = CallMemory::default();
    let bot = instance("bot-1");
    let message = |text| CallSighting { message_id: Some(text), chain_id: Some("chain"), ..seen("a", &bot) };
    memory.note(&message("message-1"), 1);
    let (hash, shard) = memory.shard_of("a").unwrap();
    let places = || {
        let shard = lock(shard);
        let call = &shard.calls[&hash];
        (call.message.as_ref().unwrap().as_ptr().addr(), call.chain.as_ref().unwrap().as_ptr().addr())
    };
    let before = places();
    memory.note(&message("message-2"), 2);
    assert_eq!(places(), before);
    assert_eq!(memory.find("a", 2).unwrap().message.as_deref(), Some("message-2"));
}

#[test]
fn a_full_shard_forgets_the_call_that_was_not_seen_for_the_longest_time() {
    let memory = CallMemory::default();
    let bot = instance("bot-1");
    let of_one_shard = (0_u32..).map(|number| number.to_string());
    let first = memory.shard_of("0").unwrap().1;
    let mut calls = of_one_shard.filter(|id| std::ptr::eq(memory.shard_of(id).unwrap().1, first));
    let kept: Vec<_> = calls.by_ref().take(SHARD_CALLS_MAX).collect();
    for (id, time) in kept.iter().zip(1..) {
        memory.note(&seen(id, &bot), time);
    }
    // The first one is seen again, so the second one is the oldest.
    memory.note(&seen(&kept[0], &bot), 1_000);
    memory.note(&seen(&calls.next().unwrap(), &bot), 1_001);
    assert_eq!(memory.len(), SHARD_CALLS_MAX);
    assert!(memory.find(&kept[0], 1_001).is_some());
    assert_eq!(memory.find(&kept[1], 1_001), None);
    assert!(memory.find(&kept[2], 1_001).is_some());
}

const IDS: &str = "[a-dA-D]{1,4}|[0-9a-f]{100,140}|\\PC{0,60}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is seen, in whatever order of times, no shard exceeds its bound, and the call that was seen
    /// last is remembered as it was.
    #[test]
    fn the_memory_is_bounded_and_has_the_last_call(
        sightings in prop::collection::vec(
            (IDS, prop::option::of("\\PC{0,140}"), 0..3_u8, any::<u64>()),
            1..100,
        ),
    ) {
        let memory = CallMemory::default();
        let bots = ["bot-0", "bot-1", "bot-2"].map(instance);
        for (id, message, bot, time) in &sightings {
            let bot = &bots[usize::from(*bot)];
            let state = (time % 3 == 0).then_some(TERMINATED);
            memory.note(&CallSighting { message_id: message.as_deref(), state, ..seen(id, bot) }, *time);
            match memory.find(id, *time) {
                Some(call) => {
                    prop_assert!(call.id.eq_ignore_ascii_case(id));
                    prop_assert_eq!(&call.instance, bot);
                    prop_assert!(call.message.is_none_or(|message| message.len() <= ID_BYTES_MAX));
                }
                None => prop_assert!(id.len() > ID_BYTES_MAX),
            }
        }
        for shard in &memory.shards {
            prop_assert!(lock(shard).calls.len() <= SHARD_CALLS_MAX);
        }
        prop_assert!(memory.search("", 50, u64::MAX).calls.len() <= 50);
    }

}

/// However many calls come, the bound holds.
#[test]
fn a_flood_of_calls_does_not_grow_the_memory() {
    let memory = CallMemory::default();
    let bot = instance("bot-1");
    for number in 0..20_000 {
        memory.note(&seen(&number.to_string(), &bot), number);
    }
    let max = SHARD_CALLS_MAX * usize::try_from(SHARDS).unwrap();
    assert!(memory.len() <= max);
    // The shards fill evenly, so nearly all of the room is used.
    assert!(memory.len() > max * 9 / 10, "{}", memory.len());
}
