//! Rotation of the issuers' keys: on request, and by itself.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use openssl::error::ErrorStack;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    context::Context,
    keys::{AnnounceError, Issuer, SigningKey},
};

/// Rotation of the keys of both issuers by itself, with an overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The time between two new keys.
    pub every: Duration,
    /// The time that a key is published before it signs.
    pub publish_before: Duration,
}

impl Rotation {
    /// Returns true if keys start to sign as fast as they are published.
    pub(crate) fn fits(self) -> bool {
        self.every >= ROTATION_TIME_MIN && self.publish_before <= self.every * ROTATIONS_AHEAD_MAX
    }
}

/// A request to rotate the key of one issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RotationRequest {
    pub(crate) issuer: Issuer,
    /// If false, the earlier keys are withdrawn at once.
    pub(crate) overlap: bool,
    /// The time that the new key is published before it signs.
    pub(crate) publish_before: Duration,
}

/// The reason why a key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Too many published keys do not sign yet.
    #[error(transparent)]
    TooManyUpcoming(#[from] AnnounceError),
    /// OpenSSL refuses.
    #[error("openssl failed: {0}")]
    Crypto(ErrorStack),
}

impl RotateError {
    /// Returns a stable name for logs and responses.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooManyUpcoming(_) => "too_many_upcoming",
            Self::Crypto(_) => "crypto",
        }
    }
}

/// Makes a new key for an issuer, publishes it, and returns its id.
pub(crate) async fn rotate(context: &Context, request: RotationRequest) -> Result<String, RotateError> {
    let RotationRequest { issuer, overlap, publish_before } = request;
    let withdrawn = context.keys().ring_mut(issuer).take_withdrawn();
    let key = run_blocking(move || match withdrawn {
        Some(withdrawn) => withdrawn.renewed("rotated.example"),
        None => SigningKey::generate("rotated.example"),
    })
    .await
    .map_err(RotateError::Crypto)?;
    let kid = key.kid().to_owned();
    if publish_before.is_zero() {
        context.keys().ring_mut(issuer).rotate(key, overlap);
    } else {
        context.keys().ring_mut(issuer).announce(key, overlap, Instant::now() + publish_before)?;
    }
    Ok(kid)
}

/// Rotates the keys of both issuers until the platform is dropped.
pub(crate) async fn rotate_repeatedly(context: Weak<Context>, rotation: Rotation) {
    let mut ticks = interval(rotation.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(context): Option<Arc<Context>> = context.upgrade() else { return };
        for &issuer in &Issuer::ALL {
            let request = RotationRequest { issuer, overlap: true, publish_before: rotation.publish_before };
            // After an error the current keys go on signing; the next tick rotates again.
            let _ = rotate(&context, request).await;
        }
    }
}

/// Runs work that takes a moment of CPU outside the runtime.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorStack> + Send + 'static,
) -> Result<T, ErrorStack> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The work does not panic and is not aborted. A runtime that shuts down ends here, with an empty
        // error.
        Err(_) => Err(ErrorStack::get()),
    }
}

/// To make and publish a key for each issuer takes a few milliseconds.
const ROTATION_TIME_MIN: Duration = Duration::from_millis(100);

/// Fewer than a ring can hold.
pub(crate) const ROTATIONS_AHEAD_MAX: u32 = 30;
