//! The crates that differ from the main branch, and the crates that depend on them.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use serde::Deserialize;

use super::shell;

/// The crates that `check --quick` lints and tests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// The branch and the commit that the working tree is compared with.
    pub(super) base: String,
    /// The crates with changed files, and the crates whose tests read a changed file.
    pub(super) tested: BTreeSet<String>,
    /// The tested crates, and the crates that depend on them.
    pub(super) linted: BTreeSet<String>,
}

impl Changes {
    /// Compares the working tree, including uncommitted files, with the commit at which it left the main
    /// branch.
    pub(super) fn find(root: &Path) -> Result<Self, String> {
        let branch = BRANCHES
            .into_iter()
            .find(|branch| shell::is_installed(&format!("git rev-parse --verify {branch}"), root))
            .ok_or("there is no branch origin/main or main to compare with; run the gate without --quick")?;
        let base = shell::output(&format!("git merge-base HEAD {branch}"), root)?.trim().to_owned();
        let mut files = String::new();
        for line in [
            format!("git diff --name-only --no-renames --no-relative -z {base}"),
            "git ls-files --others --exclude-standard -z".to_owned(),
        ] {
            files.push_str(&shell::output(&line, root)?);
        }
        let files: Vec<_> = files.split('\0').filter(|file| !file.is_empty()).collect();
        let base = format!("{branch} at {}", base.get(..9).unwrap_or(&base));
        Ok(Self::of(base, &files, &members(root)?))
    }

    fn of(base: String, files: &[&str], members: &[Member]) -> Self {
        let tested: BTreeSet<_> = members
            .iter()
            .filter(|member| files.iter().any(|file| member.is_concerned(file)))
            .map(|member| member.name.clone())
            .collect();
        let mut linted = tested.clone();
        // Each round adds the crates one step further away.
        loop {
            let more: Vec<_> = members
                .iter()
                .filter(|member| member.siblings.iter().any(|sibling| linted.contains(sibling)))
                .map(|member| member.name.clone())
                .filter(|name| !linted.contains(name))
                .collect();
            if more.is_empty() {
                return Self { base, tested, linted };
            }
            linted.extend(more);
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &mut dyn Iterator<Item = &String>| {
            names.map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        if self.tested.is_empty() {
            return write!(f, "no crate differs from {}", self.base);
        }
        write!(f, "these crates differ from {}: {}", self.base, list(&mut self.tested.iter()))?;
        let dependents = list(&mut self.linted.difference(&self.tested));
        if dependents.is_empty() { Ok(()) } else { write!(f, "; linted only: {dependents}") }
    }
}

/// A crate of the workspace.
struct Member {
    name: String,
    /// Relative to the root, with a `/` at the end.
    folder: String,
    /// The crates of the workspace that it depends on.
    siblings: BTreeSet<String>,
    sources: String,
}

impl Member {
    /// True if the file is in the crate, decides how it is built, or is read by its sources.
    fn is_concerned(&self, file: &str) -> bool {
        let read = if file.starts_with("fixtures/") { "fixtures" } else { file };
        file.starts_with(&self.folder)
            || EVERYWHERE.contains(&file)
            || self.sources.contains(&format!("../{read}"))
    }
}

fn members(root: &Path) -> Result<Vec<Member>, String> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        manifest_path: String,
        dependencies: Vec<Dependency>,
    }
    #[derive(Deserialize)]
    struct Dependency {
        name: String,
        path: Option<String>,
    }

    let text = shell::output("cargo metadata --no-deps --format-version 1", root)?;
    let metadata: Metadata = serde_json::from_str(&text)
        .map_err(|error| format!("cannot read the output of cargo metadata: {error}"))?;
    let members = metadata.packages.into_iter().map(|package| {
        let folder = Path::new(&package.manifest_path).parent().unwrap_or(root);
        let relative = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().replace('\\', "/");
        let mut sources = String::new();
        read(folder, &mut sources).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        let siblings = package.dependencies.into_iter().filter(|dependency| dependency.path.is_some());
        Ok(Member {
            name: package.name,
            folder: format!("{relative}/"),
            siblings: siblings.map(|dependency| dependency.name).collect(),
            sources,
        })
    });
    members.collect()
}

/// Appends every Rust file below `folder`.
fn read(folder: &Path, sources: &mut String) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            read(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path)?);
        }
    }
    Ok(())
}

/// In order of preference: a local main branch may contain the very commits that are to be checked.
const BRANCHES: [&str; 2] = ["origin/main", "main"];

/// Files outside of the crates that change how each of them is built or linted.
const EVERYWHERE: [&str; 4] = ["Cargo.toml", "Cargo.lock", "clippy.toml", ".cargo/config.toml"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], expected: &str) {
        let member = |name: &str, folder: &str, siblings: &[&str], sources: &str| Member {
            name: name.to_owned(),
            folder: folder.to_owned(),
            siblings: siblings.iter().map(|name| (*name).to_owned()).collect(),
            sources: sources.to_owned(),
        };
        let members = [
            member("top", "crates/server/", &["middle"], "include_str!(\"../../docs/a.md\")"),
            member("middle", "crates/delivery/", &["low"], ""),
            member("low", "crates/routing/", &[], "concat!(ROOT, \"/../../fixtures/keys/\")"),
            member("xtask", "xtask/", &[], ""),
        ];
        assert_eq!(Changes::of("main at 1".to_owned(), files, &members).to_string(), expected);
    }

    #[test]
    fn dependents_are_linted_only() {
        check(&[], "no crate differs from main at 1");
        check(&["crates/server/src/lib.rs"], "these crates differ from main at 1: top");
        check(
            &["crates/routing/Cargo.toml"],
            "these crates differ from main at 1: low; linted only: middle, top",
        );
        check(
            &["crates/delivery/src/a.rs", "xtask/src/main.rs"],
            "these crates differ from main at 1: middle, xtask; linted only: top",
        );
    }

    #[test]
    fn a_crate_changes_with_the_files_that_it_reads() {
        check(&["docs/a.md"], "these crates differ from main at 1: top");
        check(&["docs/b.md", "README.md"], "no crate differs from main at 1");
        check(
            &["fixtures/tokens/a.jwt"],
            "these crates differ from main at 1: low; linted only: middle, top",
        );
    }

    #[test]
    fn settings_of_the_workspace_change_every_crate() {
        for file in EVERYWHERE {
            check(&[file], "these crates differ from main at 1: low, middle, top, xtask");
        }
    }
}
