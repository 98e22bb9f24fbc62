//! What the calling platform posts, as types: a legacy body, or Graph items and the call each is about.
//!
//! It does no IO, knows neither HTTP nor tokens nor time, and never looks at who sent a body: whoever calls it has
//! authenticated the sender before.
//!
//! ```
//! use switchboard_notification::{Envelope, ItemKind};
//!
//! let body = br##"{"value":[{"changeType":"Created","resourceUrl":"/communications/calls/6d1c0b00-77a3",
//!     "resourceData":{"@odata.type":"#microsoft.graph.call","state":"Incoming","source":{"region":"emea"}}}]}"##;
//!
//! let Envelope::Graph(notifications) = Envelope::parse(body)? else { return Ok(()) };
//! let item = &notifications.items[0];
//! assert_eq!(item.kind(), ItemKind::IncomingCall);
//! assert_eq!(item.call_id().map(|id| id.as_str()), Some("6d1c0b00-77a3"));
//! assert_eq!(item.new_call().and_then(|call| call.source_region.as_deref()), Some("emea"));
//! # Ok::<(), switchboard_notification::InvalidNotification>(())
//! ```
//!
//! The rules, all of them with tests:
//!
//! - Members are read by their exact name, the values of enumerations without regard to ASCII case. What this version
//!   does not know is kept (`Other`) or ignored, never refused.
//! - An optional member of the wrong type counts as absent. A notification is lost only when it cannot be routed.
//! - A member that decides what a body is or where an item goes (`value`, `changeType`, `resource`, `resourceUrl`,
//!   `resourceData`, and what tells a legacy body) may appear once: two readers of one body must not disagree on it.
//!   Of other members that appear twice, the last one counts.
//! - Memory is bounded by the body: text is borrowed unless it has escapes, lists are counted or cut.
//!
//! Text in the types is the sender's, and only [`CallId`], the labels and [`InvalidNotification`] are safe in a header or a log as
//! they are.
//!
//! Reading order: `envelope`, `notifications`, `item`, `resource`, `data`, `call`; `preflight` and `json` are how.

mod envelope;
mod notifications;

mod item;
mod resource;

mod call;
mod data;
mod id;
mod result_info;

mod error;
mod json;
mod preflight;

#[cfg(test)]
mod tests;

pub use crate::{
    call::{Call, CallState, Modality},
    data::{Data, Operation},
    envelope::{Envelope, Legacy, LegacyKind},
    error::{ErrorCode, InvalidNotification},
    id::{CallId, InvalidCallId},
    item::{ChangeType, Item, ItemKind},
    notifications::Notifications,
    resource::{Resource, ResourcePart},
    result_info::ResultInfo,
};
