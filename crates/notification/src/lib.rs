//! The bodies that the calling platform posts, as types: a legacy body, or Graph items and the calls that
//! they are about.
//!
//! It does no IO. It knows neither HTTP nor tokens nor time, and it never looks at the sender of a body:
//! authenticate the sender first.
//!
//! ```
//! use switchboard_notification::{Envelope, ItemKind};
//!
//! let body = br##"{"value":[{"changeType":"Created","resourceUrl":"/communications/calls/6d1c0b00-77a3",
//!     "resourceData":{
//!         "@odata.type":"#microsoft.graph.call","state":"Incoming","source":{"region":"emea"}}}]}"##;
//!
//! let Envelope::Graph(notifications) = Envelope::parse(body)? else { return Ok(()) };
//! let item = &notifications.items[0];
//! assert_eq!(item.kind(), ItemKind::IncomingCall);
//! assert_eq!(item.call_id().map(|id| id.as_str()), Some("6d1c0b00-77a3"));
//! assert_eq!(item.new_call().and_then(|call| call.source_region.as_deref()), Some("emea"));
//! # Ok::<(), switchboard_notification::InvalidNotification>(())
//! ```
//!
//! The rules, each with a test:
//!
//! - Members are read by their exact name, and the values of enumerations without regard to ASCII case.
//!   Unknown values are kept (`Other`) or ignored, never refused.
//! - An optional member of the wrong type counts as absent. A notification is refused only if it cannot be
//!   routed.
//! - A member that decides the kind of a body or the call of an item may occur once: two parsers of one body
//!   must not disagree on it. These are `value`, `changeType`, `resource`, `resourceUrl`, `resourceData`, and
//!   the members that mark a legacy body. If another member occurs twice, the last one counts.
//! - Memory is bounded by the body: text is borrowed unless it contains escapes, and lists are counted or
//!   cut.
//!
//! Texts in the types come from the sender. Only [`CallId`], labels and [`InvalidNotification`] are safe in a
//! header or a log.
//!
//! The enums of this crate are exhaustive on purpose: a new variant needs a decision wherever one is matched.
//! Adding a variant is therefore a breaking change. Values that the platform may add are covered by `Other`.
//!
//! Reading order: `envelope`, `notifications`, `item`, `resource`, `data`, `call`; then `preflight` and
//! `json`.

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
mod labelled;
mod preflight;

pub use crate::{
    call::{Call, CallState, Modality},
    data::{Data, Operation},
    envelope::{Envelope, Legacy, LegacyKind},
    error::{ErrorCode, InvalidNotification},
    id::{CallId, InvalidCallId},
    item::{ChangeType, Item, ItemKind},
    notifications::Notifications,
    preflight::BODY_BYTES_MAX,
    resource::{Resource, ResourcePart},
    result_info::ResultInfo,
};
