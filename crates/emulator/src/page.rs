//! The page of the emulator for a browser. It uses nothing but the control API.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};

use crate::server::{Body, header_text, method_not_allowed, reads, respond};

/// One file of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageFile {
    Document,
    Style,
    Script,
    Icon,
}

impl PageFile {
    /// Responds with the file.
    pub(crate) fn respond(self, request: &Request<Bytes>) -> Response<Body> {
        if !reads(request.method()) {
            return method_not_allowed("GET");
        }
        let (content_type, text) = match self {
            Self::Document => ("text/html; charset=utf-8", include_str!("page/index.html")),
            Self::Style => ("text/css; charset=utf-8", include_str!("page/page.css")),
            Self::Script => ("text/javascript; charset=utf-8", include_str!("page/page.js")),
            Self::Icon => ("image/svg+xml", include_str!("page/page.svg")),
        };
        let mut response = respond(StatusCode::OK, Some(content_type), Bytes::from_static(text.as_bytes()));
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Returns true if a client asks for JSON and does not take a page.
pub(crate) fn wants_json(request: &Request<Bytes>) -> bool {
    header_text(request.headers(), &header::ACCEPT)
        .is_some_and(|accept| accept.contains("application/json") && !accept.contains("text/html"))
}

/// The page runs no script but its own, and no other page can embed it. Much of its text comes from bots, and
/// must stay text.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With `no-referrer`, a browser may hide the origin from the emulator too, which refuses such requests.
    (header::REFERRER_POLICY, "same-origin"),
    // A new version of the emulator has another page at the same address.
    (header::CACHE_CONTROL, "no-store"),
];

#[cfg(test)]
mod tests {
    /// Text of bots can become markup or script by these only.
    #[test]
    fn the_script_writes_text_only() {
        let script = include_str!("page/page.js");
        for way in ["HTML", "document.write", "eval(", "Function(", "srcdoc", "http://", "https://"] {
            let lines = script.lines().filter(|line| line.contains(way));
            // The default of the field for the webhook.
            let found: Vec<&str> =
                lines.filter(|line| !line.contains("http://127.0.0.1:3978/api/calls")).collect();
            assert!(found.is_empty(), "{way}: {found:?}");
        }
    }

    /// The page loads in a moment on any machine, and a reader can take it in.
    #[test]
    fn the_page_is_small() {
        let files =
            [include_str!("page/index.html"), include_str!("page/page.css"), include_str!("page/page.js")];
        let bytes: usize = files.iter().map(|file| file.len()).sum();
        assert!(bytes <= 64 << 10, "{bytes}");
    }
}
