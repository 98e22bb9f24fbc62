//! The results as tables and as JSON.

use serde_json::{Map, Value, json};

use super::{
    comparison::{Cell, Row},
    footprint::Footprint,
    goals,
    measures::PROXIES,
    results::Results,
    subjects::Server,
};

/// All results as lines of text.
pub(super) fn text(results: &Results) -> Vec<String> {
    let mut parts = Vec::new();
    if !results.rows.is_empty() {
        parts.push(table(&results.rows).into_iter().chain(notes(results)).collect());
    }
    parts.extend(results.rows.iter().filter(|row| row.rate.is_some()).map(|row| latencies(results, row)));
    if !results.footprints.is_empty() {
        parts.push(footprint_table(&results.footprints));
    }
    parts.push(goals::table(results));
    parts.join(&String::new())
}

/// The table of CPU times: medians, the gateway's ratio to each other server, and the largest distance of a
/// round from its median.
fn table(rows: &[Row]) -> Vec<String> {
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
        let median_of = |server: Server| row.cell(server).map(Cell::cpu_us);
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
        let spread = row.cells.iter().map(Cell::spread).fold(0.0, f64::max);
        line.push_str(&format!("{:>6.0} %", spread * 100.0));
        lines.push(line);
        for cell in row.cells.iter().filter(|cell| cell.server.is_variant()) {
            lines.push(format!("  {:<30}{:>9.1}", cell.server.name(), cell.cpu_us()));
        }
    }
    lines
}

/// Lines below the table: the agreement of the generators.
fn notes(results: &Results) -> Option<String> {
    let differences = PROXIES.iter().filter_map(|server| {
        Some(results.cpu_us("callback-own", *server)? / results.cpu_us("callback", *server)? - 1.0)
    });
    let largest = differences.max_by(|one, other| one.abs().total_cmp(&other.abs()))?;
    Some(format!("own generator: at most {:+.0} % beside wrk", largest * 100.0))
}

/// The table of the times of responses at a constant rate.
fn latencies(results: &Results, row: &Row) -> Vec<String> {
    let title = format!("{}: {} a second, p99, ms", row.measure.title, row.rate.unwrap_or_default());
    let mut lines = vec![format!("{title:<56}{:>12}{:>12}", "p99", "added")];
    for cell in &row.cells {
        let text = |value: Option<f64>| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{:.2}", value / 1_000.0))
        };
        let added = results.p99_added_us(row.measure.name, cell.server);
        let added = added.filter(|_| cell.server != Server::Upstream);
        lines.push(format!("{:<56}{:>12}{:>12}", cell.server.name(), text(cell.p99_us()), text(added)));
    }
    lines
}

/// The table of the gateway's memory and times.
fn footprint_table(footprints: &[Footprint]) -> Vec<String> {
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
pub(super) fn json(machine: &[(&str, String)], results: &Results) -> Value {
    let machine: Map<String, Value> =
        machine.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let rows: Map<String, Value> = results
        .rows
        .iter()
        .map(|row| {
            let cells: Map<String, Value> = row
                .cells
                .iter()
                .map(|cell| {
                    let cpu_us: Vec<_> = cell.rounds.iter().map(|round| round.cpu_us).collect();
                    let p99_us: Option<Vec<_>> = cell.rounds.iter().map(|round| round.p99_us).collect();
                    let value = json!({ "median_us": cell.cpu_us(), "rounds_us": cpu_us, "p99_us": p99_us });
                    (cell.server.name().to_owned(), value)
                })
                .collect();
            (row.measure.name.to_owned(), Value::Object(cells))
        })
        .collect();
    let footprints: Vec<_> = results
        .footprints
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
    let goals = goals::json(results);
    json!({ "machine": machine, "cpu_time_per_request": rows, "footprint": footprints, "goals": goals })
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
    use crate::bench::results::tests::{cell, row};

    #[test]
    fn a_row_has_medians_ratios_and_the_spread() {
        let cells = vec![
            cell(Server::Gateway, &[(20.0, None), (22.0, None), (21.0, None)]),
            cell(Server::Nginx, &[(14.0, None); 3]),
            cell(Server::LargeFleet, &[(40.0, None)]),
        ];
        let row = Row { cells, ..row("callback", &[]) };
        let table = table(std::slice::from_ref(&row));
        let words: Vec<_> = table[1].split_whitespace().collect();
        assert_eq!(
            words,
            ["callback,", "known", "token", "21.0", "14.0", "–", "–", "1.50", "–", "–", "5", "%"]
        );
        assert_eq!(table[2].trim(), "gateway, fleet of 10,000           40.0");
        let json = json(&[("CPU", "x".to_owned())], &Results { rows: vec![row], ..Results::default() });
        assert_eq!(json["cpu_time_per_request"]["callback"]["nginx"]["median_us"], 14.0);
        assert_eq!(json["goals"][0]["met"], false);
    }

    #[test]
    fn the_generators_are_compared() {
        let rows = [("callback", 20.0, 10.0), ("callback-own", 21.0, 9.0)];
        let rows = rows.map(|(name, gateway, proxy)| {
            row(name, &[(Server::Gateway, gateway), (Server::HyperProxy, proxy)])
        });
        let results = Results { rows: rows.to_vec(), ..Results::default() };
        assert_eq!(notes(&results).unwrap(), "own generator: at most -10 % beside wrk");
        assert_eq!(notes(&Results::default()), None);
    }

    #[test]
    fn a_constant_rate_has_a_table_of_times() {
        let cells = vec![
            cell(Server::Gateway, &[(20.0, Some(310.0))]),
            cell(Server::Upstream, &[(9.0, Some(200.0))]),
        ];
        let rows = vec![Row { cells, rate: Some(9_000), ..row("half-load", &[]) }];
        let lines = text(&Results { rows, ..Results::default() });
        let found = |name: &str| {
            let line = lines.iter().rev().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(found("gateway"), ["0.31", "0.11"]);
        assert_eq!(found("upstream"), ["0.20", "–"]);
    }

    #[test]
    fn memory_has_one_decimal() {
        assert_eq!(mebibytes(12 * 1024 + 512), "12.5 MiB");
    }
}
