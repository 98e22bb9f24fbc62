//! `PackedContent`: the header fields and the body of a response in one allocation.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use switchboard_delivery::{CLIENT_REQUEST_ID, SCENARIO_ID};
use uuid::Uuid;

/// The header fields and the body of a response, as copies. A name of ten bytes that shared memory with the
/// connection would hold a buffer of 16 KiB.
///
/// The names that an instance's response can have take one byte each, and a value that is a GUID takes 16. So
/// the two correlation ids of a response without a body take 34 bytes, and a `HeaderMap` of them some 600.
#[derive(Clone, Debug, Default)]
pub(super) struct PackedContent {
    /// For each field its tag, for `OTHER_NAME` its name, and its value. Then `END` and the body, unless that
    /// is empty.
    bytes: Box<[u8]>,
}

impl PackedContent {
    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let mut bytes = Vec::with_capacity(headers.iter().map(|(_, value)| likely_bytes(value)).sum());
        for (name, value) in headers {
            pack_field(&mut bytes, name, value);
        }
        Self { bytes: bytes.into() }
    }

    /// The same fields with a body.
    pub(super) fn with_body(self, body: &[u8]) -> Self {
        if body.is_empty() {
            return self;
        }
        Self { bytes: [&self.bytes, [END].as_slice(), body].concat().into() }
    }

    pub(super) fn unpack(&self) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        let mut reader = Reader(&self.bytes);
        while let Some((name, value)) = reader.field() {
            headers.append(name, value);
        }
        (headers, Bytes::copy_from_slice(reader.0))
    }

    /// The bytes that the allocator takes for it, at most: the length with a word of its own, in units of two
    /// words, as glibc does it.
    pub(super) fn allocated_bytes(&self) -> usize {
        if self.bytes.is_empty() { 0 } else { (self.bytes.len() + 8).next_multiple_of(16).max(32) }
    }
}

/// The size of a packed field, if its name is known. Only a start for the allocation.
fn likely_bytes(value: &HeaderValue) -> usize {
    if value.len() == GUID_LENGTH { 1 + GUID_BYTES } else { 1 + LENGTH_BYTES + value.len() }
}

/// Leaves out a field whose name or value is too long for its length field; no valid head has one.
fn pack_field(bytes: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let Ok(value_length) = u16::try_from(value.len()) else { return };
    let guid = guid(value);
    let form = if guid.is_some() { IS_GUID } else { 0 };
    match KNOWN_NAMES.iter().find(|(_, known)| *known == name) {
        Some((tag, _)) => bytes.push(tag | form),
        None => {
            let Ok(name_length) = u16::try_from(name.as_str().len()) else { return };
            bytes.push(OTHER_NAME | form);
            bytes.extend(name_length.to_be_bytes());
            bytes.extend(name.as_str().as_bytes());
        }
    }
    match guid {
        Some(guid) => bytes.extend(guid.as_bytes()),
        None => {
            bytes.extend(value_length.to_be_bytes());
            bytes.extend(value.as_bytes());
        }
    }
}

/// The GUID, if the value is its usual form in lower case: no other form can be restored from 16 bytes.
fn guid(value: &HeaderValue) -> Option<Uuid> {
    if value.len() != GUID_LENGTH {
        return None;
    }
    let guid = Uuid::try_parse_ascii(value.as_bytes()).ok()?;
    let mut buffer = Uuid::encode_buffer();
    (guid.hyphenated().encode_lower(&mut buffer).as_bytes() == value.as_bytes()).then_some(guid)
}

/// Reads packed fields. What is left after the last one is the body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field; `None` after the last one.
    fn field(&mut self) -> Option<(HeaderName, HeaderValue)> {
        let [tag] = self.take_array()?;
        let name = match tag & !IS_GUID {
            END => return None,
            OTHER_NAME => HeaderName::from_bytes(self.take_text()?).ok()?,
            known => KNOWN_NAMES.iter().find(|(tag, _)| *tag == known)?.1.clone(),
        };
        let value = if tag & IS_GUID == 0 {
            HeaderValue::from_bytes(self.take_text()?).ok()?
        } else {
            let mut buffer = Uuid::encode_buffer();
            let text = Uuid::from_bytes(self.take_array()?).hyphenated().encode_lower(&mut buffer);
            HeaderValue::from_str(text).ok()?
        };
        Some((name, value))
    }

    fn take_text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take_array()?);
        let (text, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(text)
    }

    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

/// The names that are relayed from an instance's response, by their tags.
static KNOWN_NAMES: [(u8, &HeaderName); 5] = [
    (1, &CONTENT_TYPE),
    (2, &CONTENT_ENCODING),
    (3, &RETRY_AFTER),
    (4, &CLIENT_REQUEST_ID),
    (5, &SCENARIO_ID),
];
/// The tag after the last field.
const END: u8 = 0;
/// The tag of a field that is followed by its name.
const OTHER_NAME: u8 = 6;
/// Added to the tag of a field whose value is a GUID.
const IS_GUID: u8 = 0x80;
const GUID_LENGTH: usize = 36;
const GUID_BYTES: usize = 16;
const LENGTH_BYTES: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUID: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn a_response_without_a_body_takes_little() {
        for (fields, bytes) in [
            (vec![], 0),
            (vec![("client-request-id", GUID)], 17),
            (vec![("client-request-id", GUID), ("scenario-id", GUID)], 34),
            // Only the usual form can be restored.
            (vec![("client-request-id", &GUID.to_uppercase()), ("scenario-id", GUID)], 39 + 17),
            (vec![("content-type", "text/plain")], 13),
            (vec![("location", "/")], 1 + 2 + 8 + 2 + 1),
        ] {
            let packed = PackedContent::of_headers(&headers(&fields));
            assert_eq!(packed.bytes.len(), bytes, "{fields:?}");
            assert_eq!(packed.unpack(), (headers(&fields), Bytes::new()));
        }
    }

    const NAMES: [&str; 7] = [
        "content-type",
        "content-encoding",
        "retry-after",
        "client-request-id",
        "scenario-id",
        "location",
        "x",
    ];
    const VALUES: &str = "[ -~]{0,40}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_response_is_restored(
            fields in prop::collection::vec((0..NAMES.len(), VALUES), 0..8),
            body in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(NAMES[*name], HeaderValue::from_str(value.trim()).unwrap());
            }
            let (unpacked, unpacked_body) = PackedContent::of_headers(&headers).with_body(&body).unpack();
            prop_assert_eq!(unpacked, headers);
            prop_assert_eq!(&*unpacked_body, &*body);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            PackedContent { bytes: bytes.into() }.unpack();
        }
    }
}
