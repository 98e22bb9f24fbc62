//! The test helpers for Python and Node: their installation, and their own tests.

use std::{fs, io, path::Path, process::Command};

use super::install::{Installed, finish};
use crate::console::say;

/// Installs the Python package as a user does, from a copy: its build writes into the folder.
pub(super) fn install_python(root: &Path, folder: &Path, python: Installed) -> Result<Installed, String> {
    let target = folder.join("python");
    copy(&root.join("packages/python"), &target)
        .map_err(|error| format!("cannot copy the Python package to {}: {error}", target.display()))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--force-reinstall"];
    finish(Command::new(&python.program).args(pip).arg("--no-deps").arg(target))?;
    Ok(python)
}

/// Runs the own tests of the packages, and returns the number of packages that failed. Each starts emulators
/// of its own.
pub(super) fn run_tests(
    root: &Path,
    python: &Result<Installed, String>,
    node: &Result<Installed, String>,
    emulator: &Path,
) -> usize {
    let run = |name, installed: &Result<Installed, String>, options: &[&str]| {
        let outcome = match installed {
            Ok(installed) => finish(
                Command::new(&installed.program)
                    .args(options)
                    .current_dir(root.join("packages").join(name))
                    .env("SWITCHBOARD_EMULATOR", emulator)
                    .env("PYTHONDONTWRITEBYTECODE", "1"),
            ),
            Err(problem) => Err(format!("cannot install it: {problem}")),
        };
        match outcome {
            Ok(_) => {
                say(&format!("ok      the test helpers for {name}"));
                0
            }
            Err(problem) => {
                say(&format!("failed  the test helpers for {name}\n{}", problem.trim_end()));
                1
            }
        }
    };
    run("python", python, &["-m", "pytest", "-q", "-p", "no:cacheprovider"]) + run("node", node, &["--test"])
}

/// Replaces the folder `target` by a copy of the folder `source`.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    match fs::remove_dir_all(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut folders = vec![(source.to_owned(), target.to_owned())];
    while let Some((from, to)) = folders.pop() {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let copied = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), copied));
            } else {
                fs::copy(entry.path(), copied)?;
            }
        }
    }
    Ok(())
}
