//! The times of the steps, as a table at the end of the gate.

use std::time::Duration;

/// One row per step, in their order.
#[derive(Debug, Default)]
pub(super) struct Times {
    rows: Vec<(&'static str, Result<Duration, &'static str>)>,
}

impl Times {
    /// Adds a step that ran.
    pub(super) fn add(&mut self, step: &'static str, took: Duration) {
        self.rows.push((step, Ok(took)));
    }

    /// Adds a step that did not run, with the reason.
    pub(super) fn leave_out(&mut self, step: &'static str, reason: &'static str) {
        self.rows.push((step, Err(reason)));
    }

    /// The lines of the table. `whole` is the time of the gate.
    pub(super) fn table(&self, whole: Duration) -> Vec<String> {
        let rows = self.rows.iter().map(|(step, took)| match took {
            Ok(took) => row(step, *took),
            Err(reason) => format!("{step:<18}  left out: {reason}"),
        });
        rows.chain([row("all", whole)]).collect()
    }
}

fn row(step: &str, took: Duration) -> String {
    format!("{step:<18}{:>9}", seconds(took))
}

/// A time with one decimal place.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_step() {
        let mut times = Times::default();
        times.add("format", Duration::from_millis(960));
        times.add("tests", Duration::from_millis(1_306_040));
        times.leave_out("dependencies", "cargo-deny is not installed");
        assert_eq!(
            times.table(Duration::from_secs(1_400)),
            [
                "format                1.0 s",
                "tests              1306.0 s",
                "dependencies        left out: cargo-deny is not installed",
                "all                1400.0 s",
            ]
        );
    }
}
