//! `Resource`: the call that a path is about, and the part of it.

use std::borrow::Cow;

use crate::id::{CallId, InvalidCallId};

/// A path below a call: `/communications/calls/{id}/…` or the older `/app/calls/{id}/…`.
#[derive(Debug)]
pub struct Resource<'a> {
    /// The id of the call.
    pub call_id: CallId<'a>,
    /// The part of the call.
    pub part: ResourcePart,
}

impl<'a> Resource<'a> {
    /// Parses `^/?(app|communications)/calls/{id}(/…)?$`, without regard to ASCII case. One published path
    /// lacks the leading slash. `None` if the path is not about a call.
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
        let end = path.bytes().position(|byte| matches!(byte, b'?' | b'#'));
        let path = path.get(..end.unwrap_or(path.len())).unwrap_or_default();
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

/// The part of a call that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourcePart {
    /// The call itself.
    Call,
    /// `/participants`, or one of them.
    Participants,
    /// `/operations`, or one of them.
    Operations,
    /// `/contentsharingsessions`, or one of them.
    ContentSharingSessions,
    /// Another part.
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
