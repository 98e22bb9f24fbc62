//! The members that DNS describes.

use switchboard_routing::Name;

use crate::{
    discovery::source::{INSTANCES_MAX, SourceError},
    member::{Member, SourceState},
    upstream_url::UpstreamUrl,
};

/// The instance at a URL that was found.
pub(super) fn member(name: Name, url: UpstreamUrl, weight: u32) -> Member {
    Member {
        name,
        incarnation: Member::no_incarnation(),
        new_calls: url.clone(),
        callbacks: url,
        apps: None,
        weight,
        source_state: SourceState::Ready,
    }
}

/// Checks the number of instances in a response.
pub(super) fn check_count(count: usize) -> Result<(), SourceError> {
    match count {
        0 => Err(SourceError::Empty),
        1..=INSTANCES_MAX => Ok(()),
        _ => Err(SourceError::TooMany { count }),
    }
}
