//! The archive, and the digests of all files of a release.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::{
    commands,
    contents::{self, Item},
    release::Release,
};

/// Writes the archive into `folder`. `scratch` receives its files.
pub(super) fn write(release: &Release, items: &[Item], scratch: &Path, folder: &Path) -> Result<(), String> {
    let name = format!("{}.tar.gz", release.name());
    let tree = scratch.join("archive");
    commands::empty_folder(&tree)?;
    contents::write(items.iter(), &tree.join(release.name()), |item| &item.archive)?;
    let time = format!("--mtime=@{}", release.epoch);
    commands::output(
        Command::new("tar")
            .args(["--create", "--sort=name", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"])
            .args([&time, "--use-compress-program=gzip -9n"])
            .arg("--file")
            .arg(folder.join(&name))
            .arg("--directory")
            .args([&tree, Path::new(&release.name())]),
    )?;
    Ok(())
}

/// Writes `SHA256SUMS` for the files in a folder, in the format of `sha256sum`. Returns its lines.
pub(super) fn write_digests(folder: &Path) -> Result<String, String> {
    let unread = |error| format!("cannot read {}: {error}", folder.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && name != DIGESTS {
            names.insert(name);
        }
    }
    let mut lines = String::new();
    for name in names {
        let digest = commands::sha256(&commands::read_bytes(&folder.join(&name))?);
        lines.push_str(&format!("{digest}  {name}\n"));
    }
    commands::write(&folder.join(DIGESTS), &lines)?;
    Ok(lines)
}

/// The name of the file of digests.
pub(super) const DIGESTS: &str = "SHA256SUMS";
