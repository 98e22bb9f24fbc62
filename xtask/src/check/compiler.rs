//! The compiler that runs the gate: lints fail it only with the version that the gate is developed with.

use std::{fmt, path::Path};

use super::shell;

/// The installed compiler.
#[derive(Debug)]
pub(super) struct Compiler {
    /// Such as `1.95.0`.
    version: String,
}

impl Compiler {
    /// Reads the version of the compiler that is active in `root`.
    pub(super) fn installed(root: &Path) -> Result<Self, String> {
        Self::parse(&shell::output("rustc --version", root)?)
    }

    /// Reads `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let version = line.split_whitespace().nth(1).unwrap_or_default();
        let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
        let mut parts = version.split('.');
        let (Some(major), Some(minor)) = (number(parts.next()), number(parts.next())) else {
            return Err(format!("`rustc --version` printed no version: {}", line.trim()));
        };
        if (major, minor) < DEVELOPED_WITH {
            let (major, minor) = DEVELOPED_WITH;
            return Err(format!("rustc {version} is too old; install {major}.{minor} or newer"));
        }
        Ok(Self { version: version.to_owned() })
    }

    /// True if lints fail the gate. A newer compiler adds lints that the code was never checked with.
    pub(super) fn is_strict(&self) -> bool {
        let (major, minor) = DEVELOPED_WITH;
        self.version.starts_with(&format!("{major}.{minor}."))
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version } = self;
        if self.is_strict() {
            return write!(f, "rustc {version}: lints fail the gate");
        }
        let (major, minor) = DEVELOPED_WITH;
        write!(
            f,
            "rustc {version}: lints are shown but do not fail the gate, which is developed with \
             {major}.{minor}"
        )
    }
}

/// The version that the gate is developed with. It is also the oldest supported version, `rust-version` of
/// the workspace: raise both together.
const DEVELOPED_WITH: (u32, u32) = (1, 95);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let shown = Compiler::parse(line).map_or_else(|error| error, |compiler| compiler.to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn only_the_version_of_development_is_strict() {
        check("rustc 1.95.0 (59807616e 2026-04-14)\n", "rustc 1.95.0: lints fail the gate");
        check("rustc 1.95.3\n", "rustc 1.95.3: lints fail the gate");
        let lenient = "lints are shown but do not fail the gate, which is developed with 1.95";
        check("rustc 1.96.0 (x)", &format!("rustc 1.96.0: {lenient}"));
        check("rustc 1.950.0 (x)", &format!("rustc 1.950.0: {lenient}"));
        check("rustc 1.98.0-nightly (x)", &format!("rustc 1.98.0-nightly: {lenient}"));
        check("rustc 2.0.0", &format!("rustc 2.0.0: {lenient}"));
    }

    #[test]
    fn an_older_compiler_is_refused() {
        check("rustc 1.94.1 (x)", "rustc 1.94.1 is too old; install 1.95 or newer");
        check("clang", "`rustc --version` printed no version: clang");
    }

    #[test]
    fn the_workspace_states_the_same_minimum() {
        let (major, minor) = DEVELOPED_WITH;
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("\nrust-version = \"{major}.{minor}\"\n")));
    }
}
