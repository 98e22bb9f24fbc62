//! Rules for manifests: the arrows between crates, shared lints, and versions in the root only.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    finding::Finding,
    tree::{File, Tree},
};

/// Violations in the manifests of the members.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let members = tree
        .ending("Cargo.toml")
        .filter(|file| file.path.starts_with("xtask/") || file.path.starts_with("crates/"));
    members.flat_map(of_member).collect()
}

fn of_member(file: &File) -> Vec<Finding> {
    let table = match DeTable::parse(&file.text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let line = file.line_of(error.span().map_or(0, |span| span.start));
            return vec![Finding::new(file, line, format!("the manifest is not TOML: {}", error.message()))];
        }
    };
    let mut findings = Vec::new();
    if !is_true(&table, "lints", "workspace") {
        findings.push(Finding::new(file, 1, "add `[lints] workspace = true`; all crates share the lints"));
    }
    for name in ["version", "edition", "rust-version"] {
        let own = table.get("package").and_then(|package| package.get_ref().as_table()?.get_key_value(name));
        if let Some((key, value)) = own
            && value.get_ref().is_str()
        {
            let line = file.line_of(key.span().start);
            findings.push(Finding::new(
                file,
                line,
                format!("write `{name}.workspace = true`; the root has the {name}"),
            ));
        }
    }
    let package = table
        .get("package")
        .and_then(|package| package.get_ref().as_table()?.get("name")?.get_ref().as_str())
        .unwrap_or_default();
    for dependency in dependencies(&table) {
        findings.extend(of_dependency(file, package, &dependency));
    }
    findings
}

/// One dependency of a manifest, of any kind.
struct Dependency<'t> {
    offset: usize,
    /// The name of the package, also if the dependency is renamed.
    package: &'t str,
    value: &'t DeValue<'t>,
    is_of_tests: bool,
}

fn dependencies<'t>(table: &'t DeTable<'_>) -> Vec<Dependency<'t>> {
    let of_targets = table
        .get("target")
        .and_then(|targets| targets.get_ref().as_table())
        .into_iter()
        .flat_map(|targets| targets.values().filter_map(|target| target.get_ref().as_table()));
    let tables = std::iter::once(table).chain(of_targets).flat_map(|table| {
        ["dependencies", "dev-dependencies", "build-dependencies"]
            .into_iter()
            .filter_map(|kind| Some((kind, table.get(kind)?.get_ref().as_table()?)))
    });
    tables
        .flat_map(|(kind, table)| {
            table.iter().map(move |(name, value)| Dependency {
                offset: name.span().start,
                package: text(value, "package").unwrap_or_else(|| name.get_ref()),
                value: value.get_ref(),
                is_of_tests: kind == "dev-dependencies",
            })
        })
        .collect()
}

fn of_dependency(file: &File, package: &str, dependency: &Dependency<'_>) -> Vec<Finding> {
    let mut texts = Vec::new();
    let on = dependency.package;
    let shared = dependency.value.as_table().is_some_and(|table| {
        table.get("workspace").and_then(|value| value.get_ref().as_bool()) == Some(true)
    });
    if !shared {
        texts.push(format!(
            "write `{on}.workspace = true`; the root has the versions and paths of all dependencies"
        ));
    }
    if is_ours(on) {
        match ARROWS.iter().find(|(from, _)| *from == package) {
            Some((_, to)) if to.contains(&on) => {}
            Some((_, [])) => {
                texts.push(format!("{package} may use no crate of the workspace, and {on} is one"))
            }
            Some((_, to)) => texts
                .push(format!("{package} may not use {on}; of the workspace it may use {}", to.join(", "))),
            None => {
                texts.push(format!("{package} has no row in ARROWS of xtask/src/tidy/manifests.rs; add one"))
            }
        }
    }
    // xtask is not published either.
    if on == TEST_ONLY && !dependency.is_of_tests && package != "xtask" {
        texts.push(format!("{on} is for tests; move it to `[dev-dependencies]`"));
    }
    for (library, users) in CONFINED {
        let is_it = on == library || on.strip_prefix(library).is_some_and(|rest| rest.starts_with('-'));
        if is_it && !users.contains(&package) {
            texts.push(format!("only {} may use {on}, not {package}", users.join(", ")));
        }
    }
    let line = file.line_of(dependency.offset);
    texts.into_iter().map(|text| Finding::new(file, line, text)).collect()
}

