//! Everything that the files of a release contain, and the folder that receives them.

use std::{path::Path, process::Command};

use super::{
    archive,
    build::{self, PROGRAMS, Programs},
    commands,
    contents::{self, Item},
    debian::{self, Compression, Settings},
    licences,
    linked::{self, Crates},
    release::Release,
    sbom,
    symbols::Needs,
};
use crate::console::say;

/// The parts of a release. The SBOM is also a file of its own beside the archive.
pub(super) struct Parts {
    items: Vec<Item>,
    sbom: String,
    /// The libraries that the package depends on.
    libraries: String,
}

impl Parts {
    /// Builds the programs of a release in a target folder, and collects its parts.
    pub(super) fn build(release: &Release, target_folder: &Path, scratch: &Path) -> Result<Self, String> {
        say(&format!("dist: building {} from {}", release.name(), release.revision));
        let crates = linked::crates(&release.root, &release.target)?;
        let programs = build::release(release, target_folder, &crates)?;
        Self::collect(release, &programs, &crates, scratch)
    }

    /// Collects the parts around programs that are built.
    pub(super) fn collect(
        release: &Release,
        programs: &Programs,
        crates: &Crates,
        scratch: &Path,
    ) -> Result<Self, String> {
        commands::empty_folder(scratch)?;
        let configuration = release.root.join(contents::CONFIGURATION);
        let check = ["check", "--without-secrets", "--config"];
        commands::output(Command::new(&programs.gateway).args(check).arg(configuration))?;
        let needs = Needs::of(&[&programs.gateway, &programs.emulator])?;
        let libraries = needs.depends()?;
        say(&format!("dist: the programs need {libraries}"));
        let mut stripped = Vec::new();
        for name in PROGRAMS {
            stripped.push((name, build::stripped(programs.path(name), scratch)?));
        }
        let digests: Vec<_> = stripped.iter().map(|(name, bytes)| (*name, commands::sha256(bytes))).collect();
        let sbom = sbom::document(release, crates, needs.libraries(), &digests)?;
        let notices = licences::notices(crates, &release.compiler)?;
        let mut items: Vec<_> =
            stripped.into_iter().map(|(name, bytes)| Item::program(name, bytes)).collect();
        items.push(Item::file("switchboard.cdx.json", &document("switchboard.cdx.json.gz"), sbom.clone()));
        items.push(Item::file("THIRD-PARTY-NOTICES", &document("THIRD-PARTY-NOTICES.gz"), notices));
        items.extend(contents::items(&release.root, programs, scratch)?);
        Ok(Self { items, sbom, libraries })
    }

    /// Writes the files of the release into a folder, which has nothing else then. Returns their digests.
    pub(super) fn write(
        &self,
        release: &Release,
        folder: &Path,
        scratch: &Path,
        compression: Compression,
    ) -> Result<String, String> {
        commands::empty_folder(folder)?;
        commands::write(&folder.join(format!("{}.cdx.json", release.name())), &self.sbom)?;
        archive::write(release, &self.items, scratch, folder)?;
        let settings = Settings { revision: 1, libraries: &self.libraries, compression };
        debian::write(release, &self.items, &settings, scratch, folder)?;
        archive::write_digests(folder)
    }

    /// Writes three versions of the package into a folder: the third one has another example configuration.
    pub(super) fn write_for_trial(
        mut self,
        release: &Release,
        folder: &Path,
        scratch: &Path,
    ) -> Result<(), String> {
        commands::empty_folder(folder)?;
        for revision in 1..=3 {
            if revision == 3 {
                let place = |item: &&mut Item| item.debian.ends_with("/switchboard.toml");
                let configuration = self.items.iter_mut().find(place);
                configuration.ok_or("the package has no configuration")?.append("\n# A later version.\n");
            }
            let compression = Compression::Absent;
            let settings = Settings { revision, libraries: &self.libraries, compression };
            debian::write(release, &self.items, &settings, scratch, folder)?;
        }
        Ok(())
    }
}

/// The path of a document in the package.
fn document(name: &str) -> String {
    format!("usr/share/doc/switchboard-gateway/{name}")
}
