//! The report of a load: the outcomes of its calls, and the notifications that were lost or misrouted.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use url::Url;

use super::{event::LoadResult, watch::BotReport};
use crate::server::printable;

/// The report of a load.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadReport {
    /// True if every call ended as expected or lost its instance, nothing else was lost, and nothing was
    /// misrouted.
    pub ok: bool,
    /// The number of calls that are over.
    pub calls: usize,
    /// The time from the first call to the end of the last one, in milliseconds.
    pub took_ms: f64,
    /// The calls by outcome, without those whose instance was gone.
    pub outcomes: BTreeMap<String, usize>,
    /// The calls whose instance was gone or restarted while they were alive, by outcome.
    pub instance_gone: BTreeMap<String, usize>,
    /// The answered calls that ended early, without those whose instance was gone.
    pub ended_early: u64,
    /// The times that the bots took to answer.
    pub answered: Option<AnswerTimes>,
    /// The number of notifications, each counted once for all its attempts.
    pub sent: u64,
    /// The notifications with a last response of 2xx.
    pub acknowledged: u64,
    /// The attempts beyond the first.
    pub retried: u64,
    /// The notifications with a last response of 3xx or 4xx, without those of calls whose instance was gone.
    pub refused: u64,
    /// The notifications without a response, or with 5xx only, without those of calls whose instance was
    /// gone.
    pub lost: u64,
    /// The notifications refused or lost because the instance of their call was gone.
    pub lost_with_instance: u64,
    /// The notifications that another instance than the owner acknowledged; `None` without bots to ask.
    pub misrouted: Option<u64>,
    /// The calls that more than one instance received; `None` without bots to ask.
    pub handled_twice: Option<u64>,
    /// The notifications that reached an instance again under one message id; `None` without bots to ask.
    pub came_twice: Option<u64>,
    /// The callbacks of each bot's calls, by its name; empty without bots to ask.
    pub callbacks: BTreeMap<String, OwnerCallbacks>,
    /// The instances that were gone or restarted.
    pub gone: Vec<String>,
    /// The first calls that went wrong, and a bot that is alive and did not report its calls.
    pub problems: Vec<LoadProblem>,
}

/// The notifications to the callback URIs of one bot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OwnerCallbacks {
    /// The number of notifications, each counted once for all its attempts.
    pub sent: u64,
    /// The notifications with a last response of 2xx.
    pub acknowledged: u64,
    /// The attempts beyond the first.
    pub retried: u64,
    /// The times of the acknowledged notifications, from the first attempt to the last response.
    pub took: Option<AnswerTimes>,
}

/// The times to answer, in milliseconds since the call was placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct AnswerTimes {
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The longest time.
    pub max_ms: f64,
}

/// A problem of a call or of a bot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadProblem {
    /// The call id, or the bot's name.
    pub call: String,
    /// The problem.
    pub what: String,
}

impl LoadReport {
    /// Sums up the results of the calls and the reports of the bots.
    ///
    /// Without bots the report cannot say where a notification went.
    pub fn new(results: &[LoadResult], bots: &[BotReport], took_ms: f64) -> Self {
        let mut report = Self { calls: results.len(), took_ms, ..Self::default() };
        let owners: HashMap<String, (&LoadResult, Option<usize>)> = results
            .iter()
            .map(|result| (result.call.to_string(), (result, owner(result.callback_uri.as_deref(), bots))))
            .collect();
        let mut orphans = HashSet::new();
        if !bots.is_empty() {
            report.compare_with_ledgers(&owners, bots, &mut orphans);
        }

        let silent = bots.iter().find(|bot| bot.ledger.is_none() && bot.gone.is_empty());
        if let Some(bot) = silent {
            // The reports of the other bots are not complete without this one.
            (report.misrouted, report.handled_twice, report.came_twice) = (None, None, None);
            report.problem(&printable(&bot.name), "is alive, but did not report its calls".to_owned());
        }

        let mut answered = Vec::new();
        let mut ok = silent.is_none();
        for result in results {
            let id = result.call.to_string();
            let owner = owners.get(&id).and_then(|(_, owner)| *owner);
            let orphan = orphans.contains(&id) || !result.ok && lost_its_instance(result, owner, bots);
            let outcomes = if orphan { &mut report.instance_gone } else { &mut report.outcomes };
            *outcomes.entry(result.outcome.clone()).or_default() += 1;
            report.sent += u64::from(result.sent);
            report.acknowledged += u64::from(result.acknowledged);
            report.retried += u64::from(result.retried);
            let (refused, lost) = (u64::from(result.refused), u64::from(result.lost));
            if orphan {
                report.lost_with_instance += refused + lost;
            } else {
                report.refused += refused;
                report.lost += lost;
                report.ended_early += u64::from(result.ended_early);
                ok &= result.ok;
                if !result.ok {
                    report.problem(&id, format!("{}: {}", result.outcome, result.reason));
                }
            }
            answered.extend(result.answered_ms);
        }
        report.answered = percentiles(answered);
        report.callbacks = callbacks_by_owner(&owners, bots);
        report.ok = ok && report.lost == 0 && report.misrouted.unwrap_or(0) == 0;
        report
    }