fn is_ours(package: &str) -> bool {
    ["switchboard", "xtask", TEST_ONLY].contains(&package) || package.starts_with("switchboard-")
}

fn is_true(table: &DeTable<'_>, section: &str, name: &str) -> bool {
    let value =
        table.get(section).and_then(|section| section.get_ref().as_table()?.get(name)?.get_ref().as_bool());
    value == Some(true)
}

fn text<'t>(value: &'t Spanned<DeValue<'_>>, name: &str) -> Option<&'t str> {
    value.get_ref().as_table()?.get(name)?.get_ref().as_str()
}

/// The crates that each crate may use, also in its tests. The emulator and xtask use none of the product's,
/// so that they cannot repeat their mistakes.
const ARROWS: [(&str, &[&str]); 10] = [
    (
        "switchboard",
        &[
            "switchboard-auth",
            "switchboard-delivery",
            "switchboard-graph",
            "switchboard-notification",
            "switchboard-routing",
            TEST_ONLY,
        ],
    ),
    ("switchboard-auth", &[]),
    ("switchboard-delivery", &["switchboard-routing"]),
    ("switchboard-emulator", &[TEST_ONLY]),
    ("switchboard-graph", &[]),
    ("switchboard-notification", &[]),
    ("switchboard-routing", &["switchboard-notification"]),
    ("xtask", &[TEST_ONLY]),
    ("xtask-bench", &[]),
    (TEST_ONLY, &[]),
];

/// The crate that is for tests, and is not published.
const TEST_ONLY: &str = "xtask-browser";

/// Families of libraries, and the crates that may use them.
const CONFINED: [(&str, &[&str]); 2] = [
    ("hyper", &["switchboard", "switchboard-delivery", "switchboard-emulator", "xtask-bench"]),
    ("josekit", &["switchboard-auth", "switchboard-emulator", "switchboard-graph"]),
];

