//! `CallId`: the id of a call.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
};

/// The id of a call: an opaque path segment that is safe in headers and logs. Ids are compared without regard
/// to ASCII case.
///
/// 1 to 128 of `A-Z a-z 0-9 - . _ ~ : @ + = $ %`, neither `.` nor `..`, which have another meaning in a path.
///
/// ```
/// use switchboard_notification::{CallId, InvalidCallId};
///
/// assert_eq!(CallId::parse("6D1C0B00-77A3")?, CallId::parse("6d1c0b00-77a3")?);
/// assert_eq!(CallId::parse("a b"), Err(InvalidCallId::Character));
/// # Ok::<(), InvalidCallId>(())
/// ```
#[derive(Clone, Debug)]
pub struct CallId<'a>(Cow<'a, str>);

impl<'a> CallId<'a> {
    /// Parses an id.
    ///
    /// # Errors
    ///
    /// `text` is empty or too long, or contains a character that is not allowed.
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

    /// Returns the same id with a text of its own.
    pub fn into_owned(self) -> CallId<'static> {
        CallId(Cow::Owned(self.0.into_owned()))
    }
}

impl CallId<'_> {
    /// Returns the id as posted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Compares without regard to ASCII case: documents write ids in upper case, the platform in lower case.
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

/// The text is not a call id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallId {
    /// It is empty or too long.
    #[error("call id is not 1 to {CALL_ID_BYTES_MAX} bytes long")]
    Length,
    /// It contains a character that is not allowed.
    #[error("call id has a character that is not allowed")]
    Character,
}

impl InvalidCallId {
    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Character => "character",
        }
    }
}

/// Real ids are GUIDs of 36 bytes. The id is copied into a header and a log line of every request.
const CALL_ID_BYTES_MAX: usize = 128;