    /// Counts the notifications that reached another instance than the owner, by the ledgers of the bots.
    ///
    /// Adds the calls that lost their instance to `orphans`.
    fn compare_with_ledgers(
        &mut self,
        owners: &HashMap<String, (&LoadResult, Option<usize>)>,
        bots: &[BotReport],
        orphans: &mut HashSet<String>,
    ) {
        let (mut misrouted, mut came_twice) = (0, 0);
        let mut received: HashMap<&str, u64> = HashMap::new();
        for (number, bot) in bots.iter().enumerate() {
            if !bot.gone.is_empty() {
                self.gone.push(bot.name.clone());
            }
            let Some(ledger) = &bot.ledger else { continue };
            came_twice += ledger.duplicates;
            for (call, count) in &ledger.strays {
                match owners.get(call) {
                    // The call belongs to another load, or was placed beside it.
                    None => {}
                    // The owner restarted under the same name: the gateway routed correctly. A call without
                    // an answer is treated as one of the instance that accepted it and died.
                    Some((result, owner))
                        if owner.is_none_or(|owner| owner == number) && was_gone(bot, result) =>
                    {
                        orphans.insert(call.clone());
                    }
                    Some(_) => {
                        misrouted += count;
                        self.problem(
                            call,
                            format!(
                                "{count} notifications reached {}, which never received the call",
                                bot.name
                            ),
                        );
                    }
                }
            }
            for (call, count) in &ledger.calls {
                let Some((_, owner)) = owners.get(call) else { continue };
                *received.entry(call).or_default() += 1;
                // A lost response explains that it received the call too, but no later notification was for
                // it.
                if let Some(owner) = owner
                    && *owner != number
                    && *count > 1
                {
                    misrouted += count - 1;
                    self.problem(
                        call,
                        format!(
                            "{} notifications reached {}, which does not own the call",
                            count - 1,
                            bot.name
                        ),
                    );
                }
            }
        }
        self.misrouted = Some(misrouted);
        self.came_twice = Some(came_twice);
        self.handled_twice = Some(received.values().map(|bots| u64::from(*bots > 1)).sum());
    }

    fn problem(&mut self, call: &str, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(LoadProblem { call: call.to_owned(), what });
        }
    }
}

/// Sums up the callbacks of each bot. A bot without callbacks is not in the map.
fn callbacks_by_owner(
    owners: &HashMap<String, (&LoadResult, Option<usize>)>,
    bots: &[BotReport],
) -> BTreeMap<String, OwnerCallbacks> {
    let mut sums: BTreeMap<String, (OwnerCallbacks, Vec<f64>)> = BTreeMap::new();
    for (result, owner) in owners.values() {
        let Some(bot) = owner.and_then(|number| bots.get(number)) else { continue };
        let (sum, times) = sums.entry(bot.name.clone()).or_default();
        for callback in &result.callbacks {
            sum.sent += 1;
            sum.retried += u64::from(callback.retried);
            if callback.acknowledged {
                sum.acknowledged += 1;
                times.push(callback.took_ms);
            }
        }
    }
    let finish = |(sum, times)| OwnerCallbacks { took: percentiles(times), ..sum };
    sums.into_iter().map(|(name, sum)| (name, finish(sum))).collect()
}

