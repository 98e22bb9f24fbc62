//! The calls of a bot as an HTML page.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::ledger::BotCalls;
use crate::server::{Body, respond};

/// The page: counts, and a table of the latest calls.
pub(super) fn page(calls: &BotCalls) -> Response<Body> {
    let mut rows = String::new();
    for call in calls.calls.iter().rev().take(PAGE_ROWS_MAX) {
        let state =
            call.failure.as_ref().map_or_else(|| call.state.clone(), |why| format!("{}: {why}", call.state));
        let _ = writeln!(
            rows,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape_html(&call.id),
            escape_html(&state),
            escape_html(&call.notifications.join(", ")),
            call.count,
        );
    }
    if rows.is_empty() {
        rows.push_str("<tr><td colspan=4>No calls yet.</td></tr>");
    }
    let name = escape_html(&calls.name);
    let draining = if calls.draining { " (draining)" } else { "" };
    let (active, taken, refused, strays) = (calls.active, calls.taken, calls.refused, calls.strays);
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>\
         <title>{name}</title>\
         <style>body{{font:16px system-ui;margin:2em}}\
         td,th{{text-align:left;padding:.3em 1em .3em 0}}</style>\
         <h1>{name}{draining}</h1><p>{active} active, {taken} taken, {refused} refused when full, \
         {strays} notifications about calls of other instances.</p>\
         <table><tr><th>call<th>state<th>notifications<th>count</tr>{rows}</table>"
    );
    let mut response = respond(StatusCode::OK, Some("text/html; charset=utf-8"), Bytes::from(page));
    let policy = header::HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

const PAGE_ROWS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_escaped() {
        assert_eq!(escape_html("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#39;");
    }
}
