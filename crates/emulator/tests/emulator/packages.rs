//! The test helpers for Python and Node, in `packages`: their own tests, against this build of the emulator.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Runs the tests of a package with the first of `programs` that runs `probe`. Without one the test is
/// skipped; with `CI=true` that is a failure.
fn run_tests(package: &str, programs: &[&str], probe: &[&str], arguments: &[&str]) {
    let runs = |program: &&&str| {
        let mut command = Command::new(program);
        command.args(probe).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(program) = programs.iter().find(runs) else {
        let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!is_ci, "none of {programs:?} runs {probe:?}; run ./install-packages");
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packages").join(package);
    let output = Command::new(program)
        .args(arguments)
        .env("SWITCHBOARD_EMULATOR", env!("CARGO_BIN_EXE_switchboard-emulator"))
        .env("PYTHONPATH", folder.join("src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // Also a package that is installed brings the plugin.
        .env("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        .env("PYTEST_PLUGINS", "switchboard_emulator.pytest_plugin")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_python_package_passes_its_tests() {
    // Debian has pytest for its own Python only, which need not be the first one in PATH.
    let programs = ["python3", "/usr/bin/python3"];
    let pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider"];
    run_tests("python", &programs, &["-m", "pytest", "--version"], &pytest);
}

#[test]
fn the_node_package_passes_its_tests() {
    run_tests("node", &["node"], &["--version"], &["--test"]);
}
