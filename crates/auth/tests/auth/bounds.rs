//! Hostile tokens cost bounded work, stack and memory: threats J14 (nesting) and J25 (size, dots).

use std::{fs, thread};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::support::{BOTH_KEYS, Behaviour, World};

/// Runs on a stack that a parser without a bound of nesting overflows.
#[test]
fn a_hostile_token_costs_bounded_work_stack_and_memory() {
    thread::Builder::new().stack_size(STACK_BYTES).spawn(check).unwrap().join().unwrap();
}

fn check() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(Behaviour::publishes(BOTH_KEYS));
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let member = |levels: usize| format!(r#"{{"alg":"RS256","kid":"k","x":{}}}"#, nested(levels));
        let token = |header: &str, payload: &str| {
            let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!("{header}.{payload}.AAAA").into_bytes()
        };
        let header = r#"{"alg":"RS256","kid":"k"}"#;
        let hostile = [
            ("nesting in the header", token(&member(300), "{}"), "header_syntax"),
            ("nesting in the payload", token(header, &member(2000)), "claims_syntax"),
            ("nesting alone", token(header, &nested(2000)), "claims_syntax"),
            ("nesting beyond the size", token(header, &member(100_000)), "token_length"),
            ("dots", vec![b'.'; 16 << 20], "token_length"),
            ("a huge header", vec![b'a'; 16 << 20], "token_length"),
            ("a huge signature", [token(header, "{}"), vec![b'a'; 16 << 20]].concat(), "token_length"),
        ];
        for (what, token, expected) in &hostile {
            // What is allocated once is not the token's.
            world.verdict(token).await;
            let before = Cost::now();
            for _ in 0..REPEATS {
                assert_eq!(world.verdict(token).await, *expected, "{what}");
            }
            let (cpu_ms, memory_kib) = Cost::now().since(before);
            // `verdict` copies the token once into the field, which is the sender's memory.
            let copies_kib = u64::try_from(token.len() / 1024).unwrap();
            assert!(memory_kib <= copies_kib + MEMORY_KIB_MAX, "{what}: {memory_kib} KiB");
            // The copies of the test take most of it.
            assert!(cpu_ms <= CPU_MS_MAX, "{what}: {cpu_ms} ms of CPU time for {REPEATS} tokens");
        }
        assert_eq!(world.skype.fetches(), 0, "no fetch for a token that cannot be read");
    });
}

/// The CPU time of this thread, which other processes do not change, and the most memory of the process.
#[derive(Clone, Copy)]
struct Cost {
    cpu_ms: u64,
    memory_kib: u64,
}

impl Cost {
    fn now() -> Self {
        let scheduled = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let nanoseconds = scheduled.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Self { cpu_ms: nanoseconds / 1_000_000, memory_kib: kib }
    }

    fn since(self, before: Self) -> (u64, u64) {
        (self.cpu_ms - before.cpu_ms, self.memory_kib - before.memory_kib)
    }
}

const STACK_BYTES: usize = 512 * 1024;
const REPEATS: usize = 20;
const MEMORY_KIB_MAX: u64 = 2048;
/// A scan of 16 MiB without optimisation takes more than 100 ms.
const CPU_MS_MAX: u64 = 1000;
