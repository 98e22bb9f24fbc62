//! `CallId`: which call.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
};

/// A call's id: an opaque path segment, compared ASCII-case-insensitively, safe in headers and logs.
///
/// 1 to 128 of `A-Z a-z 0-9 - . _ ~ : @ + = $ %`, neither `.` nor `..`, which mean something else in a path.
#[derive(Clone, Debug)]
pub struct CallId<'a>(Cow<'a, str>);

impl<'a> CallId<'a> {
    /// The id, if `text` is one.
    pub fn parse(text: impl Into<Cow<'a, str>>) -> Result<Self, InvalidCallId> {
        let text = text.into();
        if text.is_empty() || text.len() > CALL_ID_BYTES_MAX {
            return Err(InvalidCallId::Length);
        }
        let allowed = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~')
                || matches!(byte, b':' | b'@' | b'+' | b'=' | b'$' | b'%')
        };
        if !text.bytes().all(allowed) || text == "." || text == ".." {
            return Err(InvalidCallId::Character);
        }
        Ok(Self(text))
    }

    /// The same id, borrowing nothing.
    pub fn into_owned(self) -> CallId<'static> {
        CallId(Cow::Owned(self.0.into_owned()))
    }
}

impl CallId<'_> {
    /// As it was posted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Without regard to ASCII case: documents write ids in upper case, the platform in lower case.
impl PartialEq for CallId<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for CallId<'_> {}

impl Hash for CallId<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for CallId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a call id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallId {
    /// Empty or too long.
    #[error("a call id that is not 1 to {CALL_ID_BYTES_MAX} bytes long")]
    Length,
    /// A character that does not belong in an id.
    #[error("a call id with a character that is not allowed")]
    Character,
}

impl InvalidCallId {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Character => "character",
        }
    }
}

/// Real ids are GUIDs of 36 bytes. Each is copied into a header and a log line of every request.
const CALL_ID_BYTES_MAX: usize = 128;
