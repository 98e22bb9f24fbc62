//! Circles between the files of a crate: files that can only be understood together.
//!
//! A file depends on the file that defines an item which it names, also through re-exports. Declarations of
//! modules, `pub use` and everything that only tests compile do not count. Methods do not count either: this
//! file looks at paths only.

mod model;
mod names;
mod reader;

use std::collections::{BTreeMap, BTreeSet};

use self::{model::Model, names::definers};
use super::{
    finding::Finding,
    tree::{File, Tree},
};

/// One finding per circle, in each crate.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let roots = tree
        .files
        .iter()
        .filter(|file| file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs"));
    roots
        .flat_map(|root| match reader::read(tree, root) {
            Ok(model) => of_crate(tree, root, &model),
            Err(finding) => vec![finding],
        })
        .collect()
}

/// The names that tie one file to another, by the paths of both.
type Ties<'m> = BTreeMap<(&'m str, &'m str), BTreeSet<&'m str>>;

fn of_crate(tree: &Tree, root: &File, model: &Model) -> Vec<Finding> {
    let mut ties = Ties::new();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for mention in &model.mentions {
        let Some(from) = model.file(mention.module) else { continue };
        for (to, name) in definers(model, mention) {
            if from != to {
                ties.entry((from, to)).or_default().insert(name);
                lines.entry(from).or_insert(mention.line);
            }
        }
    }
    let folder = root.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    circles(&ties)
        .iter()
        .filter_map(|circle| {
            let first = *circle.first()?;
            let file = tree.file(first)?;
            Some(Finding::new(file, lines.get(first).copied().unwrap_or(1), describe(folder, circle, &ties)))
        })
        .collect()
}

/// The largest sets of files in which each file depends on all others.
fn circles<'m>(ties: &Ties<'m>) -> Vec<BTreeSet<&'m str>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in ties.keys() {
        next.entry(from).or_default().push(to);
    }
    let reach = |from: &'m str| {
        let mut reached: BTreeSet<&'m str> = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for to in next.get(file).into_iter().flatten() {
                if reached.insert(to) {
                    open.push(to);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|from| (*from, reach(from))).collect();
    let mut circles: Vec<BTreeSet<&str>> = Vec::new();
    for (from, to) in &reached {
        if to.contains(from) && !circles.iter().any(|circle| circle.contains(from)) {
            let back = |file: &&str| reached.get(file).is_some_and(|reached| reached.contains(from));
            circles.push(to.iter().copied().filter(|file| back(file)).collect());
        }
    }
    circles
}

/// The circle, and a line for each tie in it. The names in these lines include the items to move.
fn describe(folder: &str, circle: &BTreeSet<&str>, ties: &Ties<'_>) -> String {
    let short = |path: &str| path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/').to_owned();
    let mut text = format!(
        "circle of {} files; move the items that tie them to a file that names no other file of the circle:",
        circle.len()
    );
    for ((from, to), names) in ties {
        if circle.contains(from) && circle.contains(to) {
            let names: Vec<_> = names.iter().copied().collect();
            text.push_str(&format!("\n    {} -> {}: {}", short(from), short(to), names.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests;
