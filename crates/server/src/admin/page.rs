//! The page for operators, for a browser: four files of the binary. It uses nothing but this listener's API.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, REFERRER_POLICY},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::admin::response::{AdminResponse, response};

/// One file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageFile {
    Document,
    Style,
    Script,
    Icon,
}

impl PageFile {
    /// Returns the file at a path.
    pub(super) fn parse(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Document),
            "/page.css" => Some(Self::Style),
            "/page.js" => Some(Self::Script),
            "/page.svg" => Some(Self::Icon),
            _ => None,
        }
    }

    /// Responds with the file, or with 304 if the client has it.
    pub(super) fn respond(self, headers: &HeaderMap) -> AdminResponse {
        let (content_type, text) = self.content();
        let tag = self.tag();
        let has_it = headers.get(IF_NONE_MATCH).is_some_and(|tags| {
            let mut tags = tags.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            // A proxy that compresses weakens the tag.
            tags.any(|one| one.strip_prefix(b"W/").unwrap_or(one) == tag.as_bytes())
        });
        let (status, body) = match has_it {
            true => (StatusCode::NOT_MODIFIED, Bytes::new()),
            false => (StatusCode::OK, Bytes::from_static(text.as_bytes())),
        };
        let mut response = response(status, HeaderValue::from_static(content_type), body);
        let headers = response.headers_mut();
        headers.insert(ETAG, tag.clone());
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn content(self) -> (&'static str, &'static str) {
        match self {
            Self::Document => ("text/html; charset=utf-8", include_str!("page/index.html")),
            Self::Style => ("text/css; charset=utf-8", include_str!("page/page.css")),
            Self::Script => ("text/javascript; charset=utf-8", include_str!("page/page.js")),
            Self::Icon => ("image/svg+xml", include_str!("page/page.svg")),
        }
    }

    /// The version of the file. All four have the same, so that a browser does not mix two versions.
    fn tag(self) -> &'static HeaderValue {
        static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
            let files = [PageFile::Document, PageFile::Style, PageFile::Script, PageFile::Icon];
            let text: String = files.iter().map(|file| file.content().1).collect();
            HeaderValue::from_str(&format!("\"{:016x}\"", xxh3_64(text.as_bytes())))
                .unwrap_or(HeaderValue::from_static("\"0\""))
        });
        &TAG
    }
}

/// The page runs no script but its own, and no other page can embed it.
const HEADERS: [(HeaderName, &str); 3] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    // With `no-referrer`, a browser hides the origin from the gateway too, which refuses such requests.
    (REFERRER_POLICY, "same-origin"),
    // Another version of the gateway has another page at the same address.
    (CACHE_CONTROL, "no-cache"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [PageFile; 4] = [PageFile::Document, PageFile::Style, PageFile::Script, PageFile::Icon];

    /// Text of senders and issuers can become markup or script by these only.
    #[test]
    fn the_script_writes_text_only() {
        let (_, script) = PageFile::Script.content();
        for way in [
            "HTML",
            "document.write",
            "eval(",
            "Function(",
            "srcdoc",
            "http://",
            "https://",
            "javascript:",
            "localStorage",
            "document.cookie",
            "setAttribute(\"on",
        ] {
            let found: Vec<&str> = script.lines().filter(|line| line.contains(way)).collect();
            assert!(found.is_empty(), "{way}: {found:?}");
        }
    }

    /// The page loads in a moment over any tunnel, and a reader can take it in.
    #[test]
    fn the_page_is_small() {
        let bytes: usize = FILES.iter().map(|file| file.content().1.len()).sum();
        assert!(bytes <= 64 << 10, "{bytes}");
    }

    #[test]
    fn a_client_that_has_the_file_does_not_receive_it_again() {
        let tag = PageFile::Document.respond(&HeaderMap::new()).headers()[ETAG].clone();
        let known = tag.to_str().unwrap();
        for (sent, status) in [
            (known.to_owned(), 304),
            (format!("\"x\", W/{known}"), 304),
            ("\"x\"".to_owned(), 200),
            (known.trim_matches('"').to_owned(), 200),
            ("*".to_owned(), 200),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(&sent).unwrap());
            for file in FILES {
                let response = file.respond(&headers);
                assert_eq!(response.status(), status, "{sent}");
                assert_eq!(response.headers()[ETAG], tag);
                assert!(response.headers().contains_key(CONTENT_SECURITY_POLICY));
            }
        }
    }
}
