//! Notifications to the callbackUri of an answered call, each with the status that the bot must respond.

use serde_json::Value;
use url::Url;

use super::{
    conclusion::Conclusion,
    message::{Delivered, Stage},
    posting::Player,
};
use crate::{call::CallOutcome, script::ExpectedStatus};

/// The callbackUri of an answered call.
pub(super) struct Callbacks<'a, 'b> {
    pub(super) player: &'a Player<'b>,
    pub(super) to: &'a Url,
}

/// The number of a script's step (0 for one of the control API), and the status that it expects.
pub(super) type Expectation = (usize, ExpectedStatus);

impl Callbacks<'_, '_> {
    /// Posts a notification. A status other than 2xx ends the call.
    pub(super) async fn notify(&self, what: &str, body: &Value) -> Result<(), Conclusion> {
        self.post(what, body, None).await.map(drop)
    }

    /// Posts the notification of a script's step. A status other than the expected one ends the call.
    pub(super) async fn notify_expecting(
        &self,
        what: &str,
        body: &Value,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        self.post(what, body, expect).await.map(drop)
    }

    /// Posts a notification and returns the response.
    pub(super) async fn post(
        &self,
        what: &str,
        body: &Value,
        expect: Option<Expectation>,
    ) -> Result<Delivered, Conclusion> {
        let result = self.player.deliver(what, self.to, body, Stage::Later).await;
        let status = result.as_ref().map_or_else(|error| error.status, |response| Some(response.status));
        if let (Some((number, expect)), Some(status)) = (expect, status) {
            if expect.holds(status) {
                let body = result.map(|response| response.body).unwrap_or_default();
                return Ok(Delivered { status, body });
            }
            let step = if number == 0 {
                "the step of the control API".to_owned()
            } else {
                format!("step {number} of the script")
            };
            let reason = format!("{step} expects {expect}, but the response to {what} was {status}");
            return Err(Conclusion {
                status: Some(status),
                ..Conclusion::new(CallOutcome::Unexpected, reason)
            });
        }
        let reason = match result {
            Ok(response) if response.status.is_success() => return Ok(response),
            Ok(response) => format!("{what} was not acknowledged: {}", response.status),
            Err(error) => format!("{what} was not acknowledged: {}", error.reason),
        };
        Err(Conclusion { status, ..Conclusion::new(CallOutcome::Lost, reason) })
    }

    /// Adds a line to the timeline that is not a request.
    pub(super) fn say(&self, what: &str, note: &str) {
        self.player.say(what, self.to, note);
    }
}
