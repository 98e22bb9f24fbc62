//! The results as tables and as JSON.

use serde_json::{Map, Value, json};

use super::{
    comparison::{Cell, Row},
    footprint::Footprint,
    measures::PROXIES,
    subjects::Server,
};

/// The table of CPU times: medians, the gateway's ratio to each other server, and the largest distance of a
/// round from its median.
pub(super) fn table(rows: &[Row]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<32}{:>9}{:>9}{:>9}{:>9}{:>10}{:>10}{:>10}{:>8}",
        "CPU time per request, µs",
        "gateway",
        "nginx",
        "HAProxy",
        "hyper",
        "/nginx",
        "/HAProxy",
        "/hyper",
        "±"
    )];
    for row in rows {
        let median_of = |server: Server| row.cells.iter().find(|cell| cell.server == server).map(median);
        let own = median_of(Server::Gateway);
        let bare = [Server::HyperProxy, Server::Hyper204, Server::Hyper302].into_iter().find_map(median_of);
        let values = [own, median_of(Server::Nginx), median_of(Server::Haproxy), bare];
        let mut line = format!("{:<32}", row.measure.title);
        for value in values {
            line.push_str(&format!(
                "{:>9}",
                value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"))
            ));
        }
        for other in values.into_iter().skip(1) {
            let ratio = own.zip(other).map(|(own, other)| format!("{:.2}", own / other));
            line.push_str(&format!("{:>10}", ratio.unwrap_or_else(|| "–".to_owned())));
        }
        let spread = row.cells.iter().map(spread).fold(0.0, f64::max);
        line.push_str(&format!("{:>6.0} %", spread * 100.0));
        lines.push(line);
        for cell in row.cells.iter().filter(|cell| cell.server.is_gateway() && cell.server != Server::Gateway)
        {
            lines.push(format!("  {:<30}{:>9.1}", cell.server.name(), median(cell)));
        }
    }
    lines
}

/// Lines below the table: the agreement of the generators, and the cost of new tokens. `verification` is the
/// time of one RSA verification in microseconds.
pub(super) fn notes(rows: &[Row], verification: f64) -> Vec<String> {
    let median_of = |name: &str, server: Server| {
        let row = rows.iter().find(|row| row.measure.name == name)?;
        row.cells.iter().find(|cell| cell.server == server).map(median)
    };
    let mut notes = Vec::new();
    let differences = PROXIES.iter().filter_map(|server| {
        Some(median_of("callback-own", *server)? / median_of("callback", *server)? - 1.0)
    });
    if let Some(largest) = differences.max_by(|one, other| one.abs().total_cmp(&other.abs())) {
        notes.push(format!("own generator: at most {:+.0} % beside wrk", largest * 100.0));
    }
    let [gateway, proxy] = [Server::Gateway, Server::HyperProxy].map(|server| median_of("new-token", server));
    if let Some((gateway, proxy)) = gateway.zip(proxy) {
        let ratio = gateway / (proxy + verification);
        notes.push(format!("callback, new tokens: {ratio:.2} of a hyper proxy with one RSA verification"));
    }
    notes
}

/// The table of the gateway's memory and times.
pub(super) fn footprint_table(footprints: &[Footprint]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<32}{:>10}{:>10}{:>14}{:>24}",
        "gateway with a fleet of", "start", "reload", "idle memory", "10,000 connections"
    )];
    for one in footprints {
        let name = format!("{}{}", one.instances, if one.tls { ", TLS" } else { "" });
        let connected = one.connected_kib.map_or_else(|| "–".to_owned(), mebibytes);
        lines.push(format!(
            "{name:<32}{:>10}{:>10}{:>14}{connected:>24}",
            milliseconds(one.start),
            milliseconds(one.reload),
            mebibytes(one.memory_kib),
        ));
    }
    lines
}

/// All results as JSON, with the figure of each round.
pub(super) fn json(machine: &[(&str, String)], rows: &[Row], footprints: &[Footprint]) -> Value {
    let machine: Map<String, Value> =
        machine.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let rows: Map<String, Value> = rows
        .iter()
        .map(|row| {
            let cells: Map<String, Value> = row
                .cells
                .iter()
                .map(|cell| {
                    let value = json!({ "median_us": median(cell), "rounds_us": cell.microseconds });
                    (cell.server.name().to_owned(), value)
                })
                .collect();
            (row.measure.name.to_owned(), Value::Object(cells))
        })
        .collect();
    let footprints: Vec<_> = footprints
        .iter()
        .map(|one| {
            json!({
                "instances": one.instances,
                "tls": one.tls,
                "start_ms": one.start.as_secs_f64() * 1_000.0,
                "reload_ms": one.reload.as_secs_f64() * 1_000.0,
                "idle_kib": one.memory_kib,
                "connected_kib": one.connected_kib,
            })
        })
        .collect();
    json!({ "machine": machine, "cpu_time_per_request": rows, "footprint": footprints })
}

/// The median of the rounds.
fn median(cell: &Cell) -> f64 {
    let mut values = cell.microseconds.clone();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) }
}

/// The largest distance of a round from the median, as a part of the median.
fn spread(cell: &Cell) -> f64 {
    let median = median(cell);
    cell.microseconds.iter().map(|value| (value / median - 1.0).abs()).fold(0.0, f64::max)
}

fn mebibytes(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

fn milliseconds(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measures::MEASURES;

    fn cell(server: Server, microseconds: &[f64]) -> Cell {
        Cell { server, microseconds: microseconds.to_vec() }
    }

    #[test]
    fn a_row_has_medians_ratios_and_the_spread() {
        assert_eq!(median(&cell(Server::Gateway, &[3.0, 1.0, 2.0])), 2.0);
        assert_eq!(median(&cell(Server::Gateway, &[4.0, 1.0])), 2.5);
        let cells = vec![
            cell(Server::Gateway, &[20.0, 22.0, 21.0]),
            cell(Server::Nginx, &[14.0, 14.0, 14.0]),
            cell(Server::LargeFleet, &[40.0]),
        ];
        let row = Row { measure: MEASURES[0], cells };
        let table = table(std::slice::from_ref(&row));
        let words: Vec<_> = table[1].split_whitespace().collect();
        assert_eq!(
            words,
            ["callback,", "known", "token", "21.0", "14.0", "–", "–", "1.50", "–", "–", "5", "%"]
        );
        assert_eq!(table[2].trim(), "gateway, fleet of 10,000           40.0");
        let json = json(&[("CPU", "x".to_owned())], &[row], &[]);
        assert_eq!(json["cpu_time_per_request"]["callback"]["nginx"]["median_us"], 14.0);
    }

    #[test]
    fn notes_compare_generators_and_the_cost_of_new_tokens() {
        let row = |name: &str, gateway: f64, proxy: f64| {
            let measure = *MEASURES.iter().find(|measure| measure.name == name).unwrap();
            let cells = vec![cell(Server::Gateway, &[gateway]), cell(Server::HyperProxy, &[proxy])];
            Row { measure, cells }
        };
        let rows =
            [row("callback", 20.0, 10.0), row("callback-own", 21.0, 9.0), row("new-token", 44.0, 15.0)];
        assert_eq!(
            notes(&rows, 25.0),
            [
                "own generator: at most -10 % beside wrk",
                "callback, new tokens: 1.10 of a hyper proxy with one RSA verification",
            ]
        );
        assert!(notes(&[], 25.0).is_empty());
    }

    #[test]
    fn memory_has_one_decimal() {
        assert_eq!(mebibytes(12 * 1024 + 512), "12.5 MiB");
    }
}
