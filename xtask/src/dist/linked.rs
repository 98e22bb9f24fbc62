//! The crates that the two programs of a release link.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{commands, release};

/// A crate by its name and version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CrateId {
    pub(super) name: String,
    pub(super) version: String,
}

/// A crate, as its manifest and the lock file describe it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crate {
    /// An SPDX expression.
    pub(super) licence: String,
    /// The SHA-256 of its package; `None` for a crate of this workspace.
    pub(super) checksum: Option<String>,
    pub(super) repository: Option<String>,
    /// The folder of its source.
    pub(super) folder: PathBuf,
    /// The linked crates that it depends on.
    pub(super) uses: BTreeSet<CrateId>,
}

/// The linked crates, with both programs among them.
pub(super) type Crates = BTreeMap<CrateId, Crate>;

/// Asks cargo for the crates that the programs link with the features of a release. Macros and build scripts,
/// and the crates that only these use, are not part of a program.
pub(super) fn crates(root: &Path, target: &str) -> Result<Crates, String> {
    let programs = ["-p", "switchboard", "-p", "switchboard-emulator", "--features", release::FEATURES];
    let edges = ["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", " {p}"];
    let tree = commands::output(
        cargo(root, "tree").args(["--locked", "--target", target]).args(programs).args(edges),
    )?;
    let tree = parse_tree(&tree)?;
    let options = ["--locked", "--format-version", "1", "--all-features", "--filter-platform", target];
    let metadata = commands::output(cargo(root, "metadata").args(options))?;
    let metadata: Value = serde_json::from_str(&metadata)
        .map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
    let checksums = checksums(&commands::read(&root.join("Cargo.lock"))?)?;
    describe(tree, &metadata, &checksums)
}

fn cargo(root: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).arg(subcommand);
    command
}

/// Reads the lines of `cargo tree --prefix depth`, like `2 serde v1.0.229 (*)`. A crate has its own
/// dependencies below it once; `(*)` marks the other places.
fn parse_tree(text: &str) -> Result<BTreeMap<CrateId, BTreeSet<CrateId>>, String> {
    let mut uses: BTreeMap<CrateId, BTreeSet<CrateId>> = BTreeMap::new();
    let mut path: Vec<CrateId> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or_else(|| format!("cannot read this line of cargo tree: {line}"));
        let depth: usize = next()?.parse().map_err(|_| format!("cargo tree printed no depth: {line}"))?;
        let (name, version) = (next()?, next()?);
        let version = version.strip_prefix('v').ok_or_else(|| format!("no version: {line}"))?;
        let id = CrateId { name: name.to_owned(), version: version.to_owned() };
        uses.entry(id.clone()).or_default();
        path.truncate(depth);
        if let Some(parent) = path.last() {
            uses.entry(parent.clone()).or_default().insert(id.clone());
        }
        path.push(id);
    }
    Ok(uses)
}

/// The checksums of packages in `Cargo.lock`.
fn checksums(lock: &str) -> Result<BTreeMap<CrateId, String>, String> {
    let lock: toml::Table = lock.parse().map_err(|error| format!("Cargo.lock is not TOML: {error}"))?;
    let packages = lock.get("package").and_then(toml::Value::as_array).ok_or("Cargo.lock has no package")?;
    let text =
        |package: &toml::Value, name| package.get(name).and_then(toml::Value::as_str).map(str::to_owned);
    Ok(packages
        .iter()
        .filter_map(|package| {
            let id = CrateId { name: text(package, "name")?, version: text(package, "version")? };
            Some((id, text(package, "checksum")?))
        })
        .collect())
}

fn describe(
    tree: BTreeMap<CrateId, BTreeSet<CrateId>>,
    metadata: &Value,
    checksums: &BTreeMap<CrateId, String>,
) -> Result<Crates, String> {
    let packages = metadata.get("packages").and_then(Value::as_array).ok_or("no packages in the metadata")?;
    let text = |package: &Value, name| package.get(name).and_then(Value::as_str).map(str::to_owned);
    let packages: BTreeMap<CrateId, &Value> = packages
        .iter()
        .filter_map(|package| {
            Some((CrateId { name: text(package, "name")?, version: text(package, "version")? }, package))
        })
        .collect();
    let mut crates = Crates::new();
    for (id, uses) in tree {
        let described = packages.get(&id).and_then(|package| {
            let manifest = PathBuf::from(text(package, "manifest_path")?);
            Some(Crate {
                // An older way to write an alternative.
                licence: text(package, "license")?.replace(" / ", " OR ").replace('/', " OR "),
                checksum: checksums.get(&id).cloned(),
                repository: text(package, "repository"),
                folder: manifest.parent()?.to_owned(),
                uses,
            })
        });
        let described = described.ok_or_else(|| {
            format!("{} {} is in the tree, and cargo metadata has no licence of it", id.name, id.version)
        })?;
        crates.insert(id, described);
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, version: &str) -> CrateId {
        CrateId { name: name.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn a_tree_becomes_the_uses_of_each_crate() {
        let tree =
            "0 a v1.0.0 (/source/a)\n1 b v2.0.0\n2 c v3.0.0\n1 c v3.0.0\n\n0 d v1.0.0 (/d)\n1 b v2.0.0 (*)\n";
        let uses = parse_tree(tree).unwrap();
        let names = |name, version| -> Vec<_> {
            uses[&id(name, version)].iter().map(|used| used.name.as_str()).collect()
        };
        assert_eq!(names("a", "1.0.0"), ["b", "c"]);
        assert_eq!(names("b", "2.0.0"), ["c"], "the second place of b does not remove what it uses");
        assert_eq!(names("d", "1.0.0"), ["b"]);
        assert!(names("c", "3.0.0").is_empty());
        assert!(parse_tree("serde v1.0.0").is_err());
    }

    #[test]
    fn crates_of_the_workspace_have_no_checksum() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"b\"\nversion = \"2.0.0\"\nchecksum = \"00ff\"\n";
        assert_eq!(checksums(lock).unwrap(), BTreeMap::from([(id("b", "2.0.0"), "00ff".to_owned())]));
    }

    #[test]
    fn a_crate_has_the_licence_of_its_manifest() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "a", "version": "1.0.0", "license": "MIT/Apache-2.0", "repository": null,
              "manifest_path": "/source/a/Cargo.toml" },
        ] });
        let tree = || BTreeMap::from([(id("a", "1.0.0"), BTreeSet::new())]);
        let described = describe(tree(), &metadata, &BTreeMap::new()).unwrap();
        let expected = Crate {
            licence: "MIT OR Apache-2.0".to_owned(),
            checksum: None,
            repository: None,
            folder: PathBuf::from("/source/a"),
            uses: BTreeSet::new(),
        };
        assert_eq!(described, Crates::from([(id("a", "1.0.0"), expected)]));
        let error = describe(tree(), &serde_json::json!({ "packages": [] }), &BTreeMap::new()).unwrap_err();
        assert!(error.starts_with("a 1.0.0 is in the tree"), "{error}");
    }
}
