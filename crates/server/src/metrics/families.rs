//! Families of metrics, each written as a whole, in one of two text formats.

use std::fmt::{self, Display, Write};

use switchboard_delivery::HistogramReading;

use super::format::Format;

/// Writes whole families, so that no sample of one can end up in another.
///
/// A family without samples is not written. The type and the unit of a family follow from its method and its
/// name, so that one description fits both formats.
pub(super) struct Families<'a> {
    out: &'a mut String,
    format: Format,
    /// The first part of each name, with its underscore.
    prefix: &'static str,
}

/// The labels of one series: names and values.
type Labels<'l> = [(&'l str, &'l str)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Labels that describe the process. Its value is always 1.
    Info,
}

impl Kind {
    /// The type, and the end of the names of its samples.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Counter => ("counter", "_total"),
            Self::Gauge => ("gauge", ""),
            Self::Histogram => ("histogram", ""),
            Self::Info => ("info", "_info"),
        }
    }
}

impl<'a> Families<'a> {
    pub(super) fn new(out: &'a mut String, format: Format, prefix: &'static str) -> Self {
        Self { out, format, prefix }
    }

    /// Writes a counter. `name` is without `_total`.
    pub(super) fn counters<'l, L: AsRef<Labels<'l>>, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.simple(Kind::Counter, name, help, series)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    pub(super) fn gauges<'l, L: AsRef<Labels<'l>>, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.simple(Kind::Gauge, name, help, series)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: &impl Display) -> fmt::Result {
        self.gauges(name, help, [([], value)])
    }

    /// Writes labels that describe the process. `name` is without `_info`.
    pub(super) fn info<'l, L: AsRef<Labels<'l>>>(
        &mut self,
        name: &str,
        help: &str,
        labels: L,
    ) -> fmt::Result {
        self.simple(Kind::Info, name, help, [(labels, 1)])
    }

    pub(super) fn histograms<'l, L: AsRef<Labels<'l>>>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, HistogramReading)>,
    ) -> fmt::Result {
        let mut is_first = true;
        for (labels, HistogramReading { sum, buckets }) in series {
            if std::mem::take(&mut is_first) {
                self.metadata(Kind::Histogram, name, help)?;
            }
            let labels = labels.as_ref();
            for (bound, count) in &buckets {
                // Equal in both formats, and canonical in OpenMetrics: `1.0`, `+Inf`.
                let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() };
                self.sample(name, "_bucket", labels, Some(&bound), count)?;
            }
            let count = buckets.last().map_or(0, |(_, count)| *count);
            self.sample(name, "_sum", labels, None, &sum.as_secs_f64())?;
            self.sample(name, "_count", labels, None, &count)?;
        }
        Ok(())
    }

    fn simple<'l, L: AsRef<Labels<'l>>, V: Display>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let (_, suffix) = kind.words();
        let mut is_first = true;
        for (labels, value) in series {
            if std::mem::take(&mut is_first) {
                self.metadata(kind, name, help)?;
            }
            self.sample(name, suffix, labels.as_ref(), None, &value)?;
        }
        Ok(())
    }

    /// Writes the lines in front of the samples. Help texts are from this crate, and need no escapes.
    fn metadata(&mut self, kind: Kind, name: &str, help: &str) -> fmt::Result {
        let Self { out, format, prefix } = self;
        let (word, suffix) = kind.words();
        match format {
            // The older format knows names of samples only, and no information.
            Format::Text => {
                let word = if kind == Kind::Info { "gauge" } else { word };
                writeln!(out, "# HELP {prefix}{name}{suffix} {help}")?;
                writeln!(out, "# TYPE {prefix}{name}{suffix} {word}")
            }
            Format::OpenMetrics => {
                writeln!(out, "# TYPE {prefix}{name} {word}")?;
                if let Some(unit) = UNITS.iter().find(|unit| name.ends_with(**unit)) {
                    writeln!(out, "# UNIT {prefix}{name} {unit}")?;
                }
                writeln!(out, "# HELP {prefix}{name} {help}")
            }
        }
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &Labels<'_>,
        bound: Option<&str>,
        value: &impl Display,
    ) -> fmt::Result {
        let Self { out, prefix, .. } = self;
        write!(out, "{prefix}{name}{suffix}")?;
        let mut separator = '{';
        for (name, text) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            write!(out, "{separator}{name}=\"")?;
            separator = ',';
            for char in text.chars() {
                match char {
                    '\\' => out.push_str(r"\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str(r"\n"),
                    char => out.push(char),
                }
            }
            out.push('"');
        }
        writeln!(out, "{} {value}", if separator == ',' { "}" } else { "" })
    }
}

/// The units, which end the names of their families.
const UNITS: [&str; 2] = ["seconds", "bytes"];
