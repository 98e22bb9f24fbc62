//! The hint of a problem with an unknown setting.

/// Returns the end of the message about an unknown setting: the known setting that it resembles, or all known
/// ones if it resembles none. A name that only happens to be the nearest would mislead.
pub(super) fn hint(unknown: &str, known: &[&str]) -> String {
    let likeness = |name: &&&str| strsim::jaro_winkler(name, unknown);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        None => String::new(),
        Some(nearest) if likeness(&nearest) >= LIKENESS_MIN => {
            format!("; the nearest known one is `{nearest}`")
        }
        Some(_) => {
            let mut names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            names.sort_unstable();
            names.dedup();
            format!("; the known ones are {}", names.join(", "))
        }
    }
}

/// The likeness from which a known name is suggested. A slip of the keyboard is above it: `dealy` and `delay`
/// have 0.95, `bodies` and `body` 0.83. Other names are below it: `ca` and `callback_url` have 0.78, `port`
/// and `probe` 0.71.
const LIKENESS_MIN: f64 = 0.8;
