//! `Rows`: requests as aligned lines for people, or as JSON lines.

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    commands::output::{GREEN, RED, YELLOW, coloured, json_safe, plain},
    request::outcome::Outcome,
};

/// The layout of the lines for people. Columns grow with their longest value.
#[derive(Debug)]
pub(super) struct Rows {
    widths: [usize; HEAD.len()],
    /// True if the lines name their gateway.
    has_gateways: bool,
    is_coloured: bool,
}

impl Rows {
    /// `gateways` are the names of all gateways.
    pub(super) fn new<'n>(gateways: impl Iterator<Item = &'n str>, is_coloured: bool) -> Self {
        let mut widths = HEAD.map(|name| name.chars().count());
        let mut count = 0_usize;
        for name in gateways {
            count = count.saturating_add(1);
            grow(&mut widths, GATEWAY, name);
        }
        for outcome in Outcome::ALL {
            grow(&mut widths, OUTCOME, outcome.label());
        }
        grow(&mut widths, CALL, "491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7");
        Self { widths, has_gateways: count > 1, is_coloured }
    }

    /// The names of the columns.
    pub(super) fn head(&mut self) -> String {
        self.line(&HEAD.map(str::to_owned), None)
    }

    /// A request of a gateway.
    pub(super) fn row(&mut self, gateway: &str, line: &str) -> String {
        let Ok(request) = serde_json::from_str::<TailedRequest>(line) else { return plain(line) };
        let text = |text: &Option<String>| text.as_deref().map_or_else(|| UNKNOWN.to_owned(), plain);
        let cells = [
            request.time_of_day(),
            gateway.to_owned(),
            plain(&request.outcome),
            request.status.map_or_else(|| UNKNOWN.to_owned(), |status| status.to_string()),
            request.duration_ms.map_or_else(|| UNKNOWN.to_owned(), |ms| format!("{ms:.1} ms")),
            text(&request.call_id),
            text(&request.instance),
            request.reason.as_deref().map(plain).unwrap_or_default(),
        ];
        let colour = match request.status {
            Some(200..300) => GREEN,
            Some(300..400) | None => YELLOW,
            Some(_) => RED,
        };
        self.line(&cells, Some(colour).filter(|_| self.is_coloured))
    }

    fn line(&mut self, cells: &[String; HEAD.len()], colour: Option<u8>) -> String {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            if column == GATEWAY && !self.has_gateways {
                continue;
            }
            grow(&mut self.widths, column, cell);
            let width = self.widths.get(column).copied().unwrap_or_default();
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            if column > 0 {
                line.push_str("  ");
            }
            let cell = match colour {
                Some(colour) if column == STATUS => &coloured(cell, colour),
                Some(_) | None => cell,
            };
            if NUMBERS.contains(&column) {
                line.push_str(&padding);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&padding);
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The time of a request, by which lines of several gateways are sorted. Empty if it has none.
pub(super) fn time_of(line: &str) -> String {
    serde_json::from_str::<TailedRequest>(line).map(|request| request.time).unwrap_or_default()
}

/// The line as the gateway wrote it, without characters that a terminal obeys. With several gateways, it
/// starts with the URL of its `gateway`. `None` if it is not a JSON object.
pub(super) fn json_line(line: &str, gateway: Option<&str>) -> Option<String> {
    let members = line.trim().strip_prefix('{')?;
    serde_json::from_str::<IgnoredAny>(line).ok()?;
    let Some(gateway) = gateway else { return Some(json_safe(line.trim())) };
    let gateway = serde_json::to_string(gateway).ok()?;
    let comma = if members.trim_start().starts_with('}') { "" } else { "," };
    Some(json_safe(&format!("{{\"gateway\":{gateway}{comma}{members}")))
}

fn grow(widths: &mut [usize; HEAD.len()], column: usize, cell: &str) {
    // The last column needs no alignment, and a long value must not move all lines after it.
    if let Some(width) = widths.get_mut(column).filter(|_| column + 1 < HEAD.len()) {
        *width = cell.chars().count().min(WIDTH_MAX).max(*width);
    }
}

/// The fields of a request that a line for people shows. Lenient, since the gateway may be of another
/// version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TailedRequest {
    time: String,
    outcome: String,
    #[serde(rename = "http.response.status_code")]
    status: Option<u64>,
    duration_ms: Option<f64>,
    #[serde(rename = "call.id")]
    call_id: Option<String>,
    instance: Option<String>,
    reason: Option<String>,
}

