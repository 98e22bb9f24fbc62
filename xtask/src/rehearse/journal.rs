//! The journals of the bots: which incarnation of which instance received which notification. A journal
//! survives its bot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::testbed::Testbed;

/// One line: an instance received a notification.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct JournalEntry {
    name: String,
    /// Differs after each start.
    #[serde(rename = "life")]
    incarnation: String,
    call: String,
    kind: String,
    /// The same for each attempt of the platform.
    message: Option<String>,
}

/// The counts of all journals together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct JournalSummary {
    /// Calls that at least one instance received.
    pub(super) calls: u64,
    /// Calls that the killed instance had when it was killed.
    pub(super) of_killed: u64,
    /// Different notifications.
    pub(super) notifications: u64,
    /// Repetitions: a notification that an instance had already handled, the same or another one.
    pub(super) twice: u64,
    /// Incarnations that received a notification.
    pub(super) incarnations: usize,
    /// Callbacks that reached another incarnation than the owner of the call.
    pub(super) misrouted: u64,
    /// Calls whose owner did not receive every notification.
    pub(super) incomplete: u64,
    /// The first misrouted and incomplete calls.
    pub(super) examples: Vec<String>,
}

/// Reads the journals of all bots. `killed` names the instance that was killed, if there is one.
pub(super) fn read(testbed: &Testbed, killed: Option<&str>) -> Result<JournalSummary, String> {
    let mut entries = Vec::new();
    for bot in &testbed.bots {
        let path = testbed.journal(bot.name);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        for line in text.lines() {
            let entry = serde_json::from_str(line);
            let entry = entry.map_err(|error| format!("{} has a bad line: {error}: {line}", path.display()));
            entries.push(entry?);
        }
    }
    Ok(judge(&entries, killed))
}

fn judge(entries: &[JournalEntry], killed: Option<&str>) -> JournalSummary {
    let mut summary = JournalSummary::default();
    let mut messages = BTreeSet::new();
    let mut calls: BTreeMap<&str, Vec<&JournalEntry>> = BTreeMap::new();
    for entry in entries {
        calls.entry(&entry.call).or_default().push(entry);
        // Notifications without a message id cannot be compared; each counts as new.
        if entry.message.is_none() || messages.insert((&entry.call, &entry.message)) {
            summary.notifications += 1;
        } else {
            summary.twice += 1;
        }
    }
    summary.incarnations = entries.iter().map(|entry| &entry.incarnation).collect::<BTreeSet<_>>().len();
    summary.calls = u64::try_from(calls.len()).unwrap_or(u64::MAX);
    // The first entry of its journal is from the incarnation that was killed.
    let killed = killed.and_then(|name| entries.iter().find(|entry| entry.name == name));
    for (call, entries) in calls {
        summary.call(call, &entries, killed);
    }
    summary
}

impl JournalSummary {
    fn call(&mut self, call: &str, entries: &[&JournalEntry], killed: Option<&JournalEntry>) {
        let given: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| entry.kind == INCOMING)
            .map(|entry| entry.incarnation.as_str())
            .collect();
        // The platform accepts one answer. If several incarnations received the call, the owner is the one
        // that receives its callbacks.
        let mut callbacks: HashMap<&str, u64> = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.kind != INCOMING) {
            *callbacks.entry(entry.incarnation.as_str()).or_default() += 1;
        }
        let owner = callbacks
            .iter()
            .filter(|(incarnation, _)| given.contains(*incarnation))
            .max_by_key(|(incarnation, count)| (**count, **incarnation))
            .map(|(incarnation, _)| *incarnation);
        let dead = killed.filter(|killed| match owner {
            Some(owner) => owner == killed.incarnation,
            None => given.contains(killed.incarnation.as_str()),
        });
        let misrouted: Vec<&&JournalEntry> = entries
            .iter()
            .filter(|entry| entry.kind != INCOMING && Some(entry.incarnation.as_str()) != owner)
            .collect();
        let seen: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| Some(entry.incarnation.as_str()) == owner)
            .map(|entry| entry.kind.as_str())
            .collect();
        let missing: Vec<&str> = LIFECYCLE.into_iter().filter(|kind| !seen.contains(kind)).collect();
        // The owner is dead, so no other process may receive the remaining callbacks.
        let is_dead = dead.is_some() && !missing.is_empty();
        if is_dead {
            self.of_killed += 1;
        }
        if let Some(entry) = misrouted.first() {
            self.misrouted += u64::try_from(misrouted.len()).unwrap_or(u64::MAX);
            self.example(format!(
                "{call}: {} reached {}, which does not own the call",
                entry.kind, entry.name
            ));
        }
        if !is_dead && !missing.is_empty() {
            self.incomplete += 1;
            self.example(format!("{call}: its owner never received {}", missing.join(", ")));
        }
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

