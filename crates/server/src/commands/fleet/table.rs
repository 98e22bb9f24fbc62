//! The fleet as a table for people.

use super::instance::{FleetInstance, counted, duration};
use crate::commands::output::{DIM, GREEN, RED, YELLOW, coloured, plain};

/// Writes one line for each instance, and one for all of them.
pub(super) fn table(fleet: &[FleetInstance], is_coloured: bool) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(fleet.iter().map(row));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            if column > 0 {
                line.push_str("  ");
            }
            // Numbers align to the right, words to the left.
            if NUMBERS.contains(&column) {
                line.push_str(&padding);
                line.push_str(cell);
            } else if is_coloured && index > 0 && column == STATE {
                line.push_str(&coloured(cell, colour(cell)));
                line.push_str(&padding);
            } else {
                line.push_str(cell);
                line.push_str(&padding);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&summary(fleet));
    text
}

fn row(instance: &FleetInstance) -> [String; HEAD.len()] {
    let calls = match (instance.calls, instance.capacity) {
        (Some(calls), Some(capacity)) => format!("{calls}/{capacity}"),
        (Some(calls), None) => calls.to_string(),
        (None, Some(capacity)) => format!("{UNKNOWN}/{capacity}"),
        (None, None) => UNKNOWN.to_owned(),
    };
    [
        plain(&instance.name),
        plain(&instance.state),
        duration(instance.since_ms),
        calls,
        instance.calls_counted.to_string(),
        instance.in_flight.to_string(),
        instance.placed.to_string(),
        instance.callbacks.to_string(),
        instance.failures.values().fold(0, |sum: u64, count| sum.saturating_add(*count)).to_string(),
        instance.last_probe_ms.map_or_else(|| UNKNOWN.to_owned(), duration),
        plain(&instance.reason),
    ]
}

fn summary(fleet: &[FleetInstance]) -> String {
    let mut states: Vec<(&str, u64)> = Vec::new();
    for instance in fleet {
        match states.iter_mut().find(|(state, _)| *state == instance.state) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => states.push((&instance.state, 1)),
        }
    }
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {}", plain(state))).collect();
    let calls = fleet.iter().filter_map(|instance| instance.calls).fold(0, u64::saturating_add);
    let count = counted(u64::try_from(fleet.len()).unwrap_or(u64::MAX), "instance");
    if states.is_empty() {
        count
    } else {
        format!("{count}: {}; {}", states.join(", "), counted(calls, "call"))
    }
}

/// The colour of a state. States on which gateways disagree need attention.
fn colour(state: &str) -> u8 {
    match state {
        "ready" => GREEN,
        "ejected" | "unreachable" => RED,
        "gone" => DIM,
        _ => YELLOW,
    }
}

const HEAD: [&str; 11] = [
    "instance",
    "state",
    "since",
    "calls",
    "counted",
    "in flight",
    "placed",
    "callbacks",
    "failures",
    "probed",
    "reason",
];
/// The column of the state.
const STATE: usize = 1;
/// The columns of numbers.
const NUMBERS: [usize; 6] = [3, 4, 5, 6, 7, 8];
const UNKNOWN: &str = "-";
