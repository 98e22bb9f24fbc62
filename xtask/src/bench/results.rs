//! The results of all comparisons, and the figures that tables and goals take from them.

use super::{
    comparison::{Cell, Round, Row},
    footprint::Footprint,
    subjects::Server,
};

/// The results of a run.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) rows: Vec<Row>,
    pub(super) footprints: Vec<Footprint>,
    /// The CPU time of one RSA verification, in microseconds.
    pub(super) verification_us: f64,
}

impl Results {
    /// The median of the CPU time per request, in microseconds.
    pub(super) fn cpu_us(&self, row: &str, server: Server) -> Option<f64> {
        self.row(row)?.cell(server).map(Cell::cpu_us)
    }

    /// The ratio of the gateway's CPU time to that of another server.
    pub(super) fn ratio(&self, row: &str, other: Server) -> Option<f64> {
        Some(self.cpu_us(row, Server::Gateway)? / self.cpu_us(row, other)?)
    }

    /// The ratio of the gateway's CPU time for a new token to that of a proxy and one RSA verification.
    pub(super) fn new_token_ratio(&self) -> Option<f64> {
        let proxy = self.cpu_us("new-token", Server::HyperProxy)?;
        Some(self.cpu_us("new-token", Server::Gateway)? / (proxy + self.verification_us))
    }

    /// The 99th percentile of a server beyond that of the upstream without a proxy, in microseconds: the
    /// median of the rounds.
    pub(super) fn p99_added_us(&self, row: &str, server: Server) -> Option<f64> {
        let row = self.row(row)?;
        let (proxied, direct) = (row.cell(server)?, row.cell(Server::Upstream)?);
        let rounds = proxied.rounds.iter().zip(&direct.rounds);
        let added: Option<Vec<_>> = rounds.map(|(one, other)| Some(one.p99_us? - other.p99_us?)).collect();
        added.map(median)
    }

    /// The memory and the times of a gateway with one instance.
    pub(super) fn footprint(&self, tls: bool) -> Option<&Footprint> {
        self.footprints.iter().find(|one| one.instances == 1 && one.tls == tls)
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.measure.name == name)
    }
}

impl Row {
    pub(super) fn cell(&self, server: Server) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.server == server)
    }
}

impl Cell {
    /// The median of the CPU time per request, in microseconds.
    pub(super) fn cpu_us(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.cpu_us).collect())
    }

    /// The median of the 99th percentiles of the times of responses, in microseconds.
    pub(super) fn p99_us(&self) -> Option<f64> {
        self.rounds.iter().map(|round| round.p99_us).collect::<Option<_>>().map(median)
    }

    /// The largest distance of the CPU time of a round from the median, as a part of the median.
    pub(super) fn spread(&self) -> f64 {
        let median = self.cpu_us();
        self.rounds.iter().map(|round: &Round| (round.cpu_us / median - 1.0).abs()).fold(0.0, f64::max)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::measures::MEASURES;

    pub(in crate::bench) fn cell(server: Server, rounds: &[(f64, Option<f64>)]) -> Cell {
        let rounds = rounds.iter().map(|(cpu_us, p99_us)| Round { cpu_us: *cpu_us, p99_us: *p99_us });
        Cell { server, rounds: rounds.collect() }
    }

    /// A row with one round.
    pub(in crate::bench) fn row(name: &str, cpu_us: &[(Server, f64)]) -> Row {
        let measure = *MEASURES.iter().find(|measure| measure.name == name).unwrap();
        let cells = cpu_us.iter().map(|(server, cpu_us)| cell(*server, &[(*cpu_us, None)])).collect();
        Row { measure, rate: None, cells }
    }

    #[test]
    fn rounds_have_a_median_and_a_spread() {
        let rounds = cell(Server::Gateway, &[(20.0, None), (22.0, None), (21.0, None)]);
        assert_eq!(rounds.cpu_us(), 21.0);
        assert!((rounds.spread() - 1.0 / 21.0).abs() < 1e-9);
        assert_eq!(rounds.p99_us(), None);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }

    #[test]
    fn latency_is_added_round_by_round() {
        let proxied = cell(Server::Gateway, &[(1.0, Some(300.0)), (1.0, Some(950.0)), (1.0, Some(310.0))]);
        let direct = cell(Server::Upstream, &[(1.0, Some(200.0)), (1.0, Some(800.0)), (1.0, Some(190.0))]);
        let cells = vec![proxied, direct];
        let results = Results { rows: vec![Row { cells, ..row("half-load", &[]) }], ..Results::default() };
        assert_eq!(results.p99_added_us("half-load", Server::Gateway), Some(120.0));
        assert_eq!(results.p99_added_us("half-load", Server::Nginx), None);
    }

    #[test]
    fn a_new_token_is_compared_with_a_proxy_that_verifies_it() {
        let rows = vec![row("new-token", &[(Server::Gateway, 44.0), (Server::HyperProxy, 15.0)])];
        let results = Results { rows, verification_us: 25.0, ..Results::default() };
        assert_eq!(results.new_token_ratio(), Some(1.1));
    }
}
