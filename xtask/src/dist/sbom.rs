//! The bill of materials of a release, in the JSON format of CycloneDX 1.6.

use serde_json::{Value, json};

use super::{
    linked::{Crate, CrateId, Crates},
    release::Release,
};

/// Lists the crates, the standard library, and the libraries of the system that the programs link.
/// `programs` are the names of the programs and their SHA-256.
pub(super) fn document<'n>(
    release: &Release,
    crates: &Crates,
    system_libraries: impl Iterator<Item = &'n str>,
    programs: &[(&str, String)],
) -> Result<String, String> {
    let root = format!("switchboard-{}", release.version);
    let standard = format!("rust-std-{}", release.compiler);
    let mut components: Vec<Value> = crates.iter().map(|(id, linked)| component(id, linked)).collect();
    components.push(json!({
        "type": "library",
        "bom-ref": standard,
        "name": "std",
        "version": release.compiler,
        "description": "the standard library of Rust",
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    let mut used_by_root: Vec<String> = programs
        .iter()
        .filter_map(|(program, _)| crates.keys().find(|id| id.name == *program).map(reference))
        .collect();
    used_by_root.push(standard);
    for name in system_libraries {
        components.push(json!({
            "type": "library",
            "bom-ref": name,
            "name": name,
            "description": "linked at run time; the system provides and patches it",
        }));
        used_by_root.push(name.to_owned());
    }
    let mut dependencies = vec![json!({ "ref": root, "dependsOn": used_by_root })];
    dependencies.extend(crates.iter().map(|(id, linked)| {
        json!({ "ref": reference(id), "dependsOn": linked.uses.iter().map(reference).collect::<Vec<_>>() })
    }));
    let files: Vec<Value> = programs
        .iter()
        .map(|(name, digest)| json!({ "type": "file", "name": name, "hashes": [sha256(digest)] }))
        .collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": release.date("+%Y-%m-%dT%H:%M:%SZ")?,
            "lifecycles": [{ "phase": "build" }],
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "switchboard",
                "version": release.version,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "components": files,
                "properties": [
                    { "name": "switchboard:revision", "value": release.revision },
                    { "name": "switchboard:target", "value": release.target },
                ],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    let text = serde_json::to_string_pretty(&document);
    text.map(|text| format!("{text}\n")).map_err(|error| format!("cannot write the SBOM: {error}"))
}

fn component(id: &CrateId, linked: &Crate) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(id),
        "name": id.name,
        "version": id.version,
        "purl": reference(id),
        "licenses": [{ "expression": linked.licence }],
    });
    if let Some(members) = component.as_object_mut() {
        if let Some(checksum) = &linked.checksum {
            members.insert("hashes".to_owned(), json!([sha256(checksum)]));
        }
        if let Some(repository) = &linked.repository {
            members.insert("externalReferences".to_owned(), json!([{ "type": "vcs", "url": repository }]));
        }
    }
    component
}

/// The package URL of a crate, which is its reference inside the document, too.
fn reference(id: &CrateId) -> String {
    // A `+` of build metadata is escaped: https://github.com/package-url/purl-spec.
    format!("pkg:cargo/{}@{}", id.name, id.version.replace('+', "%2B"))
}

fn sha256(digest: &str) -> Value {
    json!({ "alg": "SHA-256", "content": digest })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeSet, HashSet},
        path::PathBuf,
    };

    use super::*;

    fn release() -> Release {
        Release {
            root: PathBuf::new(),
            version: "0.1.0".to_owned(),
            revision: "00ff".to_owned(),
            epoch: 0,
            target: "x86_64-unknown-linux-gnu".to_owned(),
            compiler: "1.95.0".to_owned(),
            architecture: "amd64".to_owned(),
        }
    }

    #[test]
    fn each_component_has_the_members_of_its_kind() {
        let id = |name: &str| CrateId { name: name.to_owned(), version: "1.0.0+a".to_owned() };
        let linked = |checksum: Option<&str>, uses| Crate {
            licence: "MIT".to_owned(),
            checksum: checksum.map(str::to_owned),
            repository: Some("https://example.com/a".to_owned()),
            folder: PathBuf::new(),
            uses,
        };
        let crates = Crates::from([
            (id("switchboard"), linked(None, BTreeSet::from([id("a")]))),
            (id("a"), linked(Some("aa"), BTreeSet::new())),
        ]);
        let programs = [("switchboard", "ff".to_owned())];
        let text = document(&release(), &crates, ["libc.so.6"].into_iter(), &programs).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document.pointer("/metadata/timestamp").unwrap(), "1970-01-01T00:00:00Z");
        let hashes = json!([{ "alg": "SHA-256", "content": "ff" }]);
        assert_eq!(document.pointer("/metadata/component/components/0/hashes"), Some(&hashes));
        let expected = json!({
            "type": "library",
            "bom-ref": "pkg:cargo/a@1.0.0%2Ba",
            "name": "a",
            "version": "1.0.0+a",
            "purl": "pkg:cargo/a@1.0.0%2Ba",
            "licenses": [{ "expression": "MIT" }],
            "hashes": [{ "alg": "SHA-256", "content": "aa" }],
            "externalReferences": [{ "type": "vcs", "url": "https://example.com/a" }],
        });
        assert_eq!(document.pointer("/components/0"), Some(&expected));
        let of_root = json!(["pkg:cargo/switchboard@1.0.0%2Ba", "rust-std-1.95.0", "libc.so.6"]);
        assert_eq!(document.pointer("/dependencies/0/dependsOn"), Some(&of_root));

        let components = document["components"].as_array().unwrap();
        let references: HashSet<&str> =
            components.iter().map(|component| component["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(references.len(), components.len(), "a reference is unique");
        let dependencies = document["dependencies"].as_array().unwrap();
        for dependency in dependencies.iter().flat_map(|entry| entry["dependsOn"].as_array().unwrap()) {
            assert!(references.contains(dependency.as_str().unwrap()), "{dependency}");
        }
    }
}
