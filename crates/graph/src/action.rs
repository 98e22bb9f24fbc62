//! `Action`: what a bot wants done with a new call, from its reply or from code. `InCallAction`: what it
//! wants done in an established one.

mod answer;
mod error;
mod in_call;
mod json;
mod read;
mod read_in_call;
mod redirect;
mod reject;
mod target;

pub use self::{
    answer::{Answer, CallOptions, GraphModality, MediaConfig, Prompt},
    error::InvalidAction,
    in_call::{InCallAction, InCallActionKind},
    redirect::Redirect,
    reject::{Reject, RejectReason},
    target::{RedirectTarget, RedirectTargetKind},
};

/// An action on a new call. A bot sends it in its reply as [`ACTION_CONTENT_TYPE`]. docs/actions.md shows
/// every member, and docs/action.schema.json is its JSON Schema.
///
/// ```
/// use switchboard_graph::{Action, RejectReason};
///
/// let action = Action::parse(br#"{"action":"reject","reason":"busy"}"#)?;
/// let Action::Reject(reject) = &action else { panic!("not a rejection") };
/// assert_eq!(reject.reason, RejectReason::Busy);
///
/// let error = Action::parse(br#"{"action":"reject","raeson":"busy"}"#).unwrap_err();
/// assert_eq!(error.to_string(), "raeson is unknown; known here are action, reason");
/// # Ok::<(), switchboard_graph::InvalidAction>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer the call.
    Answer(Answer),
    /// Reject the call.
    Reject(Reject),
    /// Redirect the caller to another target.
    Redirect(Redirect),
}

/// The media type of an action.
pub const ACTION_CONTENT_TYPE: &str = "application/vnd.switchboard.action+json";

impl Action {
    /// Returns `answer`, `reject` or `redirect`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::Reject(_) => "reject",
            Self::Redirect(_) => "redirect",
        }
    }
}
