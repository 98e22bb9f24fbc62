//! HTTP/1.1 as bytes, written for these tests only: it shares no mistakes with the gateway.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// A request or a response as it was on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) start: String,
    /// The header fields in the order and spelling of the wire.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The kind of a message: it decides where a body without length and coding ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
}

impl Message {
    /// Reads a message, or returns `None` if the stream ends before the first byte.
    pub(crate) async fn read<S: AsyncBufRead + Unpin>(
        stream: &mut S,
        kind: Kind,
    ) -> io::Result<Option<Self>> {
        let Some(start) = line(stream).await? else { return Ok(None) };
        let mut fields = Vec::new();
        loop {
            let text = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut message = Self { start, fields, body: Vec::new() };
        message.read_body(stream, kind).await?;
        Ok(Some(message))
    }

    async fn read_body<S: AsyncBufRead + Unpin>(&mut self, stream: &mut S, kind: Kind) -> io::Result<()> {
        let has_none = kind == Kind::Response && matches!(self.status(), 100..=199 | 204 | 304);
        if has_none {
            return Ok(());
        }
        if self.field("transfer-encoding").is_some() {
            loop {
                let size = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let digits = size.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
                if size == 0 {
                    while !line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?.is_empty() {}
                    return Ok(());
                }
                let mut chunk = vec![0; size];
                stream.read_exact(&mut chunk).await?;
                self.body.extend(chunk);
                line(stream).await?;
            }
        }
        match self.field("content-length") {
            Some(length) => {
                let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await?;
                self.body = body;
            }
            None if kind == Kind::Response => {
                stream.read_to_end(&mut self.body).await?;
            }
            None => {}
        }
        Ok(())
    }

    /// Returns the value of the only field of this name.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} occurs {} times", all.len());
        all.first().copied()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_else(|_| panic!("not a status line: {:?}", self.start))
    }

    /// Returns the method of a request.
    pub(crate) fn method(&self) -> &str {
        self.word(0)
    }

    /// Returns the target of a request.
    pub(crate) fn target(&self) -> &str {
        self.word(1)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    fn word(&self, at: usize) -> &str {
        self.start.split(' ').nth(at).unwrap_or_default()
    }
}

/// Reads a line without its end, or returns `None` at the end of the stream.
///
/// Fails the test if the line has a control character.
async fn line<S: AsyncBufRead + Unpin>(stream: &mut S) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = bytes.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    assert!(text.iter().all(|byte| *byte >= b' ' && *byte != 0x7f), "control characters: {text:?}");
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}