impl TailedRequest {
    /// `19:21:03.120` of `2026-11-20T19:21:03.120Z`.
    fn time_of_day(&self) -> String {
        let time = self.time.split_once('T').map(|(_, time)| time.trim_end_matches('Z'));
        plain(time.unwrap_or(&self.time))
    }
}

const HEAD: [&str; 8] =
    ["time (UTC)  ", "gateway", "outcome", "status", "duration", "call", "instance", "reason"];
const GATEWAY: usize = 1;
const OUTCOME: usize = 2;
const STATUS: usize = 3;
const CALL: usize = 5;
/// The columns of numbers.
const NUMBERS: [usize; 2] = [STATUS, 4];
const UNKNOWN: &str = "-";
/// Longer values move the rest of their line.
const WIDTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const PLACED: &str = r#"{"time":"2026-11-20T19:21:03.120Z","level":"info","outcome":"placed",
        "http.response.status_code":202,"duration_ms":12.34,"call.id":"call-1","instance":"bot-1"}"#;
    const REFUSED: &str = r#"{"time":"2026-11-20T19:21:04.000Z","outcome":"unauthenticated",
        "http.response.status_code":401,"duration_ms":0.5,"reason":"expired"}"#;
    const GONE: &str = r#"{"time":"x","outcome":"client_gone","call.id":"a\u001b[31m\u202eb"}"#;

    fn text(gateways: &[&str], is_coloured: bool) -> String {
        let mut rows = Rows::new(gateways.iter().copied(), is_coloured);
        let mut lines = vec![rows.head()];
        lines.extend([PLACED, REFUSED, GONE, "\u{1b}[2J"].map(|line| rows.row(gateways[0], line)));
        lines.join("\n")
    }

    #[test]
    fn requests_are_aligned() {
        expect![[r#"
            time (UTC)    outcome                 status  duration  call                                  instance  reason
            19:21:03.120  placed                     202   12.3 ms  call-1                                bot-1
            19:21:04.000  unauthenticated            401    0.5 ms  -                                     -         expired
            x             client_gone                  -         -  a?[31m?b                              -
            ?[2J"#]].assert_eq(&text(&["127.0.0.1:9090"], false));
        expect![[r#"
            time (UTC)    gateway             outcome                 status  duration  call                                  instance  reason
            19:21:03.120  127.0.0.1:9090      placed                     202   12.3 ms  call-1                                bot-1
            19:21:04.000  127.0.0.1:9090      unauthenticated            401    0.5 ms  -                                     -         expired
            x             127.0.0.1:9090      client_gone                  -         -  a?[31m?b                              -
            ?[2J"#]].assert_eq(&text(&["127.0.0.1:9090", "emea-1.contoso.com"], false));
    }

    #[test]
    fn a_colour_does_not_move_columns() {
        let coloured = text(&["127.0.0.1:9090"], true);
        assert!(coloured.contains("\u{1b}[32m202\u{1b}[0m"), "{coloured:?}");
        let bare = coloured.replace("\u{1b}[32m", "").replace("\u{1b}[33m", "").replace("\u{1b}[31m", "");
        assert_eq!(bare.replace("\u{1b}[0m", ""), text(&["127.0.0.1:9090"], false));
    }

    #[test]
    fn a_json_line_names_its_gateway_and_has_nothing_that_a_terminal_obeys() {
        let with = |line| json_line(line, Some("http://127.0.0.1:9090"));
        for (line, alone, named) in [
            (r#"{"a":1}"#, Some(r#"{"a":1}"#), Some(r#"{"gateway":"http://127.0.0.1:9090","a":1}"#)),
            (" { } ", Some("{ }"), Some(r#"{"gateway":"http://127.0.0.1:9090" }"#)),
            (
                "{\"a\":\"\u{9b}\u{202e}é\"}",
                Some(r#"{"a":"\u009b\u202eé"}"#),
                Some(r#"{"gateway":"http://127.0.0.1:9090","a":"\u009b\u202eé"}"#),
            ),
            ("{\"a\":\"\u{1b}\"}", None, None),
            ("[1]", None, None),
            ("{\"a\":1", None, None),
            ("", None, None),
        ] {
            assert_eq!(json_line(line, None).as_deref(), alone, "{line:?}");
            assert_eq!(with(line).as_deref(), named, "{line:?}");
        }
    }
}
