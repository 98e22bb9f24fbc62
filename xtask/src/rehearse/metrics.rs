//! The metrics of a gateway at one moment.

use std::net::SocketAddr;

use crate::support::http;

/// The samples of one scrape.
pub(super) struct Metrics(Vec<Sample>);

struct Sample {
    name: String,
    /// As in the text: `bot="bot-0",state="ready"`.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads the metrics from the admin listener at `admin`.
    pub(super) fn read(admin: SocketAddr) -> Result<Self, String> {
        match http::get(admin, "/metrics")? {
            (200, text) => Ok(Self::parse(&text)),
            (status, _) => Err(format!("http://{admin}/metrics returned {status}")),
        }
    }

    /// Reads the text of metrics, in either format.
    pub(super) fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}')?),
                None => (series, ""),
            };
            let value = value.parse().ok()?;
            Some(Sample { name: name.to_owned(), labels: labels.to_owned(), value })
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of the series of a name whose labels contain each of `labels`, like `state="ready"`.
    pub(super) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|label| sample.labels.contains(label))
        };
        // The empty sum of floating point numbers is -0.
        self.0.iter().filter(fits).map(|sample| sample.value).sum::<f64>() + 0.0
    }

    /// The growth of the same sum since an earlier scrape.
    pub(super) fn growth(&self, before: &Self, name: &str, labels: &[&str]) -> f64 {
        self.sum(name, labels) - before.sum(name, labels)
    }

    /// The growth of each series of a name since an earlier scrape, with its labels, if it has grown.
    pub(super) fn grown(&self, before: &Self, name: &str) -> Vec<(&str, f64)> {
        let of_name = self.0.iter().filter(|sample| sample.name == name);
        let growth = of_name.map(|sample| {
            let then = before.0.iter().find(|then| then.name == name && then.labels == sample.labels);
            (sample.labels.as_str(), sample.value - then.map_or(0.0, |then| then.value))
        });
        growth.filter(|(_, growth)| *growth > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_their_labels() {
        let before =
            Metrics::parse("# TYPE a counter\na_total{i=\"x\",s=\"1\"} 2\na_total{i=\"y\",s=\"1\"} 3\n");
        let after = Metrics::parse("a_total{i=\"x\",s=\"1\"} 7\na_total{i=\"z\",s=\"1\"} 1\nb 0.5\n# EOF\n");
        assert_eq!((before.sum("a_total", &[]), before.sum("a_total", &["i=\"y\""])), (5.0, 3.0));
        assert_eq!(after.growth(&before, "a_total", &["i=\"x\"", "s=\"1\""]), 5.0);
        assert_eq!(after.grown(&before, "a_total"), [("i=\"x\",s=\"1\"", 5.0), ("i=\"z\",s=\"1\"", 1.0)]);
        assert_eq!((after.sum("b", &[]), after.sum("c", &[])), (0.5, 0.0));
    }
}
