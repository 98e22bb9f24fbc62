//! `InvalidNotification`: a body that is refused.

use crate::labelled::labelled;

/// A body that is not a notification.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct InvalidNotification {
    /// The kind of problem.
    pub code: ErrorCode,
    /// The problem and its place. It contains no text of the body except names of members, so it is safe to
    /// log and to return.
    pub message: String,
}

impl InvalidNotification {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

labelled! {
    /// The kinds of [`InvalidNotification`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ErrorCode {
        /// The body is empty or white space.
        Empty = "empty",
        /// The body, or the part of it outside the items, has too many bytes.
        TooLarge = "too_large",
        /// The body is not UTF-8.
        InvalidText = "invalid_text",
        /// The body is not JSON: malformed, incomplete, or before other text.
        InvalidJson = "not_json",
        /// Arrays and objects are nested too deeply.
        TooDeep = "too_deep",
        /// The body is JSON, but not an object.
        BodyNotObject = "not_an_object",
        /// A member that decides the kind of the body or the call of an item occurs twice.
        Duplicate = "duplicate_member",
        /// The body is legacy and Graph at once.
        Both = "legacy_and_graph",
        /// The body is neither legacy nor Graph.
        Neither = "neither_legacy_nor_graph",
        /// `value` is not an array.
        ValueNotArray = "value_not_array",
        /// `value` has no items.
        ValueEmpty = "value_empty",
        /// `value` has too many items.
        TooManyItems = "too_many_items",
        /// An item of `value` is not an object.
        ItemNotObject = "item_not_object",
        /// The `changeType` of an item is missing or unknown.
        ChangeType = "change_type",
        /// An item names a call id that is not safe in a header.
        CallId = "call_id",
        /// No item is about a call.
        NoCall = "not_a_call",
    }
}
