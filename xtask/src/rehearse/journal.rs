//! What the bots wrote down: which instance, in which life, was notified of what. Unlike their memory it outlives them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::scene::Scene;

/// A line: an instance was notified of an item.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Entry {
    name: String,
    /// Another one after each start.
    life: String,
    call: String,
    kind: String,
    /// The same when the platform tries again.
    message: Option<String>,
}

/// What all journals say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Witness {
    /// Calls that some instance was given.
    pub(super) calls: u64,
    /// Calls of the instance that was killed, while it was.
    pub(super) of_killed: u64,
    /// Notifications, each counted once however often it was handled.
    pub(super) notifications: u64,
    /// How often one was handled that had been handled before, by the same instance or another.
    pub(super) twice: u64,
    /// Processes that were notified of something.
    pub(super) lives: usize,
    /// Callbacks that reached another life than the one that their call belongs to.
    pub(super) misrouted: u64,
    /// Calls whose instance did not see all of their lives.
    pub(super) incomplete: u64,
    /// What the last two are about; the first of each.
    pub(super) examples: Vec<String>,
}

/// Reads the journals of all bots; `killed` is who was killed, if somebody was.
pub(super) fn read(scene: &Scene, killed: Option<&str>) -> Result<Witness, String> {
    let mut entries = Vec::new();
    for bot in &scene.bots {
        let path = scene.journal(bot.name);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        for line in text.lines() {
            let entry = serde_json::from_str(line);
            entries.push(entry.map_err(|error| format!("{}: {error}: {line}", path.display()))?);
        }
    }
    Ok(judge(&entries, killed))
}

fn judge(entries: &[Entry], killed: Option<&str>) -> Witness {
    let mut witness = Witness::default();
    let mut messages = BTreeSet::new();
    let mut calls: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        calls.entry(&entry.call).or_default().push(entry);
        // One without a message id cannot be told from another.
        if entry.message.is_none() || messages.insert((&entry.call, &entry.message)) {
            witness.notifications += 1;
        } else {
            witness.twice += 1;
        }
    }
    witness.lives = entries.iter().map(|entry| &entry.life).collect::<BTreeSet<_>>().len();
    witness.calls = u64::try_from(calls.len()).unwrap_or(u64::MAX);
    // Its journal begins with the life that was ended.
    let killed = killed.and_then(|name| entries.iter().find(|entry| entry.name == name));
    for (call, entries) in calls {
        witness.call(call, &entries, killed);
    }
    witness
}

impl Witness {
    fn call(&mut self, call: &str, entries: &[&Entry], killed: Option<&Entry>) {
        let given: BTreeSet<&str> =
            entries.iter().filter(|entry| entry.kind == INCOMING).map(|entry| entry.life.as_str()).collect();
        // The platform takes one answer: where several were given a call, it belongs to the one that hears of it again.
        let mut callbacks: HashMap<&str, u64> = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.kind != INCOMING) {
            *callbacks.entry(entry.life.as_str()).or_default() += 1;
        }
        let owner = callbacks
            .iter()
            .filter(|(life, _)| given.contains(*life))
            .max_by_key(|(life, count)| (**count, **life))
            .map(|(life, _)| *life);
        let dead = killed.filter(|killed| match owner {
            Some(owner) => owner == killed.life,
            None => given.contains(killed.life.as_str()),
        });
        let astray: Vec<&&Entry> = entries
            .iter()
            .filter(|entry| entry.kind != INCOMING && Some(entry.life.as_str()) != owner)
            .collect();
        let seen: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| Some(entry.life.as_str()) == owner)
            .map(|entry| entry.kind.as_str())
            .collect();
        let missing: Vec<&str> = LIFE.into_iter().filter(|kind| !seen.contains(kind)).collect();
        if let Some(dead) = dead
            && !missing.is_empty()
        {
            self.of_killed += 1;
            // The next life of the same name hears the rest, and nobody else.
            let elsewhere = astray.iter().filter(|entry| entry.name != dead.name).count();
            self.misrouted += u64::try_from(elsewhere).unwrap_or(u64::MAX);
            return;
        }
        if let Some(entry) = astray.first() {
            self.misrouted += u64::try_from(astray.len()).unwrap_or(u64::MAX);
            self.example(format!(
                "{call}: {} reached {}, to which it does not belong",
                entry.kind, entry.name
            ));
        }
        if !missing.is_empty() {
            self.incomplete += 1;
            self.example(format!("{call}: its instance never heard of {}", missing.join(", ")));
        }
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

