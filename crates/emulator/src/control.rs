//! The bodies and queries of the control API, and the errors that say what is valid.

mod call;
mod faults;
mod load;
mod step;
mod token;

use uuid::Uuid;

pub(crate) use self::{
    call::{call_to_json, parse_call},
    faults::{faults_explained, faults_to_json, parse_faults},
    load::{load_to_json, parse_load},
    step::parse_step,
    token::{parse_rotation, parse_token},
};

/// A request to the control API is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidControlRequest {
    #[error("the body must be JSON like {like}: {}", plain(.error))]
    Body {
        error: serde_json::Error,
        /// A valid body.
        like: &'static str,
    },
    #[error("{name}: {why}")]
    Member { name: &'static str, why: String },
    #[error("{0}")]
    Query(&'static str),
    #[error("{0}")]
    Faults(String),
}

/// Returns the error in terms of JSON, not of Rust.
fn plain(error: &serde_json::Error) -> String {
    error.to_string().replace("expected u32", "expected a whole number")
}

impl InvalidControlRequest {
    /// Returns the error of a body that is not JSON or lacks a member.
    fn body(like: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| Self::Body { error, like }
    }

    fn member(name: &'static str, why: &(impl ToString + ?Sized)) -> Self {
        Self::Member { name, why: why.to_string() }
    }
}

/// Returns the app id of a request, or the default one.
fn app(text: Option<&str>, default: Option<Uuid>) -> Result<Uuid, InvalidControlRequest> {
    match text {
        Some(text) => guid("app", text),
        None => default.ok_or_else(|| {
            InvalidControlRequest::member(
                "app",
                "an app id is needed, here or as --app-id at the start of the platform",
            )
        }),
    }
}

fn guid(name: &'static str, text: &str) -> Result<Uuid, InvalidControlRequest> {
    // The parser also accepts braces and urn:uuid:, which no token contains.
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }.ok_or_else(|| {
        InvalidControlRequest::member(name, "not a GUID like 0efc74f7-41c3-47a4-8775-7259bfef4241")
    })
}
