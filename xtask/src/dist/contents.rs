//! The files of a release, with their places in the archive and in the Debian package.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    build::{PROGRAMS, Programs},
    commands,
};

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
const FILES: [(&str, &str, &str); 6] = [
    ("LICENSE-APACHE", "LICENSE-APACHE", ""),
    // The package has them in `copyright`.
    ("LICENSE-MIT", "LICENSE-MIT", ""),
    ("CHANGELOG.md", "CHANGELOG.md", "usr/share/doc/switchboard-gateway/changelog.gz"),
    ("README.md", "README.md", ""),
    (
        "docs/switchboard.schema.json",
        "switchboard.schema.json",
        "usr/share/switchboard-gateway/switchboard.schema.json",
    ),
    (CONFIGURATION, "switchboard.toml", "etc/switchboard/switchboard.toml"),
];

/// The example configuration.
pub(super) const CONFIGURATION: &str = "deploy/debian/switchboard.toml";

/// The shells, each with the place of a program's completions in the archive and in the package.
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", "completions/NAME.bash", "usr/share/bash-completion/completions/NAME"),
    ("zsh", "completions/_NAME", "usr/share/zsh/vendor-completions/_NAME"),
    ("fish", "completions/NAME.fish", "usr/share/fish/vendor_completions.d/NAME.fish"),
];

/// Reads the files of the repository, and runs the programs for their completions and manual pages.
pub(super) fn items(root: &Path, programs: &Programs, scratch: &Path) -> Result<Vec<Item>, String> {
    let files = FILES.iter().map(|(source, archive, debian)| {
        commands::read_bytes(&root.join(source)).map(|bytes| Item::file(archive, debian, bytes))
    });
    let mut items = files.chain(units(root)?).collect::<Result<Vec<_>, _>>()?;
    for name in PROGRAMS {
        for (shell, archive, debian) in SHELLS {
            let script = commands::output(Command::new(programs.path(name)).args(["completions", shell]))?;
            items.push(Item::file(&archive.replace("NAME", name), &debian.replace("NAME", name), script));
        }
    }
    items.extend(manual(programs, &scratch.join("man"))?);
    Ok(items)
}

/// The manual pages of both programs, which write them into a folder.
fn manual(programs: &Programs, folder: &Path) -> Result<Vec<Item>, String> {
    commands::empty_folder(folder)?;
    for name in PROGRAMS {
        commands::output(Command::new(programs.path(name)).arg("man").arg(folder))?;
    }
    let pages = sorted_names(folder, &[".1"])?;
    let item = |name: &String| {
        let bytes = commands::read_bytes(&folder.join(name))?;
        Ok(Item::file(&format!("man/man1/{name}"), &format!("usr/share/man/man1/{name}.gz"), bytes))
    };
    pages.iter().map(item).collect()
}

/// The units of systemd.
fn units(root: &Path) -> Result<Vec<Result<Item, String>>, String> {
    let folder = root.join("deploy/systemd");
    let names = sorted_names(&folder, &[".service", ".socket"])?;
    let item = |name: &String| {
        let bytes = commands::read_bytes(&folder.join(name))?;
        Ok(Item::file(&format!("systemd/{name}"), &format!("lib/systemd/system/{name}"), bytes))
    };
    Ok(names.iter().map(item).collect())
}

/// The names of the files of a folder that have one of these ends, in an order that no file system decides.
fn sorted_names(folder: &Path, ends: &[&str]) -> Result<Vec<String>, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| ends.iter().any(|end| name.ends_with(end)));
    names.sort();
    Ok(names)
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
