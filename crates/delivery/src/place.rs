//! Placing a new call: candidates in the order of their rank, until one accepts or the limits are reached.

mod asked;
mod attempt;
mod call;
mod error;
mod limits;
mod open_attempts;
mod race;
mod retry_budget;
mod state;
mod wait;

use switchboard_routing::AffinityKey;
use tokio::time::Instant;

pub(crate) use self::state::PlacementState;
use self::{
    call::{Call, PlaceProgress},
    race::Race,
    wait::Wait,
};
pub use self::{error::PlaceError, limits::PlacementLimits, state::PlacementCounters};
use crate::{connections::Connections, delivery::Delivery, outbound::Outbound, response::UpstreamResponse};

impl Delivery {
    /// Places a new call at one instance: asks candidates in the order of `key`, until the end of the budget.
    ///
    /// The call goes to the next candidate if one cannot be reached, or responds with 401, 403, 429, 502,
    /// 503, 504, 3xx or invalid HTTP. If a candidate has not responded within its share of the budget, the
    /// next one is asked beside it (a hedge), and the first acceptance wins. Any other response, also a 500,
    /// is returned, unless another candidate that was already asked accepts. So is a 403, if every candidate
    /// responds with it.
    ///
    /// A call has at most five attempts. Hedges and further attempts also need the retry budget, which all
    /// calls share. If no instance can be asked, the call waits for one, at most 1.2 s.
    ///
    /// # Errors
    ///
    /// No instance can take a call, or every instance that was asked declined it or failed.
    pub async fn place(
        &self,
        connections: &Connections,
        notification: &Outbound,
        key: AffinityKey,
        limits: PlacementLimits,
    ) -> Result<UpstreamResponse, PlaceError> {
        if !self.is_known() {
            return Err(PlaceError::FleetUnknown);
        }
        self.placement.count_call(Instant::now());
        let call = Call {
            delivery: self,
            connections,
            notification,
            key,
            end: notification.arrived + limits.budget,
            outcome_unknown_max: limits.outcome_unknown_max,
            written: &Default::default(),
        };
        let (mut progress, mut wait) = (PlaceProgress::default(), Wait::default());
        loop {
            let fleet = self.fleet.load_full();
            let mut race = Race::new(&call, &fleet, progress);
            if let Some(response) = race.run().await {
                return Ok(response);
            }
            progress = race.progress;
            // If every attempt failed before a byte was written, an instance may just be restarting.
            if progress.any_written || !Box::pin(wait.for_eligible(&call, &progress)).await {
                return Err(self.place_error(&call, &progress, &wait));
            }
        }
    }

    /// The counters of placement since the start.
    pub fn placement_counters(&self) -> PlacementCounters {
        self.placement.counters()
    }

    /// The error of a call that no instance took.
    fn place_error(&self, call: &Call<'_>, progress: &PlaceProgress, wait: &Wait) -> PlaceError {
        let PlaceProgress { attempts, outcome_unknown, last, any_written, .. } = *progress;
        let last = last.label();
        if progress.is_declined() {
            return PlaceError::AllDeclined { attempts, last };
        }
        let all_failed = PlaceError::AllFailed { attempts, outcome_unknown, last };
        let now = Instant::now();
        let has_no_time = attempts == 0 && now >= call.end;
        if any_written || progress.is_exhausted() || has_no_time {
            return all_failed;
        }
        let app = call.notification.app;
        let seen = wait.seen.unwrap_or_else(|| self.fleet.load().availability(app, now));
        // An instance that was asked in vain cannot be reached. Neither can one that is still starting after
        // the wait.
        let last_resort = if attempts == 0 { seen.last_resort } else { 0 };
        let starting = if wait.is_over { 0 } else { seen.starting };
        if seen.busy > 0 && seen.eligible + last_resort + starting == 0 {
            PlaceError::Full
        } else if attempts > 0 {
            all_failed
        } else if seen.serving == 0 {
            PlaceError::NoInstance
        } else {
            PlaceError::NoneReachable
        }
    }
}

#[cfg(test)]
mod tests;
