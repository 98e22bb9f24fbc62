//! The files of a release, with their places in the archive and in the Debian package.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use super::{build::Programs, commands};

/// One file.
pub(super) struct Item {
    /// Its path in the archive; empty if it is not there.
    pub(super) archive: String,
    /// Its path in the Debian package, without the first slash; empty if it is not there. If it ends with
    /// `.gz`, the file is compressed.
    pub(super) debian: String,
    mode: u32,
    bytes: Vec<u8>,
}

impl Item {
    pub(super) fn file(archive: &str, debian: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { archive: archive.to_owned(), debian: debian.to_owned(), mode: 0o644, bytes: bytes.into() }
    }

    pub(super) fn program(name: &str, bytes: Vec<u8>) -> Self {
        Self { mode: 0o755, ..Self::file(&format!("bin/{name}"), &format!("usr/bin/{name}"), bytes) }
    }

    /// Adds lines at the end.
    pub(super) fn append(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

/// The files that the repository has as they are, with their paths in the archive and in the package.
const FILES: [(&str, &str, &str); 5] = [
    ("LICENSE-APACHE", "LICENSE-APACHE", ""),
    // The package has them in `copyright`.
    ("LICENSE-MIT", "LICENSE-MIT", ""),
    ("CHANGELOG.md", "CHANGELOG.md", "usr/share/doc/switchboard-gateway/changelog.gz"),
    ("README.md", "README.md", ""),
    (CONFIGURATION, "switchboard.toml", "etc/switchboard/switchboard.toml"),
];

/// The example configuration.
pub(super) const CONFIGURATION: &str = "deploy/debian/switchboard.toml";

/// A file that a program prints, such as a manual page or a completion: the program, its arguments, and the
/// paths of the output in the archive and in the package.
type Printed = (&'static str, &'static [&'static str], &'static str, &'static str);

const PRINTED: [Printed; 0] = [];

/// Reads the files of the repository, and runs the programs for the files that they print.
pub(super) fn items(root: &Path, programs: &Programs) -> Result<Vec<Item>, String> {
    let files = FILES.iter().map(|(source, archive, debian)| {
        commands::read_bytes(&root.join(source)).map(|bytes| Item::file(archive, debian, bytes))
    });
    let printed = PRINTED.iter().map(|(program, arguments, archive, debian)| {
        let text = commands::output(Command::new(programs.path(program)).args(*arguments))?;
        Ok(Item::file(archive, debian, text))
    });
    files.chain(printed).chain(units(root)?).collect()
}

/// The units of systemd.
fn units(root: &Path) -> Result<Vec<Result<Item, String>>, String> {
    let folder = root.join("deploy/systemd");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".service") || name.ends_with(".socket"));
    names.sort();
    let item = |name: &String| {
        let bytes = commands::read_bytes(&folder.join(name))?;
        Ok(Item::file(&format!("systemd/{name}"), &format!("lib/systemd/system/{name}"), bytes))
    };
    Ok(names.iter().map(item).collect())
}

/// Writes the items below a folder, each at the path that `place` returns.
pub(super) fn write<'i>(
    items: impl Iterator<Item = &'i Item>,
    folder: &Path,
    place: fn(&Item) -> &str,
) -> Result<(), String> {
    for item in items.filter(|item| !place(item).is_empty()) {
        let path = folder.join(place(item));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| format!("cannot create {}: {error}", parent.display()))?;
        }
        if place(item).ends_with(".gz") {
            commands::write(&path, compressed(&item.bytes)?)?;
        } else {
            commands::write(&path, &item.bytes)?;
        }
        set_mode(&path, item.mode)?;
    }
    set_folder_modes(folder)
}

/// The mode does not depend on the umask of the user that packs the files.
fn set_folder_modes(folder: &Path) -> Result<(), String> {
    set_mode(folder, 0o755)?;
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot read {}: {error}", folder.display()))?.path();
        if path.is_dir() {
            set_folder_modes(&path)?;
        }
    }
    Ok(())
}

/// Sets the permissions of a file or folder.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| format!("cannot set the mode of {}: {error}", path.display()))
}

/// Compresses like `gzip -9n`, which writes neither a name nor a time.
fn compressed(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot run gzip: {error}");
    let mut gzip = Command::new("gzip")
        .arg("-9n")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut input = gzip.stdin.take().ok_or("gzip has no input")?;
    let bytes = bytes.to_owned();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = gzip.wait_with_output().map_err(failed)?;
    match writer.join() {
        Ok(Ok(())) if output.status.success() => Ok(output.stdout),
        _ => Err("gzip failed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_modes_and_compressed_ones_no_time() {
        let folder = tempfile::tempdir().unwrap();
        let items = [
            Item::program("switchboard", b"program".to_vec()),
            Item::file("", "usr/share/doc/a/changelog.gz", "text"),
            Item::file("README.md", "", "text"),
        ];
        write(items.iter(), folder.path(), |item| &item.debian).unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("usr/bin/switchboard"), 0o755);
        assert_eq!(mode("usr/share/doc/a"), 0o755);
        assert_eq!(mode("usr/share/doc/a/changelog.gz"), 0o644);
        assert!(!folder.path().join("README.md").exists());
        let bytes = fs::read(folder.path().join("usr/share/doc/a/changelog.gz")).unwrap();
        // RFC 1952: the flags, and then the time.
        assert_eq!(bytes[3..8], [0; 5]);
    }
}
