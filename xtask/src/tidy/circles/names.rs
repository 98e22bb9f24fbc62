//! Resolves a path to the file that defines the named item.

use super::model::{Meaning, Mention, Model};

/// The files that define the items which a path names, each with the item's name. Empty for modules and for
/// other crates.
pub(super) fn definers<'m>(model: &'m Model, mention: &'m Mention) -> Vec<(&'m str, &'m str)> {
    let mut resolver = Resolver { model, open: Vec::new() };
    let targets = resolver.path(mention.module, &mention.path);
    let items = targets.into_iter().filter_map(|target| match target {
        Target::Item { module, name } => Some((model.file(module)?, name)),
        Target::Module(_) => None,
    });
    items.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target<'m> {
    Item { module: usize, name: &'m str },
    Module(usize),
}

struct Resolver<'m> {
    model: &'m Model,
    /// The imports on the way to the current name. An import that leads back to itself ends there.
    open: Vec<(usize, &'m str, usize)>,
}

impl<'m> Resolver<'m> {
    fn path(&mut self, module: usize, path: &'m [String]) -> Vec<Target<'m>> {
        let Some((first, mut rest)) = path.split_first() else { return Vec::new() };
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(0)],
            "self" => vec![Target::Module(module)],
            "super" => self.parent(module),
            name => self.name(module, name, true),
        };
        while let Some((segment, after)) = rest.split_first() {
            rest = after;
            let modules: Vec<_> = targets
                .iter()
                .filter_map(|target| match target {
                    Target::Module(module) => Some(*module),
                    Target::Item { .. } => None,
                })
                .collect();
            if modules.is_empty() {
                // An associated item or a variant belongs to the file of its type.
                break;
            }
            targets = modules
                .into_iter()
                .flat_map(|module| match segment.as_str() {
                    "super" => self.parent(module),
                    "self" => vec![Target::Module(module)],
                    name => self.name(module, name, false),
                })
                .collect();
        }
        targets
    }

    fn parent(&self, module: usize) -> Vec<Target<'m>> {
        let parent = self.model.modules.get(module).and_then(|module| module.parent);
        parent.map(Target::Module).into_iter().collect()
    }

    /// The meanings of a name in a module. `is_first`: nothing stands before the name, so macros of the
    /// modules around it are visible too.
    fn name(&mut self, module: usize, name: &'m str, is_first: bool) -> Vec<Target<'m>> {
        let Some(scope) = self.model.modules.get(module) else { return Vec::new() };
        let mut targets = Vec::new();
        for (at, meaning) in scope.names.get(name).into_iter().flatten().enumerate() {
            match meaning {
                Meaning::Item | Meaning::Macro => targets.push(Target::Item { module, name }),
                Meaning::Module(child) => targets.push(Target::Module(*child)),
                Meaning::Import(path) => targets.extend(self.follow((module, name, at), path)),
            }
        }
        if targets.is_empty() {
            for (at, path) in scope.globs.iter().enumerate() {
                let places = self.follow((module, "*", at), path);
                for place in places {
                    if let Target::Module(place) = place {
                        targets.extend(self.follow_in(place, name));
                    }
                }
            }
        }
        if targets.is_empty() && is_first {
            targets.extend(self.macro_around(scope.parent, name));
        }
        targets
    }

    fn follow(&mut self, place: (usize, &'m str, usize), path: &'m [String]) -> Vec<Target<'m>> {
        if self.open.contains(&place) {
            return Vec::new();
        }
        self.open.push(place);
        let targets = self.path(place.0, path);
        self.open.pop();
        targets
    }

    /// Looks up a name behind a glob. Two globs may name each other's module.
    fn follow_in(&mut self, module: usize, name: &'m str) -> Vec<Target<'m>> {
        let place = (module, name, usize::MAX);
        if self.open.contains(&place) {
            return Vec::new();
        }
        self.open.push(place);
        let targets = self.name(module, name, false);
        self.open.pop();
        targets
    }

    fn macro_around(&self, mut module: Option<usize>, name: &'m str) -> Option<Target<'m>> {
        while let Some(at) = module {
            let scope = self.model.modules.get(at)?;
            let meanings = scope.names.get(name).into_iter().flatten();
            if meanings.into_iter().any(|meaning| matches!(meaning, Meaning::Macro)) {
                return Some(Target::Item { module: at, name });
            }
            module = scope.parent;
        }
        None
    }
}
