//! `Redirect`: how a bot redirects a call (Microsoft Graph REST reference, "call: redirect").

use super::{error::InvalidAction, target::RedirectTarget};

/// The redirection of a call (Microsoft Graph REST reference, "call: redirect").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub(crate) targets: Vec<RedirectTarget>,
    pub(crate) timeout_seconds: u8,
    pub(crate) mask_callee: Option<bool>,
    pub(crate) mask_caller: Option<bool>,
}

impl Redirect {
    /// Rings 1 to 25 `targets` at once. The first target that answers gets the call. One target rings for 55
    /// seconds, several ring for 60: these are the documented defaults.
    ///
    /// # Errors
    ///
    /// There is no target, or there are more than 25.
    pub fn new(targets: Vec<RedirectTarget>) -> Result<Self, InvalidAction> {
        let timeout_seconds = match targets.len() {
            0 => return Err(InvalidAction::value("targets", TARGETS_MUST)),
            1 => 55,
            2..=TARGETS_MAX => 60,
            _ => return Err(InvalidAction::value("targets", TARGETS_MUST)),
        };
        Ok(Self { targets, timeout_seconds, mask_callee: None, mask_caller: None })
    }

    /// Sets the time that the targets ring: 15 to 90 seconds.
    ///
    /// # Errors
    ///
    /// `seconds` is out of range.
    pub fn with_timeout(self, seconds: u8) -> Result<Self, InvalidAction> {
        if !(15..=90).contains(&seconds) {
            return Err(InvalidAction::value("timeout", TIMEOUT_MUST));
        }
        Ok(Self { timeout_seconds: seconds, ..self })
    }

    /// Hides the callee from the caller if `mask` is true.
    pub fn with_mask_callee(self, mask: bool) -> Self {
        Self { mask_callee: Some(mask), ..self }
    }

    /// Hides the caller from the callee if `mask` is true.
    pub fn with_mask_caller(self, mask: bool) -> Self {
        Self { mask_caller: Some(mask), ..self }
    }
}

pub(super) const TARGETS_MUST: &str = "must be an array of 1 to 25 targets";
pub(super) const TIMEOUT_MUST: &str = "must be a whole number of seconds from 15 to 90";

/// "We support up to 25 targets for simulring" (call: redirect).
const TARGETS_MAX: usize = 25;
