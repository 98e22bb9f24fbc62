//! The query of `/events`: the topic of a stream, and its filters.

use http::StatusCode;
use url::form_urlencoded;

use super::request_events::RequestFilter;
use crate::{admin::error::AdminError, request::outcome::Outcome};

/// The events that a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EventQuery {
    /// The log lines of requests.
    Requests(RequestFilter),
    /// The state of the gateway.
    Overview,
}

impl EventQuery {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, AdminError> {
        let (mut topic, mut filter) = (None, RequestFilter::default());
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let is_first = match &*name {
                "topics" => topic.replace(value).is_none(),
                "call" => filter.call.replace(value.into_owned()).is_none(),
                "outcome" => {
                    filter.outcomes.push(outcome(&value)?);
                    true
                }
                _ => return Err(bad("bad_parameter", "the parameters are topics, call and outcome")),
            };
            if !is_first {
                return Err(bad("bad_parameter", "only outcome may occur more than once"));
            }
        }
        match topic.as_deref() {
            None | Some("requests") => Ok(Self::Requests(filter)),
            Some("overview") if filter == RequestFilter::default() => Ok(Self::Overview),
            Some("overview") => {
                Err(bad("bad_parameter", "call and outcome apply to the topic requests only; leave them out"))
            }
            Some(_) => Err(bad(
                "bad_topic",
                "the topics are requests and overview: a stream has one of them, requests by default",
            )),
        }
    }
}

fn outcome(label: &str) -> Result<Outcome, AdminError> {
    Outcome::ALL.into_iter().find(|outcome| outcome.label() == label).ok_or_else(|| {
        let labels: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        bad("bad_outcome", format!("the outcomes are {}", labels.join(", ")))
    })
}

fn bad(code: &'static str, message: impl Into<std::borrow::Cow<'static, str>>) -> AdminError {
    AdminError::new(StatusCode::BAD_REQUEST, code, message)
}
