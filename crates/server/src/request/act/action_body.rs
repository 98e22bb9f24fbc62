//! The body of an action, limited in size and time.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use switchboard_delivery::{UpstreamBody, UpstreamBodyError};
use tokio::time::{Instant, timeout_at};

/// Reads the whole body of an action.
pub(super) async fn read(body: UpstreamBody, until: Instant) -> Result<Bytes, ActionBodyError> {
    let collected = timeout_at(until, Limited::new(body, ACTION_BYTES_MAX).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ActionBodyError::TooLarge),
        Ok(Err(error)) => match error.downcast_ref() {
            Some(UpstreamBodyError::TooSlow) => Err(ActionBodyError::TooSlow),
            Some(UpstreamBodyError::TooLarge { .. }) => Err(ActionBodyError::TooLarge),
            Some(UpstreamBodyError::CutOff) | None => Err(ActionBodyError::BrokenOff),
        },
        Err(_) => Err(ActionBodyError::TooSlow),
    }
}

/// An action whose body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ActionBodyError {
    #[error("the action has more than {ACTION_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the action was not complete in time")]
    TooSlow,
    #[error("the action broke off")]
    BrokenOff,
}

impl ActionBodyError {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "action_too_large",
            Self::TooSlow => "action_too_slow",
            Self::BrokenOff => "action_broken_off",
        }
    }
}

/// The largest action. One with a media blob has a few kilobytes.
const ACTION_BYTES_MAX: usize = 64 * 1024;