#[cfg(test)]
mod tests {
    use crate::tidy::tests::check;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\nversion.workspace = true\n[lints]\nworkspace = true\n{rest}")
    }

    #[test]
    fn allowed_arrows_pass() {
        let server = manifest(
            "switchboard",
            "[dependencies]\nswitchboard-auth.workspace = true\nhyper.workspace = true\n",
        );
        let auth = manifest("switchboard-auth", "[dependencies]\njosekit.workspace = true\n");
        check(&[("crates/server/Cargo.toml", &server), ("crates/auth/Cargo.toml", &auth)], &[]);
    }

    #[test]
    fn other_arrows_are_found() {
        let routing = manifest("switchboard-routing", "[dependencies]\nswitchboard-auth.workspace = true\n");
        check(
            &[("crates/routing/Cargo.toml", &routing)],
            &["crates/routing/Cargo.toml:7: switchboard-routing may not use switchboard-auth; of the \
               workspace it may use switchboard-notification"],
        );
    }

    #[test]
    fn a_test_may_use_no_more_than_the_crate() {
        let graph = manifest("switchboard-graph", "[dev-dependencies]\nswitchboard.workspace = true\n");
        check(
            &[("crates/graph/Cargo.toml", &graph)],
            &["crates/graph/Cargo.toml:7: switchboard-graph may use no crate of the workspace, and \
               switchboard is one"],
        );
    }

    #[test]
    fn only_tests_and_xtask_use_the_browser() {
        let emulator = |section: &str| {
            manifest("switchboard-emulator", &format!("[{section}]\nxtask-browser.workspace = true\n"))
        };
        check(&[("crates/emulator/Cargo.toml", &emulator("dev-dependencies"))], &[]);
        check(
            &[("crates/emulator/Cargo.toml", &emulator("dependencies"))],
            &["crates/emulator/Cargo.toml:7: xtask-browser is for tests; move it to `[dev-dependencies]`"],
        );
        let xtask = manifest("xtask", "[dependencies]\nxtask-browser.workspace = true\n");
        check(&[("xtask/Cargo.toml", &xtask)], &[]);
        let graph = manifest("switchboard-graph", "[dev-dependencies]\nxtask-browser.workspace = true\n");
        check(
            &[("crates/graph/Cargo.toml", &graph)],
            &["crates/graph/Cargo.toml:7: switchboard-graph may use no crate of the workspace, and \
               xtask-browser is one"],
        );
    }

    #[test]
    fn a_renamed_dependency_of_a_target_is_found() {
        let auth = manifest(
            "switchboard-auth",
            "[target.'cfg(unix)'.dependencies]\n\
             fleet = { workspace = true, package = \"switchboard-delivery\" }\n",
        );
        check(
            &[("crates/auth/Cargo.toml", &auth)],
            &["crates/auth/Cargo.toml:7: switchboard-auth may use no crate of the workspace, and \
               switchboard-delivery is one"],
        );
    }

    #[test]
    fn hyper_and_josekit_are_confined() {
        let routing = manifest(
            "switchboard-routing",
            "[dependencies]\nhyper-util.workspace = true\njosekit.workspace = true\n\
             hyperfine.workspace = true\n",
        );
        check(
            &[("crates/routing/Cargo.toml", &routing)],
            &[
                "crates/routing/Cargo.toml:7: only switchboard, switchboard-delivery, switchboard-emulator, \
                 xtask-bench may use hyper-util, not switchboard-routing",
                "crates/routing/Cargo.toml:8: only switchboard-auth, switchboard-emulator, \
                 switchboard-graph may use josekit, not switchboard-routing",
            ],
        );
    }

    #[test]
    fn versions_are_in_the_root_only() {
        check(
            &[(
                "crates/auth/Cargo.toml",
                "[package]\nname = \"switchboard-auth\"\nversion = \"0.2.0\"\n[lints]\nworkspace = true\n\
                 [dependencies]\nserde = \"1\"\nurl = { version = \"2\", features = [] }\n",
            )],
            &[
                "crates/auth/Cargo.toml:3: write `version.workspace = true`; the root has the version",
                "crates/auth/Cargo.toml:7: write `serde.workspace = true`; the root has the versions and \
                 paths of all dependencies",
                "crates/auth/Cargo.toml:8: write `url.workspace = true`; the root has the versions and \
                 paths of all dependencies",
            ],
        );
    }

    #[test]
    fn missing_lints_are_found() {
        check(
            &[("xtask/Cargo.toml", "[package]\nname = \"xtask\"\n")],
            &["xtask/Cargo.toml:1: add `[lints] workspace = true`; all crates share the lints"],
        );
    }

    #[test]
    fn a_new_crate_needs_its_row() {
        let media = manifest("switchboard-media", "[dependencies]\nswitchboard-auth.workspace = true\n");
        check(
            &[("crates/media/Cargo.toml", &media)],
            &["crates/media/Cargo.toml:7: switchboard-media has no row in ARROWS of \
               xtask/src/tidy/manifests.rs; add one"],
        );
    }

    #[test]
    fn a_broken_manifest_is_reported_with_its_line() {
        check(
            &[("xtask/Cargo.toml", "[package]\nname =\n")],
            &["xtask/Cargo.toml:2: the manifest is not TOML: string values must be quoted, expected \
                 literal string"],
        );
    }
}
