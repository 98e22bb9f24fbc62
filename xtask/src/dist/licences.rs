//! The licences of the crates that the programs contain: a distributor of the programs passes them on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use super::{
    commands,
    linked::{CrateId, Crates},
};

/// Every licence and notice that the linked crates come with, each text once, after the list of the crates
/// that have it.
pub(super) fn notices(crates: &Crates, compiler: &str) -> Result<String, String> {
    let mut of_text: BTreeMap<String, BTreeSet<&CrateId>> = BTreeMap::new();
    let mut page = String::from(HEAD);
    let mut add = |line: String| {
        let _ = writeln!(page, "{line}");
    };
    for (id, linked) in crates.iter().filter(|(_, linked)| linked.checksum.is_some()) {
        let texts = texts(&linked.folder)?;
        let note = if texts.is_empty() { ", without a text of its own" } else { "" };
        // A licence of several parts, or another one, has conditions that the Apache License lacks.
        let is_apache = linked.licence.contains("Apache-2.0") && !linked.licence.contains("AND");
        if texts.is_empty() && !is_apache {
            return Err(format!(
                "{} {} has no text of its licence, {}: add the text to the notices",
                id.name, id.version, linked.licence
            ));
        }
        add(format!("{} {}: {}{note}", id.name, id.version, linked.licence));
        for text in texts {
            of_text.entry(text).or_default().insert(id);
        }
    }
    add(format!("The standard library of Rust, {compiler}: MIT OR Apache-2.0"));
    let mut texts: Vec<_> = of_text.into_iter().collect();
    texts.sort_by(|(a, of_a), (b, of_b)| (of_a, a).cmp(&(of_b, b)));
    for (text, crates) in texts {
        let names: Vec<_> = crates.iter().map(|id| format!("{} {}", id.name, id.version)).collect();
        add(format!("\n{}\n{}\n\n{}", "-".repeat(80), names.join(", "), text.trim_end()));
    }
    Ok(page)
}

/// The texts of the licence files in a folder, in the order of their names.
fn texts(folder: &Path) -> Result<Vec<String>, String> {
    let unread = |error| format!("cannot read {}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|start| name.starts_with(start)) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    files.iter().map(|file| commands::read(file).map(|text| text.replace("\r\n", "\n"))).collect()
}

const HEAD: &str = "The programs contain these crates. Their licences follow. A crate without a text is \
                    under the\nApache License, version 2.0, which is the licence of Switchboard, too.\n\n";
/// The first parts of the names of files with a licence, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

#[cfg(test)]
mod tests {
    use super::{super::linked::Crate, *};

    fn id(name: &str) -> CrateId {
        CrateId { name: name.to_owned(), version: "1.0.0".to_owned() }
    }

    fn linked(licence: &str, folder: &Path) -> Crate {
        Crate {
            licence: licence.to_owned(),
            checksum: Some(String::new()),
            repository: None,
            folder: folder.to_owned(),
            uses: BTreeSet::new(),
        }
    }

    #[test]
    fn a_text_is_printed_once_for_all_its_crates() {
        let folder = tempfile::tempdir().unwrap();
        let mut crates = Crates::new();
        for (name, text) in [("a", "same\r\n"), ("b", "same\n"), ("c", "other\n")] {
            let of_crate = folder.path().join(name);
            fs::create_dir(&of_crate).unwrap();
            fs::write(of_crate.join("LICENSE-MIT"), text).unwrap();
            fs::write(of_crate.join("README.md"), "not a licence").unwrap();
            crates.insert(id(name), linked("MIT", &of_crate));
        }
        let page = notices(&crates, "1.95.0").unwrap();
        assert!(page.contains("\na 1.0.0, b 1.0.0\n\nsame\n"), "{page}");
        assert!(page.contains("\nc 1.0.0\n\nother\n"), "{page}");
        assert!(!page.contains("not a licence"));
    }

    #[test]
    fn a_crate_without_a_text_must_be_under_the_apache_license() {
        let folder = tempfile::tempdir().unwrap();
        let notices_of =
            |licence| notices(&Crates::from([(id("a"), linked(licence, folder.path()))]), "1.95.0");
        let page = notices_of("MIT OR Apache-2.0").unwrap();
        assert!(page.contains("a 1.0.0: MIT OR Apache-2.0, without a text of its own\n"), "{page}");
        for licence in ["MIT", "Apache-2.0 AND BSD-3-Clause"] {
            assert!(notices_of(licence).unwrap_err().contains("a 1.0.0"), "{licence}");
        }
    }
}
