//! The steps of the control API. Each one waits for the steps before it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::script::{ScriptAction, ScriptStep};

/// The steps that wait, in the order of their arrival, each with its time.
#[derive(Debug, Default)]
pub(super) struct Steps {
    waiting: VecDeque<(Instant, ScriptStep)>,
    /// The time from which the next step may be played, if one came before it.
    next_from: Option<Instant>,
}

impl Steps {
    /// Adds a step; false if too many wait.
    pub(super) fn add(&mut self, step: ScriptStep) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        let now = Instant::now();
        let at = self.next_from.map_or(now, |from| from.max(now)) + step.after;
        let ScriptAction::Wait(duration) = step.action else {
            self.next_from = Some(at);
            self.waiting.push_back((at, step));
            return true;
        };
        // A sum of waits stays far below the range of an `Instant`.
        self.next_from = Some((at + duration).min(now + WAIT_MAX));
        true
    }

    /// Returns the time of the next step.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(at, _)| *at)
    }

    /// Takes the next step if its time has come.
    pub(super) fn take_due(&mut self) -> Option<ScriptStep> {
        self.next_due().filter(|at| *at <= Instant::now())?;
        self.waiting.pop_front().map(|(_, step)| step)
    }
}

const WAITING_MAX: usize = 32;
/// No call lasts longer.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn step(number: usize, after_s: u64, action: ScriptAction) -> ScriptStep {
        ScriptStep { number, after: Duration::from_secs(after_s), action, expect: None }
    }

    fn due(steps: &mut Steps) -> Vec<usize> {
        std::iter::from_fn(|| steps.take_due()).map(|step| step.number).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_waits_for_the_ones_before_it() {
        let mut steps = Steps::default();
        for added in [
            step(1, 0, ScriptAction::Hold),
            step(0, 0, ScriptAction::Wait(Duration::from_secs(2))),
            step(2, 0, ScriptAction::Resume),
            step(3, 1, ScriptAction::Hold),
            step(4, 0, ScriptAction::Resume),
        ] {
            assert!(steps.add(added));
        }
        for (seconds, expected) in [(0, vec![1]), (1, vec![]), (1, vec![2]), (1, vec![3, 4])] {
            advance(Duration::from_secs(seconds)).await;
            assert_eq!(due(&mut steps), expected);
        }
        assert!(steps.add(step(5, 0, ScriptAction::Hold)));
        assert_eq!(due(&mut steps), [5], "the pause is over");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_steps_wait_and_only_so_long() {
        let mut steps = Steps::default();
        for _ in 0..10_000 {
            assert!(steps.add(step(0, 0, ScriptAction::Wait(Duration::from_secs(24 * 60 * 60)))));
        }
        for number in 1..=32 {
            assert!(steps.add(step(number, 0, ScriptAction::Hold)));
        }
        assert!(!steps.add(step(33, 0, ScriptAction::Hold)));
        advance(WAIT_MAX).await;
        assert_eq!(due(&mut steps).len(), 32);
    }
}