const INCOMING: &str = "incoming";

/// The notifications of every call that was answered and ended as planned.
const LIFECYCLE: [&str; 5] = [INCOMING, "establishing", "established", "roster", "terminated"];

const EXAMPLES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the journals of `entries`, each written as `name.incarnation call kind message`.
    #[track_caller]
    fn check(entries: &[&str], killed: Option<&str>, expected: &[(&str, u64)]) {
        let entries: Vec<JournalEntry> = entries
            .iter()
            .map(|text| {
                let [incarnation, call, kind, message] = *text.split(' ').collect::<Vec<_>>() else {
                    panic!("{text}")
                };
                let (name, _) = incarnation.split_once('.').unwrap();
                JournalEntry {
                    name: name.to_owned(),
                    incarnation: incarnation.to_owned(),
                    call: call.to_owned(),
                    kind: kind.to_owned(),
                    message: Some(message.to_owned()),
                }
            })
            .collect();
        let summary = judge(&entries, killed);
        let numbers = [
            ("calls", summary.calls),
            ("of_killed", summary.of_killed),
            ("notifications", summary.notifications),
            ("twice", summary.twice),
            ("misrouted", summary.misrouted),
            ("incomplete", summary.incomplete),
        ];
        let numbers: Vec<_> = numbers.into_iter().filter(|(_, number)| *number > 0).collect();
        assert_eq!(numbers, expected, "{entries:#?}");
    }

    const WHOLE: [&str; 5] = [
        "a.1 c incoming 1",
        "a.1 c establishing 2",
        "a.1 c established 3",
        "a.1 c roster 4",
        "a.1 c terminated 5",
    ];

    fn and(more: &[&'static str]) -> Vec<&'static str> {
        WHOLE.iter().chain(more).copied().collect()
    }

    #[test]
    fn one_incarnation_owns_a_call() {
        check(&WHOLE, None, &[("calls", 1), ("notifications", 5)]);
        let late = and(&["b.1 c incoming 1"]);
        check(&late, None, &[("calls", 1), ("notifications", 5), ("twice", 1)]);
        let again = and(&["a.1 c roster 4"]);
        check(&again, None, &[("calls", 1), ("notifications", 5), ("twice", 1)]);
        for elsewhere in ["b.1 c roster 6", "a.2 c roster 6"] {
            let misrouted = and(&[elsewhere]);
            check(&misrouted, None, &[("calls", 1), ("notifications", 6), ("misrouted", 1)]);
        }
        let split = and(&["b.1 c incoming 1", "b.1 c roster 6"]);
        check(&split, None, &[("calls", 1), ("notifications", 6), ("twice", 1), ("misrouted", 1)]);
        check(&WHOLE[..4], None, &[("calls", 1), ("notifications", 4), ("incomplete", 1)]);
        check(&WHOLE[..1], None, &[("calls", 1), ("notifications", 1), ("incomplete", 1)]);
    }

    #[test]
    fn only_calls_of_the_killed_instance_may_be_incomplete() {
        let successor = ["a.1 c incoming 1", "a.1 c establishing 2", "a.2 c established 3"];
        let expected = [("calls", 1), ("of_killed", 1), ("notifications", 3), ("misrouted", 1)];
        check(&successor, Some("a"), &expected);
        check(&WHOLE[..1], Some("a"), &[("calls", 1), ("of_killed", 1), ("notifications", 1)]);
        check(&WHOLE, Some("a"), &[("calls", 1), ("notifications", 5)]);
        let other = ["a.1 c incoming 1", "a.1 c establishing 2", "b.1 c established 3"];
        let expected = [("calls", 1), ("of_killed", 1), ("notifications", 3), ("misrouted", 1)];
        check(&other, Some("a"), &expected);
        let later = ["a.1 d incoming 8", "a.2 c incoming 1", "a.2 c establishing 2"];
        let expected = [("calls", 2), ("of_killed", 1), ("notifications", 3), ("incomplete", 1)];
        check(&later, Some("a"), &expected);
        check(&WHOLE[..4], Some("b"), &[("calls", 1), ("notifications", 4), ("incomplete", 1)]);
    }
}
