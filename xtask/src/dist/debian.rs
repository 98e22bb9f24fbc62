//! The Debian package.

use std::{fs, path::Path, process::Command};

use super::{
    commands,
    contents::{self, Item},
    release::Release,
};

/// The settings of one package.
pub(super) struct Settings<'s> {
    /// The part of the version after the dash.
    pub(super) revision: u32,
    /// The libraries of the field `Depends`.
    pub(super) libraries: &'s str,
    pub(super) compression: Compression,
}

/// The compression of a package.
#[derive(Clone, Copy)]
pub(super) enum Compression {
    /// For a release.
    Small,
    /// For a package that need not be small.
    Fast,
    Absent,
}

/// The files that only the package has.
fn own_items(release: &Release, revision: u32) -> Result<Vec<Item>, String> {
    let read = |name: &str| commands::read(&release.root.join(name));
    let changelog = read("deploy/debian/changelog")?
        .replace("{version}", &release.debian_version(revision))
        .replace("{date}", &release.date("+%a, %d %b %Y %H:%M:%S +0000")?);
    let licence = read("LICENSE-MIT")?;
    // The format of the file: each line starts with a blank, and a dot stands for an empty one. Its own form
    // of the title and of the holder of the copyright come before.
    let (_, conditions) = licence.split_once("\n\nPermission").ok_or("LICENSE-MIT has no permission")?;
    let conditions: Vec<String> = format!("Permission{conditions}")
        .lines()
        .map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") })
        .collect();
    let copyright = read("deploy/debian/copyright")?.replace("{MIT}", &conditions.join("\n"));
    let folder = "usr/share/doc/switchboard-gateway";
    Ok(vec![
        Item::file("", &format!("{folder}/changelog.Debian.gz"), changelog),
        Item::file("", &format!("{folder}/copyright"), copyright),
    ])
}

/// Writes the package with the files that the archive has, too, into `folder`. `scratch` receives its files.
pub(super) fn write(
    release: &Release,
    common: &[Item],
    settings: &Settings<'_>,
    scratch: &Path,
    folder: &Path,
) -> Result<(), String> {
    let tree = scratch.join("debian");
    commands::empty_folder(&tree)?;
    let own = own_items(release, settings.revision)?;
    let items = || common.iter().chain(&own);
    contents::write(items(), &tree, |item| &item.debian)?;
    let version = release.debian_version(settings.revision);
    let mut files: Vec<&str> =
        items().map(|item| item.debian.as_str()).filter(|path| !path.is_empty()).collect();
    files.sort_unstable();

    let control = commands::read(&release.root.join("deploy/debian/control"))?
        .replace("{version}", &version)
        .replace("{architecture}", &release.architecture)
        .replace("{libraries}", settings.libraries)
        .replace("{installed size}", &installed_size(&tree)?.to_string());
    let mut digests = String::new();
    for file in &files {
        let bytes = commands::read_bytes(&tree.join(file))?;
        let digest = openssl::hash::hash(openssl::hash::MessageDigest::md5(), &bytes)
            .map_err(|error| format!("cannot compute an MD5 digest: {error}"))?;
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        digests.push_str(&format!("{digest}  {file}\n"));
    }
    let conffiles = files.iter().filter(|file| file.starts_with("etc/"));
    let conffiles: String = conffiles.map(|file| format!("/{file}\n")).collect();

    let information = tree.join("DEBIAN");
    commands::empty_folder(&information)?;
    contents::set_mode(&information, 0o755)?;
    let add = |name: &str, text: String, mode| {
        commands::write(&information.join(name), text)?;
        contents::set_mode(&information.join(name), mode)
    };
    add("control", control, 0o644)?;
    add("md5sums", digests, 0o644)?;
    add("conffiles", conffiles, 0o644)?;
    for script in SCRIPTS {
        add(script, commands::read(&release.root.join("deploy/debian").join(script))?, 0o755)?;
    }

    let package = folder.join(file_name(release, settings.revision));
    commands::output(
        Command::new("dpkg-deb")
            .arg("--root-owner-group")
            .args(match settings.compression {
                Compression::Small => ["-Zxz", "-z6"].as_slice(),
                Compression::Fast => &["-Zxz", "-z0"],
                Compression::Absent => &["-Znone"],
            })
            .arg("--build")
            .args([&tree, &package])
            .env("SOURCE_DATE_EPOCH", release.epoch.to_string()),
    )?;
    Ok(())
}

/// Examines the package in a folder with lintian. Returns its remarks; an error of the package is a failure.
pub(super) fn lint(release: &Release, folder: &Path) -> Result<String, String> {
    let package = folder.join(file_name(release, 1));
    let options = ["--allow-root", "--fail-on", "error", "--tag-display-limit", "0"];
    commands::output(Command::new("lintian").args(options).arg(package))
}

fn file_name(release: &Release, revision: u32) -> String {
    format!("switchboard-gateway_{}_{}.deb", release.debian_version(revision), release.architecture)
}

/// The size in KiB as the policy of Debian counts it: each file rounded up, and one for each folder.
fn installed_size(folder: &Path) -> Result<u64, String> {
    let unread = |error| format!("cannot read {}: {error}", folder.display());
    let mut size = 1;
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let metadata = entry.metadata().map_err(unread)?;
        size +=
            if metadata.is_dir() { installed_size(&entry.path())? } else { metadata.len().div_ceil(1024) };
    }
    Ok(size)
}

/// The programs that dpkg runs at its steps.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

#[cfg(test)]
mod tests {
    use super::{super::archive, *};

    #[test]
    fn files_from_another_folder_have_the_same_bytes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let release = Release {
            root,
            version: "0.2.0-rc.1".to_owned(),
            revision: String::new(),
            epoch: 1_700_000_000,
            target: "x86_64-unknown-linux-gnu".to_owned(),
            compiler: "1.95.0".to_owned(),
            architecture: "amd64".to_owned(),
        };
        let items = [
            Item::program("switchboard", b"program".to_vec()),
            Item::file("switchboard.toml", "etc/switchboard/switchboard.toml", "region = \"emea\"\n"),
            Item::file("README.md", "", "text"),
        ];
        let digests_of = |name: &str| {
            let folder = tempfile::tempdir().unwrap();
            let scratch = folder.path().join(name);
            let compression = Compression::Fast;
            let settings = Settings { revision: 1, libraries: "libc6 (>= 2.34)", compression };
            write(&release, &items, &settings, &scratch, folder.path()).unwrap();
            archive::write(&release, &items, &scratch, folder.path()).unwrap();
            archive::write_digests(folder.path()).unwrap()
        };
        let (one, other) = (digests_of("one"), digests_of("another-name"));
        assert_eq!(one, other);
        assert_eq!(one.lines().count(), 2);
        assert!(one.contains("  switchboard-gateway_0.2.0~rc.1-1_amd64.deb\n"), "{one}");
    }
}
