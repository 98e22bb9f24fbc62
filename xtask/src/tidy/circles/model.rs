//! The modules of one crate, and the paths in its files.

use std::collections::BTreeMap;

/// The names of a crate.
#[derive(Default)]
pub(super) struct Model {
    /// The first is the root.
    pub(super) modules: Vec<Module>,
    pub(super) mentions: Vec<Mention>,
}

/// One module, in a file of its own or not.
pub(super) struct Module {
    /// The path of the file that contains its items.
    pub(super) file: String,
    /// An index of `Model::modules`.
    pub(super) parent: Option<usize>,
    /// A name may have several meanings, such as a module and a function.
    pub(super) names: BTreeMap<String, Vec<Meaning>>,
    /// The paths before `::*`.
    pub(super) globs: Vec<Vec<String>>,
}

/// One meaning of a name in a module.
pub(super) enum Meaning {
    /// An item that the module defines.
    Item,
    /// A macro that the module defines. Its children use it without a path.
    Macro,
    /// A child: an index of `Model::modules`.
    Module(usize),
    /// A `use` declaration with its whole path.
    Import(Vec<String>),
}

/// A path in the text of a file.
pub(super) struct Mention {
    pub(super) module: usize,
    pub(super) path: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

impl Model {
    /// The path of the file of a module.
    pub(super) fn file(&self, module: usize) -> Option<&str> {
        self.modules.get(module).map(|module| module.file.as_str())
    }
}