/// Returns the bot that a callback URI names: by its name as a segment of the path, or by its host and port.
fn owner(callback_uri: Option<&str>, bots: &[BotReport]) -> Option<usize> {
    let url = Url::parse(callback_uri?).ok()?;
    let named = bots.iter().position(|bot| url.path().contains(&format!("/{}/", bot.name)));
    named.or_else(|| bots.iter().position(|bot| bot.url.origin() == url.origin()))
}

/// Returns true if the instance of a call was gone while the call was alive.
fn lost_its_instance(result: &LoadResult, owner: Option<usize>, bots: &[BotReport]) -> bool {
    if let Some(bot) = owner.and_then(|number| bots.get(number)) {
        return was_gone(bot, result);
    }
    // The call has no answer. If no living instance knows it, the instance that accepted it has died.
    let id = result.call.to_string();
    let known =
        bots.iter().any(|bot| bot.ledger.as_ref().is_some_and(|ledger| ledger.calls.contains_key(&id)));
    result.outcome == "unanswered" && !known && bots.iter().any(|bot| was_gone(bot, result))
}

/// Returns true if a bot was gone while a call was alive.
fn was_gone(bot: &BotReport, call: &LoadResult) -> bool {
    let (from, until) = (call.placed_ms, call.placed_ms + call.took_ms);
    bot.gone.iter().any(|(gone_from, gone_until)| *gone_from <= until && *gone_until >= from)
}

fn percentiles(mut times: Vec<f64>) -> Option<AnswerTimes> {
    times.sort_by(f64::total_cmp);
    let max_ms = *times.last()?;
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied().unwrap_or(max_ms)
    };
    Some(AnswerTimes { p50_ms: at(50), p99_ms: at(99), max_ms })
}

