//! Why a body is not a notification.

/// Why a body is not a notification.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct InvalidNotification {
    /// A stable name.
    pub code: ErrorCode,
    /// What is wrong and where; holds no text of the body but member names, safe to log and to return.
    pub message: String,
}

impl InvalidNotification {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The kinds of `InvalidNotification`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No bytes, or nothing but white space.
    Empty,
    /// More bytes than any body may have.
    TooLarge,
    /// Not UTF-8.
    InvalidText,
    /// Not JSON: broken, cut short, preceded by a byte order mark or followed by more.
    NotJson,
    /// Arrays and objects in each other beyond the limit.
    TooDeep,
    /// JSON, but not an object.
    NotAnObject,
    /// A member that decides what a body is or where it goes appears twice.
    Duplicate,
    /// Legacy and Graph at once.
    Both,
    /// Neither legacy nor Graph.
    Neither,
    /// `value` is not an array.
    ValueNotArray,
    /// `value` has no items.
    ValueEmpty,
    /// `value` has more items than any body may have.
    TooManyItems,
    /// An item of `value` is not an object.
    ItemNotObject,
    /// An item's `changeType` is missing or not one of the three.
    ChangeType,
    /// A path names a call id that would not be safe in a header.
    CallId,
    /// No item is about a call.
    NotACall,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Empty,
        Self::TooLarge,
        Self::InvalidText,
        Self::NotJson,
        Self::TooDeep,
        Self::NotAnObject,
        Self::Duplicate,
        Self::Both,
        Self::Neither,
        Self::ValueNotArray,
        Self::ValueEmpty,
        Self::TooManyItems,
        Self::ItemNotObject,
        Self::ChangeType,
        Self::CallId,
        Self::NotACall,
    ];

    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::InvalidText => "invalid_text",
            Self::NotJson => "not_json",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::Duplicate => "duplicate_member",
            Self::Both => "legacy_and_graph",
            Self::Neither => "neither_legacy_nor_graph",
            Self::ValueNotArray => "value_not_array",
            Self::ValueEmpty => "value_empty",
            Self::TooManyItems => "too_many_items",
            Self::ItemNotObject => "item_not_object",
            Self::ChangeType => "change_type",
            Self::CallId => "call_id",
            Self::NotACall => "not_a_call",
        }
    }
}
