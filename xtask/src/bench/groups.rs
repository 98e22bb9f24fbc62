//! The instructions of a profile by group of functions.

use std::collections::BTreeMap;

use super::profile::{Function, Profile};

/// The groups, in the order of the table.
pub(super) const GROUPS: [&str; 12] = [
    TOKEN,
    "body: parsing and log fields",
    SEAL,
    "forward",
    "hyper client",
    "hyper server",
    "request, record and metrics",
    "log line",
    "malloc and free",
    "header maps",
    "tokio",
    OTHER,
];

const TOKEN: &str = "token and its hash";
const SEAL: &str = "seal and placement";
const OTHER: &str = "other";

/// The first rule whose text is in the path of the source file decides.
const FILES: [(&str, &str); 13] = [
    ("crates/auth/", TOKEN),
    ("crates/notification/", "body: parsing and log fields"),
    ("crates/routing/", SEAL),
    ("crates/delivery/src/place", SEAL),
    ("crates/delivery/src/fleet", SEAL),
    ("crates/delivery/", "forward"),
    ("crates/server/src/telemetry", "log line"),
    ("/tracing-", "log line"),
    ("crates/server/", "request, record and metrics"),
    ("/http-1", "header maps"),
    ("/tokio-1", "tokio"),
    ("/mio-1", "tokio"),
    ("/hyper-util-", "hyper client"),
];

/// Functions of the C library that allocate.
const ALLOCATOR: [&str; 9] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "_int_malloc",
    "_int_free",
    "malloc_consolidate",
    "unlink_chunk",
];

/// Parts of the names of hyper's types and modules that only one side of a connection uses, as they are in
/// mangled names.
const SIDES: [(&str, &str); 4] = [
    ("6client", "hyper client"),
    ("..client", "hyper client"),
    ("6server", "hyper server"),
    ("..server", "hyper server"),
];

/// The instructions of each group. Code of libraries that all use, for example of the standard library, of
/// serde and of OpenSSL, counts for the groups that call it, in proportion to the calls.
pub(super) fn by_group(profile: &Profile) -> BTreeMap<&'static str, f64> {
    let shares = shares(profile);
    let mut groups = BTreeMap::new();
    for cost in &profile.costs {
        let instructions = number(cost.instructions);
        let function = profile.functions.get(cost.function);
        match function.and_then(|function| group(function, &cost.file)) {
            Some(group) => *groups.entry(group).or_default() += instructions,
            None => {
                for (group, share) in shares.get(cost.function).into_iter().flatten() {
                    *groups.entry(*group).or_default() += instructions * share;
                }
            }
        }
    }
    groups
}

/// The share of each group in a function.
type Share = BTreeMap<&'static str, f64>;

/// The shares of each function by its callers. Shares travel one call further in each pass.
fn shares(profile: &Profile) -> Vec<Share> {
    let fixed: Vec<_> = profile.functions.iter().map(|function| group(function, &function.file)).collect();
    let mut shares: Vec<Share> =
        fixed.iter().map(|group| Share::from([(group.unwrap_or(OTHER), 1.0)])).collect();
    for _ in 0..PASSES {
        let mut next = vec![Share::new(); shares.len()];
        for call in profile.calls.iter().filter(|call| call.caller != call.callee) {
            let caller = profile.functions.get(call.caller);
            let from = match caller.and_then(|caller| group(caller, &call.file)) {
                Some(group) => &Share::from([(group, 1.0)]),
                None => match shares.get(call.caller) {
                    Some(share) => share,
                    None => continue,
                },
            };
            let Some(callee) = next.get_mut(call.callee) else { continue };
            for (group, share) in from {
                *callee.entry(group).or_default() += share * number(call.instructions);
            }
        }
        for ((share, next), fixed) in shares.iter_mut().zip(next).zip(&fixed) {
            let sum: f64 = next.values().sum();
            if fixed.is_none() && sum > 0.0 {
                *share = next.into_iter().map(|(group, weight)| (group, weight / sum)).collect();
            }
        }
    }
    shares
}