const PROBLEMS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{
        super::{event::CallbackResult, watch::LedgerSummary},
        *,
    };

    fn result(call: u128, outcome: &str, instance: Option<&str>) -> LoadResult {
        let ok = outcome == "completed";
        LoadResult {
            call: Uuid::from_u128(call),
            kind: "p2p".to_owned(),
            outcome: outcome.to_owned(),
            ok,
            reason: "for a reason".to_owned(),
            placed_ms: 1_000.0,
            answered_ms: instance.map(|_| 10.0),
            took_ms: 500.0,
            ended_early: outcome == "lost",
            callback_uri: instance.map(|name| format!("http://gw/api/callbacks/emea/{name}/k.0.m")),
            sent: 5,
            acknowledged: if ok { 5 } else { 4 },
            refused: 0,
            lost: u32::from(!ok),
            retried: 0,
            callbacks: Vec::new(),
        }
    }

    fn bot(name: &str, calls: &[u128], strays: &[u128], gone: &[(f64, f64)]) -> BotReport {
        let count = |ids: &[u128]| ids.iter().map(|id| (Uuid::from_u128(*id).to_string(), 4)).collect();
        BotReport {
            name: name.to_owned(),
            url: Url::parse("http://127.0.0.1:1/").unwrap(),
            ledger: Some(LedgerSummary { calls: count(calls), strays: count(strays), duplicates: 0 }),
            gone: gone.to_vec(),
        }
    }

    #[test]
    fn a_load_is_ok_only_if_nothing_is_lost_or_misrouted() {
        let results = [result(1, "completed", Some("bot-0")), result(2, "completed", Some("bot-1"))];
        let report = LoadReport::new(&results, &[], 1.0);
        assert!(report.ok && report.misrouted.is_none() && report.sent == 10, "{report:?}");

        let bots = [bot("bot-0", &[1], &[], &[]), bot("bot-1", &[2], &[7], &[])];
        let report = LoadReport::new(&results, &bots, 1.0);
        assert!(report.ok && report.misrouted == Some(0), "strays of other calls do not count: {report:?}");

        let bots = [bot("bot-0", &[1], &[2], &[]), bot("bot-1", &[2], &[], &[])];
        let report = LoadReport::new(&results, &bots, 1.0);
        assert_eq!((report.ok, report.misrouted, report.handled_twice), (false, Some(4), Some(0)));

        let bots = [bot("bot-0", &[1, 2], &[], &[]), bot("bot-1", &[2], &[], &[])];
        let report = LoadReport::new(&results, &bots, 1.0);
        assert_eq!((report.ok, report.misrouted, report.handled_twice), (false, Some(3), Some(1)));

        let silent = BotReport { ledger: None, ..bot("bot-1", &[], &[], &[]) };
        let report = LoadReport::new(&results, &[bot("bot-0", &[1], &[], &[]), silent], 1.0);
        assert_eq!((report.ok, report.misrouted, report.handled_twice), (false, None, None));
        assert_eq!(report.problems[0].call, "bot-1");

        let lost = LoadReport::new(&[result(1, "lost", Some("bot-0"))], &[], 1.0);
        assert_eq!((lost.ok, lost.lost, lost.ended_early, lost.problems.len()), (false, 1, 1, 1));
    }

    #[test]
    fn calls_of_an_instance_that_was_gone_are_counted_apart() {
        let results = [
            result(1, "lost", Some("bot-0")),
            result(2, "unanswered", None),
            result(3, "completed", Some("bot-0")),
        ];
        let gone = [bot("bot-0", &[], &[3], &[(1_200.0, 1_900.0)]), bot("bot-1", &[], &[], &[])];
        let report = LoadReport::new(&results, &gone, 1.0);
        assert!(report.ok, "{report:?}");
        assert_eq!((report.lost, report.lost_with_instance, report.misrouted), (0, 2, Some(0)));
        assert_eq!(report.instance_gone.values().sum::<usize>(), 3);
        assert_eq!(report.gone, ["bot-0"]);

        let later = [bot("bot-0", &[], &[], &[(1_600.0, 1_900.0)]), bot("bot-1", &[], &[], &[])];
        let report = LoadReport::new(&results, &later, 1.0);
        assert!(!report.ok && report.lost == 2, "the calls were over before: {report:?}");
        let strays = [bot("bot-0", &[], &[2], &[(1_200.0, 1_900.0)]), bot("bot-1", &[], &[], &[])];
        let report = LoadReport::new(&results, &strays, 1.0);
        assert!(report.ok, "the end of an unanswered call reaches the restarted instance: {report:?}");
        let elsewhere = [bot("bot-0", &[], &[], &[(1_200.0, 1_900.0)]), bot("bot-1", &[], &[2], &[])];
        assert_eq!(LoadReport::new(&results, &elsewhere, 1.0).misrouted, Some(4));
        let known = [bot("bot-0", &[], &[], &[(1_200.0, 1_900.0)]), bot("bot-1", &[2], &[], &[])];
        assert!(!LoadReport::new(&results, &known, 1.0).ok, "a living bot knows the call and did not answer");
    }

    #[test]
    fn callbacks_are_counted_for_their_owner() {
        let callbacks = |times: &[(f64, bool)]| {
            let one = |(took_ms, acknowledged): &(f64, bool)| CallbackResult {
                took_ms: *took_ms,
                retried: u32::from(!acknowledged),
                acknowledged: *acknowledged,
            };
            times.iter().map(one).collect()
        };
        let results = [
            LoadResult {
                callbacks: callbacks(&[(1.0, true), (3.0, true)]),
                ..result(1, "completed", Some("bot-0"))
            },
            LoadResult { callbacks: callbacks(&[(9.0, false)]), ..result(2, "lost", Some("bot-1")) },
            LoadResult { callbacks: callbacks(&[(2.0, true)]), ..result(3, "completed", Some("bot-0")) },
            result(4, "unanswered", None),
        ];
        let bots = [bot("bot-0", &[1, 3], &[], &[]), bot("bot-1", &[2], &[], &[])];
        let callbacks = LoadReport::new(&results, &bots, 1.0).callbacks;
        let took = Some(AnswerTimes { p50_ms: 2.0, p99_ms: 3.0, max_ms: 3.0 });
        assert_eq!(callbacks["bot-0"], OwnerCallbacks { sent: 3, acknowledged: 3, retried: 0, took });
        assert_eq!(callbacks["bot-1"], OwnerCallbacks { sent: 1, acknowledged: 0, retried: 1, took: None });
        assert_eq!(callbacks.len(), 2);
        assert!(LoadReport::new(&results, &[], 1.0).callbacks.is_empty());
    }

    #[test]
    fn percentiles_are_measured_times() {
        let times = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentiles(times), Some(AnswerTimes { p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 }));
        assert_eq!(percentiles(vec![7.0]), Some(AnswerTimes { p50_ms: 7.0, p99_ms: 7.0, max_ms: 7.0 }));
        assert_eq!(percentiles(Vec::new()), None);
    }
}