const INCOMING: &str = "incoming";

/// What every call has that was answered and ended in its time.
const LIFE: [&str; 5] = [INCOMING, "establishing", "established", "roster", "terminated"];

const EXAMPLES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each entry as `name.life call kind message`.
    #[track_caller]
    fn check(entries: &[&str], killed: Option<&str>, expected: &[(&str, u64)]) {
        let entries: Vec<Entry> = entries
            .iter()
            .map(|text| {
                let [who, call, kind, message] = *text.split(' ').collect::<Vec<_>>() else {
                    panic!("{text}")
                };
                let (name, _) = who.split_once('.').unwrap();
                Entry {
                    name: name.to_owned(),
                    life: who.to_owned(),
                    call: call.to_owned(),
                    kind: kind.to_owned(),
                    message: Some(message.to_owned()),
                }
            })
            .collect();
        let witness = judge(&entries, killed);
        let numbers = [
            ("calls", witness.calls),
            ("of_killed", witness.of_killed),
            ("notifications", witness.notifications),
            ("twice", witness.twice),
            ("misrouted", witness.misrouted),
            ("incomplete", witness.incomplete),
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
    fn a_call_belongs_to_one_life() {
        check(&WHOLE, None, &[("calls", 1), ("notifications", 5)]);
        let late = and(&["b.1 c incoming 1"]);
        check(&late, None, &[("calls", 1), ("notifications", 5), ("twice", 1)]);
        let again = and(&["a.1 c roster 4"]);
        check(&again, None, &[("calls", 1), ("notifications", 5), ("twice", 1)]);
        for elsewhere in ["b.1 c roster 6", "a.2 c roster 6"] {
            let strayed = and(&[elsewhere]);
            check(&strayed, None, &[("calls", 1), ("notifications", 6), ("misrouted", 1)]);
        }
        let split = and(&["b.1 c incoming 1", "b.1 c roster 6"]);
        check(&split, None, &[("calls", 1), ("notifications", 6), ("twice", 1), ("misrouted", 1)]);
        check(&WHOLE[..4], None, &[("calls", 1), ("notifications", 4), ("incomplete", 1)]);
        check(&WHOLE[..1], None, &[("calls", 1), ("notifications", 1), ("incomplete", 1)]);
    }

    #[test]
    fn only_calls_of_the_killed_may_suffer() {
        let heir = ["a.1 c incoming 1", "a.1 c establishing 2", "a.2 c established 3"];
        check(&heir, Some("a"), &[("calls", 1), ("of_killed", 1), ("notifications", 3)]);
        check(&WHOLE[..1], Some("a"), &[("calls", 1), ("of_killed", 1), ("notifications", 1)]);
        check(&WHOLE, Some("a"), &[("calls", 1), ("notifications", 5)]);
        let other = ["a.1 c incoming 1", "a.1 c establishing 2", "b.1 c established 3"];
        let expected = [("calls", 1), ("of_killed", 1), ("notifications", 3), ("misrouted", 1)];
        check(&other, Some("a"), &expected);
        let next_life = ["a.1 d incoming 8", "a.2 c incoming 1", "a.2 c establishing 2"];
        let expected = [("calls", 2), ("of_killed", 1), ("notifications", 3), ("incomplete", 1)];
        check(&next_life, Some("a"), &expected);
        check(&WHOLE[..4], Some("b"), &[("calls", 1), ("notifications", 4), ("incomplete", 1)]);
    }
}
