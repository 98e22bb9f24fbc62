//! `Notifications`: the items of a Graph body, and the body cut to some of them.

use serde_json::value::RawValue;

use crate::{
    error::{ErrorCode, InvalidNotification},
    item::Item,
    json::{Receive, Received, Shape},
};

/// The items of a Graph body, at least one of which is about a call.
#[derive(Debug)]
pub struct Notifications<'a> {
    /// The items in the order in which they were posted.
    pub items: Vec<Item<'a>>,
    /// The body up to the first item.
    head: &'a str,
    /// The body from behind the last item.
    tail: &'a str,
}

impl<'a> Notifications<'a> {
    /// What was received as `value` of `body`.
    pub(crate) fn new(body: &'a str, received: Received<Value<'a>>) -> Result<Self, InvalidNotification> {
        let Received { shape, value: Value { items, error } } = received;
        let Shape::Array(length) = shape else {
            return Err(InvalidNotification::new(ErrorCode::ValueNotArray, r#""value" is not an array"#));
        };
        if length > ITEMS_MAX {
            let message = format!(r#""value" holds more than {ITEMS_MAX} items"#);
            return Err(InvalidNotification::new(ErrorCode::TooManyItems, message));
        }
        if let Some(error) = error {
            return Err(error);
        }
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            return Err(InvalidNotification::new(ErrorCode::ValueEmpty, r#""value" is empty"#));
        };
        if items.iter().all(|item| item.resource.is_none()) {
            return Err(not_a_call(first));
        }

        let head = offset(body, first.raw);
        let tail = offset(body, last.raw).saturating_add(last.raw.len());
        let (head, tail) = (body.get(..head).unwrap_or_default(), body.get(tail..).unwrap_or_default());
        if items.len() > 1 && head.len().saturating_add(tail.len()) > ENVELOPE_BYTES_MAX {
            let message = format!(r#"more than {ENVELOPE_BYTES_MAX} bytes are around the items of "value""#);
            return Err(InvalidNotification::new(ErrorCode::TooLarge, message));
        }
        Ok(Self { items, head, tail })
    }

    /// The same envelope with `value` cut to the raw bytes of the items at `indices`, in their order. An index beyond the
    /// items is passed over.
    pub fn subset(&self, indices: &[usize]) -> Vec<u8> {
        let items = || indices.iter().filter_map(|index| self.items.get(*index));
        let length = items().map(|item| item.raw.len().saturating_add(1)).sum::<usize>();
        let mut body =
            Vec::with_capacity(self.head.len().saturating_add(length).saturating_add(self.tail.len()));
        body.extend_from_slice(self.head.as_bytes());
        for (position, item) in items().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            body.extend_from_slice(item.raw.as_bytes());
        }
        body.extend_from_slice(self.tail.as_bytes());
        body
    }
}

/// `value` as it is read: the items up to the first that is wrong.
#[derive(Default)]
pub(crate) struct Value<'a> {
    items: Vec<Item<'a>>,
    error: Option<InvalidNotification>,
}

impl<'de> Receive<'de> for Value<'de> {
    fn element(&mut self, index: usize, raw: &'de RawValue) {
        if index >= ITEMS_MAX || self.error.is_some() {
            return;
        }
        match Item::parse(index, raw) {
            Ok(item) => self.items.push(item),
            Err(error) => self.error = Some(error),
        }
    }
}

/// The one look-alike that an operator meets (a subscription that posts to the wrong URL) is named.
fn not_a_call(first: &Item<'_>) -> InvalidNotification {
    let message = if is_about_call_records(first) {
        "a Graph change notification about communications/callRecords is not a calls notification"
    } else {
        "no item is about a call: none has a resourceUrl or resource below /communications/calls or /app/calls"
    };
    InvalidNotification::new(ErrorCode::NotACall, message)
}

fn is_about_call_records(item: &Item<'_>) -> bool {
    item.paths().iter().any(|path| {
        let path = path.strip_prefix('/').unwrap_or(path);
        path.get(..CALL_RECORDS.len()).is_some_and(|start| start.eq_ignore_ascii_case(CALL_RECORDS))
    })
}

/// Where in `body` its slice `part` begins.
fn offset(body: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(body.as_ptr().addr())
}

const CALL_RECORDS: &str = "communications/callRecords";

/// What is around several items: some 70 bytes in published bodies. Each part of a batch repeats it, so that a body of a
/// megabyte could become 256 of them.
const ENVELOPE_BYTES_MAX: usize = 16 * 1024;

/// Every published body has one item. A gateway may send a request for each, and an item takes some 700 bytes here.
const ITEMS_MAX: usize = 256;
