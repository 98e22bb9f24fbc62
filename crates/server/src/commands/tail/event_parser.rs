//! `EventParser`: the events of a stream of server-sent events (HTML standard, section 9.2), in bounded
//! memory.

use std::mem::take;

use http::HeaderValue;

/// Reads the events of one stream, in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    /// The line that has begun, up to the limit.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed belongs to it.
    after_return: bool,
    is_not_first_line: bool,
    name: String,
    /// The data of the event that has begun, if there is any.
    data: Option<String>,
    /// The event that has begun is longer than the limit.
    is_too_large: bool,
    id: Option<HeaderValue>,
    last_id: Option<HeaderValue>,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerEvent {
    /// Its name and its data.
    Message(String, String),
    /// The event was longer than [`EVENT_BYTES_MAX`]. It is left out.
    TooLarge,
}

impl EventParser {
    /// Reads the next bytes of the stream. Returns the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<ServerEvent> {
        let mut events = Vec::new();
        for byte in bytes {
            let continues_end = take(&mut self.after_return) && *byte == b'\n';
            match byte {
                b'\n' if continues_end => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    events.extend(self.end_line());
                }
                _ if self.line.len() < EVENT_BYTES_MAX => self.line.push(*byte),
                // A comment may be as long as it likes.
                _ => self.is_too_large |= self.line.first() != Some(&b':'),
            }
        }
        events
    }

    /// The id of the last event, with which the stream can be continued.
    pub(super) fn last_id(&self) -> Option<&HeaderValue> {
        self.last_id.as_ref()
    }

    fn end_line(&mut self) -> Option<ServerEvent> {
        let line = take(&mut self.line);
        let mut line = line.as_slice();
        if !self.is_not_first_line {
            self.is_not_first_line = true;
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_event();
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (field, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => self.add_data(value),
            // An id with other bytes could not be sent back.
            b"id" if value.len() <= ID_BYTES_MAX => self.id = HeaderValue::from_bytes(value).ok(),
            _ => {}
        }
        None
    }

    fn add_data(&mut self, value: &[u8]) {
        let length = self.data.as_ref().map_or(0, String::len);
        if length.saturating_add(value.len()) >= EVENT_BYTES_MAX {
            self.is_too_large = true;
        }
        if self.is_too_large {
            return;
        }
        let value = String::from_utf8_lossy(value);
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(&value);
            }
            None => self.data = Some(value.into_owned()),
        }
    }

    /// An empty line ends an event. One without data has no effect except for its id.
    fn end_event(&mut self) -> Option<ServerEvent> {
        self.last_id.clone_from(&self.id);
        let (name, data) = (take(&mut self.name), self.data.take());
        if take(&mut self.is_too_large) {
            return Some(ServerEvent::TooLarge);
        }
        Some(ServerEvent::Message(name, data?))
    }
}

/// Much more than the line of a request.
pub(super) const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Much more than the ids of gateways.
const ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn message(name: &str, data: &str) -> ServerEvent {
        ServerEvent::Message(name.to_owned(), data.to_owned())
    }

    /// Reads `stream` at once, and checks the events and the last id.
    #[track_caller]
    fn check(stream: &str, expected: &[ServerEvent], last_id: Option<&str>) {
        let mut parser = EventParser::default();
        assert_eq!(parser.push(stream.as_bytes()), expected, "{stream:?}");
        assert_eq!(parser.last_id().map(|id| id.to_str().unwrap()), last_id, "{stream:?}");
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        check("id: 1-2\nevent: request\ndata: {}\n\n", &[message("request", "{}")], Some("1-2"));
        check("data: a\r\ndata:b\r\rdata\n\n", &[message("", "a\nb"), message("", "")], None);
        check("\u{feff}data:  a\n\n", &[message("", " a")], None);
        // A comment, an unknown field, and a second event without a name.
        check(
            ":\n\n: data: x\nretry: 5\nevent: a\ndata: 1\n\ndata: 2\n\n",
            &[message("a", "1"), message("", "2")],
            None,
        );
        // An event without data is none, but its id counts. The last id stays until there is another.
        check(":\nid: 7\n\nevent: a\n\ndata: 1\n\n", &[message("", "1")], Some("7"));
        // An event that is not complete is none.
        check("id: 7\ndata: 1\n", &[], None);
        check("id: a\u{0}b\n\n", &[], None);
        check(&format!("id: {}\n\n", "1".repeat(ID_BYTES_MAX + 1)), &[], None);
    }

    #[test]
    fn an_event_that_is_too_large_is_left_out_in_bounded_memory() {
        let mut parser = EventParser::default();
        let part = "x".repeat(64 * 1024);
        for start in ["data: ", "event: ", "id: ", ""] {
            assert!(parser.push(start.as_bytes()).is_empty());
            for _ in 0..8 {
                assert!(parser.push(part.as_bytes()).is_empty());
            }
            assert!(parser.line.len() <= EVENT_BYTES_MAX);
            assert_eq!(parser.push(b"\ndata: 1\n\n"), [ServerEvent::TooLarge], "{start}");
        }
        for _ in 0..100 {
            assert!(parser.push(format!("data: {part}\n").as_bytes()).is_empty());
            assert!(parser.data.as_ref().map_or(0, String::len) <= EVENT_BYTES_MAX);
        }
        assert_eq!(parser.push(b"\n"), [ServerEvent::TooLarge]);
        parser.push(b":");
        for _ in 0..8 {
            parser.push(part.as_bytes());
        }
        assert_eq!(parser.push(b"\ndata: 1\n\n"), [message("", "1")]);
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_gives_the_same_events(
            parts in vec(
                prop_oneof![
                    select(vec![
                        "data: a", "data:", "event: b", "id: 1", ": c", "\n", "\r", "\r\n", "\n\n",
                        "\u{feff}",
                    ])
                    .prop_map(|part| part.as_bytes().to_vec()),
                    vec(any::<u8>(), 0..8),
                ],
                0..60,
            ),
            sizes in vec(1..9_usize, 1..40),
        ) {
            let stream = parts.concat();
            let mut whole = EventParser::default();
            let expected = whole.push(&stream);
            let (mut split, mut events, mut rest) = (EventParser::default(), Vec::new(), stream.as_slice());
            for size in sizes.iter().cycle() {
                let (part, after) = rest.split_at((*size).min(rest.len()));
                events.extend(split.push(part));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(events, expected);
            prop_assert_eq!(split.last_id(), whole.last_id());
        }
    }
}
