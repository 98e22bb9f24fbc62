//! `Sampler`: the decision whether the spans of a request are recorded.

use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{Sampler as RootSampler, SamplingDecision, ShouldSample};
use switchboard_delivery::TraceParent;

/// The sampler that `OTEL_TRACES_SAMPLER` names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampler {
    /// True if the sender of a request with a `traceparent` decides.
    by_parent: bool,
    root: Root,
}

/// The decision on a trace that starts here.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Root {
    Always,
    Never,
    /// This share of the traces, by their ids: every service with the same share has the same traces.
    Ratio(f64),
}

impl Sampler {
    pub(super) const DEFAULT: Self = Self { by_parent: true, root: Root::Always };

    /// The names of all samplers.
    pub(super) const NAMES: [&'static str; 6] = [
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ];

    /// The sampler of this name, with this ratio if it has one.
    pub(super) fn of(name: &str, ratio: f64) -> Option<Self> {
        let (by_parent, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let root = match root {
            "always_on" => Root::Always,
            "always_off" => Root::Never,
            "traceidratio" => Root::Ratio(ratio),
            _ => return None,
        };
        Some(Self { by_parent, root })
    }

    pub(super) fn has_ratio(&self) -> bool {
        matches!(self.root, Root::Ratio(_))
    }

    /// Returns true if the spans of a request are recorded. `parent` is what its sender says.
    pub(super) fn samples(&self, parent: Option<TraceParent>, trace_id: u128) -> bool {
        match (parent, self.root) {
            (Some(parent), _) if self.by_parent => parent.is_sampled,
            (_, Root::Always) => true,
            (_, Root::Never) => false,
            (_, Root::Ratio(ratio)) => {
                let by_id = RootSampler::TraceIdRatioBased(ratio);
                let id = TraceId::from(trace_id);
                by_id.should_sample(None, id, "", &SpanKind::Server, &[], &[]).decision
                    == SamplingDecision::RecordAndSample
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Low and high in the part of the id that the ratio is applied to.
    const LOW: u128 = 1;
    const HIGH: u128 = 0xffff_ffff_ffff_ffff;

    #[test]
    fn the_parent_decides_where_the_sampler_says_so() {
        let parent = |is_sampled| Some(TraceParent { trace_id: LOW, span_id: 1, is_sampled });
        // Without a parent and with a low or a high id, then with a parent that is and that is not sampled.
        for (name, expected) in [
            ("always_on", [true, true, true, true]),
            ("always_off", [false, false, false, false]),
            ("traceidratio", [true, false, true, true]),
            ("parentbased_always_on", [true, true, true, false]),
            ("parentbased_always_off", [false, false, true, false]),
            ("parentbased_traceidratio", [true, false, true, false]),
        ] {
            let sampler = Sampler::of(name, 0.5).unwrap();
            let found = [(None, LOW), (None, HIGH), (parent(true), LOW), (parent(false), LOW)]
                .map(|(parent, id)| sampler.samples(parent, id));
            assert_eq!(found, expected, "{name}");
        }
        assert!(Sampler::NAMES.iter().all(|name| Sampler::of(name, 1.0).is_some()));
        assert_eq!(Sampler::of("parentbased_jaeger_remote", 1.0), None);
    }

    #[test]
    fn a_ratio_of_0_is_never_and_of_1_is_always() {
        for id in [LOW, HIGH] {
            assert!(!Sampler::of("traceidratio", 0.0).unwrap().samples(None, id));
            assert!(Sampler::of("traceidratio", 1.0).unwrap().samples(None, id));
        }
    }
}
