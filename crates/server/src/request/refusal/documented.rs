//! `docs/outcomes.md` has a row for every outcome and every reason, and no other row.

use std::collections::{BTreeMap, BTreeSet};

use switchboard_auth::{Forbidden, Rejection};
use switchboard_notification::ErrorCode;
use switchboard_routing::SealError;

use crate::request::{outcome::Outcome, reason::Reason};

const DOCUMENT: &str = include_str!("../../../../../docs/outcomes.md");

/// Returns the rows of all tables of a part of the document, with the names in their first columns and the
/// other cells. `names` is the number of columns with names.
fn rows(
    part: &'static str,
    names: impl Fn(usize) -> usize,
) -> Vec<(Vec<BTreeSet<&'static str>>, Vec<&'static str>)> {
    let cells = |line: &'static str| {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(cells.split(" | ").map(str::trim).collect::<Vec<_>>())
    };
    let table = part.lines().filter(|line| line.starts_with("| `")).filter_map(cells);
    table
        .map(|cells| {
            let (named, others) = cells.split_at(names(cells.len()));
            let names_of = |cell: &&'static str| cell.split('`').skip(1).step_by(2).collect();
            (named.iter().map(names_of).collect(), others.to_vec())
        })
        .collect()
}

fn parts() -> (&'static str, &'static str) {
    let (outcomes, reasons) = DOCUMENT.split_once("\n## Reasons\n").unwrap();
    (outcomes, reasons)
}

#[test]
fn every_outcome_says_what_the_sender_and_the_operator_see_and_what_to_do() {
    let mut rows: BTreeMap<_, _> = rows(parts().0, |_| 1)
        .into_iter()
        .map(|(mut names, cells)| (names.remove(0).pop_first().unwrap(), cells))
        .collect();
    for outcome in Outcome::ALL {
        let cells = rows.remove(outcome.label()).unwrap_or_else(|| panic!("no row for {}", outcome.label()));
        let [meaning, sender, operator, action] = cells[..] else { panic!("{}: {cells:?}", outcome.label()) };
        assert!([meaning, sender, operator, action].iter().all(|cell| !cell.is_empty()), "{cells:?}");
        let status = outcome.refusal_status();
        // No outcome of a request that was not refused has a status of its own there.
        let is_refusal = status.as_u16() != 500 || matches!(outcome, Outcome::BadAction | Outcome::Panicked);
        if is_refusal && outcome != Outcome::ClientGone {
            assert!(sender.starts_with(status.as_str()), "{}: {sender}", outcome.label());
        }
    }
    assert!(rows.is_empty(), "rows of no outcome: {rows:?}");
}

#[test]
fn every_reason_says_what_it_means_and_what_to_do() {
    let mut documented: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (mut names, cells) in rows(parts().1, |cells| cells - 2) {
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{names:?}: {cells:?}");
        let reasons = names.pop().unwrap();
        let outcomes = names.pop().unwrap_or_default();
        for reason in reasons {
            documented.entry(reason).or_default().extend(&outcomes);
        }
    }
    let of_others = Rejection::LABELS
        .iter()
        .chain(Forbidden::LABELS)
        .copied()
        .chain(ErrorCode::ALL.iter().map(|code| code.label()))
        .chain([SealError::UnknownKey, SealError::Mismatch].map(SealError::label))
        .chain(switchboard_delivery::attempt_failures())
        .chain(["keys_unavailable", "key_not_fetched", "full", "none_reachable"]);
    let expected: BTreeSet<_> = of_others.chain(Reason::ALL.iter().map(|reason| reason.label())).collect();
    assert_eq!(documented.keys().copied().collect::<BTreeSet<_>>(), expected);
    // Where a table has a column of outcomes, it is the right one.
    for reason in Reason::ALL {
        let outcomes = &documented[reason.label()];
        assert!(
            outcomes.is_empty() || outcomes.contains(reason.outcome().label()),
            "{reason:?}: {outcomes:?}"
        );
    }
}
