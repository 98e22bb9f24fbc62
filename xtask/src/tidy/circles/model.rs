//! The modules of one crate, and each path that its files contain.

use std::collections::BTreeMap;

/// A crate as far as names go.
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
    /// By its place in the model.
    pub(super) parent: Option<usize>,
    /// A name has several meanings where a function is named as a module, or a macro as a type.
    pub(super) names: BTreeMap<String, Vec<Meaning>>,
    /// The paths before `::*`.
    pub(super) globs: Vec<Vec<String>>,
}

/// One meaning of a name in a module.
pub(super) enum Meaning {
    /// An item that the module defines.
    Item,
    /// A macro that the module defines; its children see it without a path.
    Macro,
    /// A child, by its place in the model.
    Module(usize),
    /// A `use`, with the whole path.
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
