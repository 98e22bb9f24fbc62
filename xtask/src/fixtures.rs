//! `cargo xtask fixtures`: writes and checks the test data in `fixtures/`.

mod config;
mod fixture;
mod jwks;
pub(crate) mod keys;
mod notifications;
mod pss;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use self::fixture::Fixture;

/// The fixtures of all modules.
fn all() -> Vec<Fixture> {
    let modules =
        [config::fixtures, jwks::fixtures, keys::fixtures, notifications::fixtures, tokens::fixtures];
    modules.into_iter().flat_map(|fixtures| fixtures()).collect()
}

/// Writes the files that differ, and returns a summary. Deletes no file: one that no module generates may be
/// unfinished work.
pub(crate) fn write(root: &Path) -> io::Result<String> {
    let folder = root.join("fixtures");
    let fixtures = all();
    let mut written = 0_usize;
    for fixture in &fixtures {
        let path = folder.join(&fixture.path);
        if fs::read(&path).is_ok_and(|bytes| bytes == fixture.bytes) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &fixture.bytes)?;
        written += 1;
    }
    Ok(format!("fixtures: {} generated, {written} changed", fixtures.len()))
}

/// Returns the changes that `write` would make, and the files that no module generates.
pub(crate) fn check(root: &Path) -> Vec<String> {
    compare(&root.join("fixtures"), &all())
}

/// Compares the files of `folder` with `fixtures`.
fn compare(folder: &Path, fixtures: &[Fixture]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut generated: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for fixture in fixtures {
        if generated.insert(&fixture.path, &fixture.bytes).is_some() {
            problems.push(format!("fixtures/{}: generated twice; rename one", fixture.path));
        }
    }
    for (path, bytes) in &generated {
        match fs::read(folder.join(path)) {
            Ok(found) if found == *bytes => {}
            Ok(_) => {
                problems.push(format!("fixtures/{path}: differs from the generated file; run `{REMEDY}`"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                problems.push(format!("fixtures/{path}: missing; run `{REMEDY}`"));
            }
            Err(error) => problems.push(format!("fixtures/{path}: cannot read it: {error}")),
        }
    }
    match files(folder) {
        Ok(found) => problems.extend(
            found
                .iter()
                .filter(|path| !generated.contains_key(path.as_str()) && !is_written_by_hand(path))
                .map(|path| {
                    format!(
                        "fixtures/{path}: no module generates it; delete it or add it to xtask/src/fixtures"
                    )
                }),
        ),
        Err(error) => problems.push(format!("fixtures: cannot list the files: {error}")),
    }
    problems
}

/// True for the two exceptions: the list for readers, and the keys that sign everything else.
fn is_written_by_hand(path: &str) -> bool {
    path == "README.md" || path.starts_with("keys/not-secret-")
}

/// The paths of the files below `folder`, relative to it, with `/` between the parts.
fn files(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if inner.is_empty() { name } else { format!("{inner}/{name}") };
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// The command that repairs the problems that `check` finds.
const REMEDY: &str = "cargo xtask fixtures";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], generated: &[(&str, &str)], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let generated: Vec<_> = generated
            .iter()
            .map(|(path, text)| Fixture { path: (*path).to_owned(), bytes: text.as_bytes().to_owned() })
            .collect();
        assert_eq!(compare(folder.path(), &generated), expected);
    }

    #[test]
    fn generated_files_pass() {
        check(&[("a/b.json", "{}")], &[("a/b.json", "{}")], &[]);
    }

    #[test]
    fn a_changed_byte_and_a_missing_file_are_found() {
        check(
            &[("a/b.json", "{ }")],
            &[("a/b.json", "{}"), ("a/c.json", "{}")],
            &[
                "fixtures/a/b.json: differs from the generated file; run `cargo xtask fixtures`",
                "fixtures/a/c.json: missing; run `cargo xtask fixtures`",
            ],
        );
    }

    #[test]
    fn a_file_that_no_module_generates_is_found() {
        check(
            &[("a/b.json", "{}"), ("a/stray.json", "{}")],
            &[("a/b.json", "{}")],
            &["fixtures/a/stray.json: no module generates it; delete it or add it to xtask/src/fixtures"],
        );
    }

    #[test]
    fn the_readme_and_the_keys_are_written_by_hand() {
        check(&[("README.md", "x"), ("keys/not-secret-a.pem", "x")], &[], &[]);
    }

    #[test]
    fn two_modules_may_not_generate_the_same_file() {
        check(
            &[("a.json", "{}")],
            &[("a.json", "{}"), ("a.json", "{}")],
            &["fixtures/a.json: generated twice; rename one"],
        );
    }

    #[test]
    fn a_second_run_generates_the_same_bytes() {
        let bytes = |fixtures: Vec<Fixture>| {
            fixtures.into_iter().map(|one| (one.path, one.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(bytes(all()), bytes(all()));
    }
}
