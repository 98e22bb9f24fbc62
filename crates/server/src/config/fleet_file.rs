//! The file of `[fleet.file]`, which lists the instances while the gateway runs. JSON or TOML, with the
//! members of `[[fleet.instance]]`.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ::url::Url;
use switchboard_auth::AppSettings;
use switchboard_delivery::{FileInstance, INSTANCES_MAX, ParsedFile};
use switchboard_routing::Name;
use toml::de::{DeTable, DeValue};

use super::{
    ca::{CaFiles, read_with_digest},
    instance::instance,
    json, loops,
    problems::Problems,
    secret::{Surroundings, read_bounded, shown},
    section::Section,
    text::{tables, text},
};

/// The file of the fleet, and the settings by which its instances are checked.
#[derive(Debug)]
pub struct FleetFile {
    path: PathBuf,
    format: Format,
    apps: Option<Vec<AppSettings>>,
    listen: Option<SocketAddr>,
    base: Option<Url>,
}

/// The format, by the end of the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Toml,
}

impl FleetFile {
    /// The file at `path`; `None` if its name has neither end. The other arguments are `None` if they have a
    /// problem already.
    pub(super) fn new(
        path: PathBuf,
        apps: Option<&[AppSettings]>,
        listen: Option<SocketAddr>,
        base: Option<&Url>,
    ) -> Option<Self> {
        let format = match path.extension()?.to_str()? {
            "json" => Format::Json,
            "toml" => Format::Toml,
            _ => return None,
        };
        Some(Self { path, format, apps: apps.map(<[_]>::to_vec), listen, base: base.cloned() })
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the instances. It waits for the file, for a bounded time.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a list of instances: all of its problems.
    pub(crate) fn load(&self) -> Result<Vec<FileInstance>, Problems> {
        let content = self.bytes().map_err(Problems::of_file);
        let parse = |content: Vec<u8>| self.with_ca_files(|ca_files| self.instances(&content, ca_files)).0;
        content.and_then(parse).map_err(|problems| self.of_this_file(problems))
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        read_bounded(&self.path, BYTES_MAX).map_err(|reason| format!("cannot be read: {reason}"))
    }

    /// Calls `read`. Returns the files of authorities that it has read, too, with their digests.
    fn with_ca_files<T>(&self, read: impl FnOnce(&mut CaFiles<'_>) -> T) -> (T, Vec<(PathBuf, [u8; 32])>) {
        let folder = self.path.parent().unwrap_or(&self.path);
        let around = Surroundings { folder, env: &|_| None, without_secrets: false };
        let mut ca_files = CaFiles::new(&around);
        (read(&mut ca_files), ca_files.digests())
    }

    fn of_this_file(&self, problems: Problems) -> Problems {
        problems.first(PROBLEMS_MAX).in_file(shown(&self.path))
    }

    /// Parses the content, which any program may have written.
    fn instances(&self, content: &[u8], ca_files: &mut CaFiles<'_>) -> Result<Vec<FileInstance>, Problems> {
        let text = text(content.to_vec()).map_err(Problems::of_file)?;
        let table = match self.format {
            Format::Json => json::objects(&text, LIST)
                .map_err(|error| Problems::of_text(&text, error.offset, "", error.message))?,
            Format::Toml => tables(&text)?.into_inner(),
        };
        let root = Section::root(&table);
        let instances = self.read(&root, &table, ca_files);
        let problems = root.into_problems();
        match instances {
            Some(instances) if problems.is_empty() => Ok(instances),
            Some(_) | None => Err(problems.first(PROBLEMS_MAX).placed_in(&text)),
        }
    }

    fn read(
        &self,
        root: &Section<'_>,
        table: &DeTable<'_>,
        ca_files: &mut CaFiles<'_>,
    ) -> Option<Vec<FileInstance>> {
        if root.optional(LIST).is_none() {
            // Without the empty list, a file that is half written would be an empty fleet.
            root.problem(
                LIST,
                "missing; write one [[instance]] or more, or `instance = []` for an empty fleet",
            );
            return None;
        }
        let sections = root.sections(LIST);
        if sections.len() > INSTANCES_MAX {
            let count = sections.len();
            root.problem(LIST, format!("{count} instances, more than the limit of {INSTANCES_MAX}"));
            return None;
        }
        check_lengths(root, table);
        let mut names = BTreeSet::new();
        let instances = sections.into_iter().map(|section| self.instance(section, ca_files, &mut names));
        // Read every instance, so that every problem is found.
        let instances: Vec<_> = instances.collect();
        let instances: Vec<_> = instances.into_iter().collect::<Option<_>>()?;
        let settings = instances.iter().map(|one: &FileInstance| &one.settings);
        loops::check(root, LIST, self.listen, self.base.as_ref(), settings);
        Some(instances)
    }

    fn instance(
        &self,
        section: Section<'_>,
        ca_files: &mut CaFiles<'_>,
        names: &mut BTreeSet<Name>,
    ) -> Option<FileInstance> {
        let settings = instance(&section, ca_files, self.apps.as_deref(), names);
        let incarnation = section.maybe("incarnation", |setting| {
            setting.parse("1 to 13 of A-Z a-z 0-9 . _ -, another one for each process", |text| {
                Name::parse(text).ok().filter(|_| text.len() <= INCARNATION_BYTES_MAX)
            })
        });
        let is_draining = section.or("draining", false, |setting| setting.boolean());
        section.finish();
        Some(FileInstance { settings: settings?, incarnation: incarnation?, is_draining: is_draining? })
    }
}

impl switchboard_delivery::FleetFile for FleetFile {
    fn read(&self) -> Result<Vec<u8>, String> {
        self.bytes().map_err(|reason| self.of_this_file(Problems::of_file(reason)).to_string())
    }

    fn parse(&self, content: &[u8]) -> ParsedFile {
        let (instances, named) = self.with_ca_files(|ca_files| self.instances(content, ca_files));
        let instances = instances.map_err(|problems| self.of_this_file(problems).to_string());
        ParsedFile { instances, named }
    }

    fn digest(&self, path: &Path) -> [u8; 32] {
        read_with_digest(path).0
    }
}

/// Refuses long texts. Those of URLs are kept for each instance.
fn check_lengths(root: &Section<'_>, table: &DeTable<'_>) {
    let items = table.get(LIST).and_then(|list| list.get_ref().as_array());
    for (index, item) in items.into_iter().flat_map(|items| items.iter()).enumerate() {
        for (name, value) in item.get_ref().as_table().into_iter().flatten() {
            if is_long(value.get_ref()) {
                let path = format!("{LIST}[{index}].{}", name.get_ref());
                root.problem(&path, format!("longer than {TEXT_BYTES_MAX} bytes"));
            }
        }
    }
}

fn is_long(value: &DeValue<'_>) -> bool {
    value.as_str().is_some_and(|text| text.len() > TEXT_BYTES_MAX)
}

/// The list of instances in a TOML file, and in the paths of problems.
const LIST: &str = "instance";
/// The largest fleet, with 400 bytes for each instance.
const BYTES_MAX: u64 = 8 << 20;
/// Longer than any URL that servers accept.
const TEXT_BYTES_MAX: usize = 2048;
/// As long as the incarnation of a pod, or of a probe: it is in each callback URI.
const INCARNATION_BYTES_MAX: usize = 13;
/// The problems that are shown. A program that writes a mistake writes it for each instance.
const PROBLEMS_MAX: usize = 20;

#[cfg(test)]
mod tests;
