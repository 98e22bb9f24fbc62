//! `Notifications`: the items of a Graph body, and the body cut to some of them.

use crate::{
    error::{ErrorCode, InvalidNotification},
    item::Item,
    json::{Malformed, Receive, Received, Shape, Value},
};

/// The items of a Graph body, at least one of which is about a call.
#[derive(Debug)]
pub struct Notifications<'a> {
    /// The items, in the order of the body.
    pub items: Vec<Item<'a>>,
    /// The body before the first item.
    head: &'a str,
    /// The body after the last item.
    tail: &'a str,
}

impl<'a> Notifications<'a> {
    /// Converts the received `value` of `body`.
    pub(crate) fn new(body: &'a str, received: Received<RawItems<'a>>) -> Result<Self, InvalidNotification> {
        let Received { shape, value: RawItems { items, error } } = received;
        let Shape::Array(length) = shape else {
            return Err(InvalidNotification::new(ErrorCode::ValueNotArray, r#""value" is not an array"#));
        };
        if length > ITEMS_MAX {
            let message = format!(r#""value" has more than {ITEMS_MAX} items"#);
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
            let message =
                format!(r#"the body has more than {ENVELOPE_BYTES_MAX} bytes outside the items of "value""#);
            return Err(InvalidNotification::new(ErrorCode::TooLarge, message));
        }
        Ok(Self { items, head, tail })
    }

    /// Returns the same envelope with `value` cut to the raw bytes of the items at `indices`, in their order.
    /// Indices without an item are ignored.
    pub fn subset(&self, indices: &[usize]) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.subset_bytes(indices));
        body.extend_from_slice(self.head.as_bytes());
        for (position, item) in self.at(indices).enumerate() {
            if position > 0 {
                body.push(b',');
            }
            body.extend_from_slice(item.raw.as_bytes());
        }
        body.extend_from_slice(self.tail.as_bytes());
        body
    }

    /// Returns the number of bytes of the same subset, before it is made.
    pub fn subset_bytes(&self, indices: &[usize]) -> usize {
        let items = self.at(indices).map(|item| item.raw.len()).sum::<usize>();
        let commas = self.at(indices).count().saturating_sub(1);
        [items, commas, self.tail.len()].into_iter().fold(self.head.len(), usize::saturating_add)
    }

    fn at(&self, indices: &[usize]) -> impl Iterator<Item = &Item<'a>> {
        indices.iter().filter_map(|index| self.items.get(*index))
    }
}

/// `value` while it is parsed: the items up to the first invalid one.
#[derive(Default)]
pub(crate) struct RawItems<'a> {
    items: Vec<Item<'a>>,
    error: Option<InvalidNotification>,
}

impl<'a> Receive<'a> for RawItems<'a> {
    fn element(&mut self, index: usize, value: Value<'_, 'a>) -> Result<(), Malformed> {
        if index >= ITEMS_MAX || self.error.is_some() {
            return value.skip();
        }
        let (raw, item) = value.receive_with_raw()?;
        match Item::new(index, raw, item) {
            Ok(item) => self.items.push(item),
            Err(error) => self.error = Some(error),
        }
        Ok(())
    }
}

/// Returns the error of a body without an item about a call. It names the mistake that operators make: a
/// subscription to call records that posts to the wrong URL.
fn not_a_call(first: &Item<'_>) -> InvalidNotification {
    let message = if is_about_call_records(first) {
        "a Graph change notification about communications/callRecords is not a calls notification"
    } else {
        "no item has a resourceUrl or resource below /communications/calls or /app/calls"
    };
    InvalidNotification::new(ErrorCode::NoCall, message)
}

fn is_about_call_records(item: &Item<'_>) -> bool {
    item.paths().iter().any(|path| {
        let path = path.strip_prefix('/').unwrap_or(path);
        path.get(..CALL_RECORDS.len()).is_some_and(|start| start.eq_ignore_ascii_case(CALL_RECORDS))
    })
}

/// Returns the offset of `part` in `body`, of which it is a slice.
fn offset(body: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(body.as_ptr().addr())
}

const CALL_RECORDS: &str = "communications/callRecords";

/// The bytes outside the items: some 70 in published bodies. Each part of a batch repeats them, so a body of
/// one megabyte could become 256 megabytes.
const ENVELOPE_BYTES_MAX: usize = 16 * 1024;

/// Every published body has one item. A gateway may send a request for each, and an item takes some 700 bytes
/// of memory.
const ITEMS_MAX: usize = 256;
