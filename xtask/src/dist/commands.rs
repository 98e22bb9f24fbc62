//! Programs that run to their end, and files, with errors that name them.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// Runs a program without input, in the language of the parsers. Returns its standard output, or the end of
/// all its output if it fails.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let all = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = all.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines.get(lines.len().saturating_sub(LINES_MAX)..).unwrap_or_default();
    Err(format!("{name} failed ({}):\n  {}", output.status, end.join("\n  ")))
}

/// Reads a file as text.
pub(super) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Reads a file as bytes.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Writes a file.
pub(super) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Makes a folder that is empty.
pub(super) fn empty_folder(path: &Path) -> Result<(), String> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    fs::create_dir_all(path).map_err(|error| format!("cannot create {}: {error}", path.display()))
}

/// The SHA-256 of bytes in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    openssl::sha::sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns true in continuous integration, where nothing may be left out.
pub(super) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

const LINES_MAX: usize = 40;
