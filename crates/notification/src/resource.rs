//! `Resource`: which call a path is about, and what of it.

use std::borrow::Cow;

use crate::id::{CallId, InvalidCallId};

/// A path below a call: `/communications/calls/{id}/…` or the older `/app/calls/{id}/…`.
#[derive(Debug)]
pub struct Resource<'a> {
    /// The call.
    pub call_id: CallId<'a>,
    /// What of it.
    pub part: ResourcePart,
}

impl<'a> Resource<'a> {
    /// Reads `^/?(app|communications)/calls/{id}(/…)?$`, without regard to ASCII case. One published path lacks the
    /// leading slash. `None`: not about a call.
    pub(crate) fn parse(path: Cow<'a, str>) -> Result<Option<Self>, InvalidCallId> {
        match path {
            Cow::Borrowed(path) => Self::split(path),
            Cow::Owned(path) => {
                let resource = Resource::split(&path)?;
                Ok(resource
                    .map(|Resource { call_id, part }| Resource { call_id: call_id.into_owned(), part }))
            }
        }
    }

    fn split(path: &'a str) -> Result<Option<Self>, InvalidCallId> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
        let mut next = || segments.next().unwrap_or_default();
        let (root, calls, call_id, part) = (next(), next(), next(), next());

        let is_root = root.eq_ignore_ascii_case("communications") || root.eq_ignore_ascii_case("app");
        if !is_root || !calls.eq_ignore_ascii_case("calls") || call_id.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { call_id: CallId::parse(call_id)?, part: ResourcePart::of(part) }))
    }
}

/// Which part of a call a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourcePart {
    /// The call itself.
    Call,
    /// `/participants` and one of them.
    Participants,
    /// `/operations` and one of them.
    Operations,
    /// `/contentsharingsessions` and one of them.
    ContentSharingSessions,
    /// Anything else.
    Other,
}

impl ResourcePart {
    fn of(segment: &str) -> Self {
        match segment {
            "" => Self::Call,
            _ if segment.eq_ignore_ascii_case("participants") => Self::Participants,
            _ if segment.eq_ignore_ascii_case("operations") => Self::Operations,
            _ if segment.eq_ignore_ascii_case("contentsharingsessions") => Self::ContentSharingSessions,
            _ => Self::Other,
        }
    }
}
