//! The libraries of the system that a program needs, and the versions of the symbols that it uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use super::commands;

/// The names of libraries, each with the versions of its symbols that programs use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs(BTreeMap<String, BTreeSet<String>>);

impl Needs {
    /// Reads what programs need.
    pub(super) fn of(programs: &[&Path]) -> Result<Self, String> {
        let mut needs = Self::default();
        for program in programs {
            needs.add(&commands::output(Command::new("objdump").arg("-p").arg(program))?);
        }
        Ok(needs)
    }

    /// Adds the lines `NEEDED` and the version references of `objdump -p`.
    fn add(&mut self, text: &str) {
        let mut library = None;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("NEEDED") {
                self.0.entry(name.trim().to_owned()).or_default();
            } else if let Some(name) = line.strip_prefix("required from ") {
                library = Some(name.trim_end_matches(':').to_owned());
            } else if let (Some(library), true) = (&library, line.starts_with("0x"))
                && let Some(version) = line.split_whitespace().last()
            {
                self.0.entry(library.clone()).or_default().insert(version.to_owned());
            }
        }
    }

    /// The names of the libraries.
    pub(super) fn libraries(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The packages of Debian that have the libraries, as a field `Depends` lists them. Fails if a system
    /// that the release supports lacks a library or a version.
    pub(super) fn depends(&self) -> Result<String, String> {
        let mut packages = BTreeSet::new();
        for (library, versions) in &self.0 {
            let package = match library.as_str() {
                "libssl.so.3" | "libcrypto.so.3" => {
                    let newer = versions.iter().find(|version| *version != "OPENSSL_3.0.0");
                    if let Some(version) = newer {
                        return Err(format!("a program uses {version} of {library}; OpenSSL 3.0 has it not"));
                    }
                    "libssl3 (>= 3.0.0)".to_owned()
                }
                "libgcc_s.so.1" => "libgcc-s1 (>= 4.2)".to_owned(),
                _ if GLIBC.iter().any(|name| library.starts_with(name)) => {
                    let (major, minor) = self.glibc()?;
                    format!("libc6 (>= {major}.{minor})")
                }
                _ => return Err(format!("a program links {library}, which the package does not depend on")),
            };
            packages.insert(package);
        }
        Ok(packages.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// The lowest version of glibc that has all symbols.
    pub(super) fn glibc(&self) -> Result<(u32, u32), String> {
        let versions =
            self.0.iter().filter(|(library, _)| GLIBC.iter().any(|name| library.starts_with(name)));
        let versions = versions.flat_map(|(library, versions)| {
            versions.iter().filter_map(move |version| {
                let mut parts = version.strip_prefix("GLIBC_")?.split('.').map(str::parse);
                Some(((parts.next()?.ok()?, parts.next()?.ok()?), library, version))
            })
        });
        let highest = versions.max().ok_or("a program uses no version of glibc")?;
        let (number, library, version) = highest;
        if number > GLIBC_MAX {
            let (major, minor) = GLIBC_MAX;
            return Err(format!(
                "a program uses {version} of {library}, and the release must run with {major}.{minor}; \
                 build it on Debian 12 or Ubuntu 22.04 (`objdump -T` lists the symbols)"
            ));
        }
        Ok(number)
    }
}

/// Returns true if this system is newer than Debian 12, so that programs that are built on it may need more
/// than a release may.
pub(super) fn is_host_newer() -> bool {
    let version = commands::output(Command::new("getconf").arg("GNU_LIBC_VERSION")).ok();
    version
        .and_then(|text| text.trim().strip_prefix("glibc 2.")?.parse::<u32>().ok())
        .is_some_and(|minor| minor > 36)
}

/// The first parts of the names of glibc's libraries.
const GLIBC: [&str; 3] = ["libc.so.", "libm.so.", "ld-linux"];
/// The version of Ubuntu 22.04, the oldest system that a release supports.
const GLIBC_MAX: (u32, u32) = (2, 35);

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(glibc: &str, openssl: &str, other: &str) -> Needs {
        let mut needs = Needs::default();
        needs.add(&format!(
            "Dynamic Section:\n  NEEDED               libssl.so.3\n  NEEDED   libc.so.6\n{other}\n\
             Version References:\n  required from libssl.so.3:\n    0x06702b20 0x00 08 {openssl}\n  \
             required from libc.so.6:\n    0x09691a75 0x00 03 GLIBC_2.2.5\n    0x069691b4 0x00 02 {glibc}\n"
        ));
        needs
    }

    #[test]
    fn the_highest_version_is_the_one_that_the_package_depends_on() {
        let needs = needs("GLIBC_2.34", "OPENSSL_3.0.0", "  NEEDED   libgcc_s.so.1");
        assert_eq!(needs.libraries().collect::<Vec<_>>(), ["libc.so.6", "libgcc_s.so.1", "libssl.so.3"]);
        assert_eq!(needs.depends(), Ok("libc6 (>= 2.34), libgcc-s1 (>= 4.2), libssl3 (>= 3.0.0)".to_owned()));
    }

    #[test]
    fn a_newer_symbol_or_another_library_is_refused() {
        let refused = |needs: Needs, word: &str| {
            let error = needs.depends().unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        refused(needs("GLIBC_2.36", "OPENSSL_3.0.0", ""), "GLIBC_2.36 of libc.so.6");
        refused(needs("GLIBC_2.35", "OPENSSL_3.2.0", ""), "OPENSSL_3.2.0");
        refused(needs("GLIBC_2.35", "OPENSSL_3.0.0", "  NEEDED  libz.so.1"), "libz.so.1");
        assert_eq!(needs("GLIBC_2.35", "OPENSSL_3.0.0", "").glibc(), Ok((2, 35)));
    }
}
