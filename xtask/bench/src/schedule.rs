//! The times at which requests are due, at a constant rate.

use std::{thread, time::Duration};

use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

/// A schedule that all connections share.
pub(crate) struct Schedule(Mutex<mpsc::UnboundedReceiver<Instant>>);

impl Schedule {
    /// A schedule of `count` requests, `rate` a second. A thread waits for their times: the timers of tokio
    /// have milliseconds, in which many requests would be due at once.
    pub(crate) fn start(count: usize, rate: u32) -> Self {
        let (due, schedule) = mpsc::unbounded_channel();
        let started = Instant::now();
        thread::spawn(move || {
            for number in (0_u32..).take(count) {
                let time = started + Duration::from_secs(number.into()) / rate;
                sleep_until(time);
                if due.send(time).is_err() {
                    return;
                }
            }
        });
        Self(Mutex::new(schedule))
    }

    /// Waits until the next request is due, and returns the time at which it was. `None` is the end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        self.0.lock().await.recv().await
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread does nothing else")]
fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_due_at_the_rate() {
        let schedule = Schedule::start(3, 1_000);
        let mut times = Vec::new();
        while let Some(time) = schedule.next().await {
            assert!(time <= Instant::now());
            times.push(time);
        }
        let distances: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(distances, [Duration::from_millis(1); 2]);
    }
}