/// The group of the code of `file` in a function. `None` if its callers decide.
fn group(function: &Function, file: &str) -> Option<&'static str> {
    if function.object.contains("/libc.so") || function.object.contains("/libc-") {
        let name = function.name.trim_start_matches("__libc_");
        return ALLOCATOR.contains(&name).then_some("malloc and free");
    }
    if file.contains("/hyper-1") {
        return side(function, file);
    }
    let of_file = |file: &str| FILES.iter().find(|(part, _)| file.contains(part)).map(|(_, group)| *group);
    // The cache of tokens hashes in code that is inlined into the handler of a request.
    if file.contains("/openssl-0") && file.ends_with("/sha.rs") {
        return of_file(&function.file).filter(|group| *group == SEAL).or(Some(TOKEN));
    }
    of_file(file).or_else(|| match function.file.contains("/hyper-1") {
        true => side(function, &function.file),
        false => of_file(&function.file),
    })
}

fn side(function: &Function, file: &str) -> Option<&'static str> {
    let of_file = match file {
        file if file.contains("/src/client/") => Some("hyper client"),
        file if file.contains("/src/server/") => Some("hyper server"),
        _ => None,
    };
    let name = function.name.to_ascii_lowercase();
    of_file.or_else(|| SIDES.iter().find(|(part, _)| name.contains(part)).map(|(_, group)| *group))
}

#[expect(clippy::as_conversions, reason = "counts are far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

/// More than the calls between any function and the code that uses it.
const PASSES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::profile::{Call, Cost};

    fn function(object: &str, file: &str, name: &str) -> Function {
        Function { object: object.to_owned(), file: file.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn shared_code_counts_for_its_callers() {
        let functions = vec![
            function("/bin/switchboard", "/w/crates/auth/src/token_cache.rs", "find"),
            function("/bin/switchboard", "/w/crates/routing/src/callback.rs", "seal"),
            function("/lib/libcrypto.so.3", "???", "EVP_Digest"),
            function("/lib/libcrypto.so.3", "???", "sha256_block_data_order"),
            function("/lib/libc.so.6", "malloc.c", "malloc"),
        ];
        let cost =
            |function, file: &str, instructions| Cost { function, file: file.to_owned(), instructions };
        let call = |caller, callee, instructions| Call { caller, file: "x".to_owned(), callee, instructions };
        let profile = Profile {
            total: 1_160,
            costs: vec![
                cost(0, "/w/crates/auth/src/token_cache.rs", 100),
                cost(0, "/r/http-1.5.0/src/header/map.rs", 50),
                cost(3, "???", 1_000),
                cost(4, "malloc.c", 10),
            ],
            calls: vec![call(0, 2, 750), call(1, 2, 250), call(2, 3, 1_000), call(0, 4, 10)],
            functions,
        };
        let groups = by_group(&profile);
        assert_eq!(groups.get(TOKEN), Some(&850.0));
        assert_eq!(groups.get(SEAL), Some(&250.0));
        assert_eq!(groups.get("header maps"), Some(&50.0));
        assert_eq!(groups.get("malloc and free"), Some(&10.0));
    }

    #[test]
    fn each_side_of_hyper_is_told_by_its_names() {
        for (file, name, expected) in [
            ("/r/hyper-1.12.0/src/client/dispatch.rs", "poll", Some("hyper client")),
            (
                "/r/hyper-1.12.0/src/proto/h1/role.rs",
                "_ZN5hyper5proto2h14role6Server5parse17hE",
                Some("hyper server"),
            ),
            ("/r/hyper-1.12.0/src/proto/h1/conn.rs", "_ZN5hyper5proto2h14conn9poll_read17hE", None),
        ] {
            assert_eq!(group(&function("/bin/switchboard", file, name), file), expected, "{file}");
        }
    }

    #[test]
    fn every_rule_names_a_group_of_the_table() {
        assert!(FILES.iter().chain(&SIDES).all(|(_, group)| GROUPS.contains(group)));
    }
}
