//! Rules for documents: links have a target, and the list of fixtures is complete.

use std::{collections::BTreeSet, path::Path};

use super::{
    finding::Finding,
    tree::{File, Tree},
};

/// Violations in Markdown files.
pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<_> = tree
        .ending(".md")
        .flat_map(|file| links(file).filter_map(|link| broken(tree, file, &link)))
        .collect();
    findings.extend(unlisted(tree));
    findings
}

/// `[text](target)` in a document.
struct Link {
    line: usize,
    target: String,
}

/// The links outside code blocks.
fn links(file: &File) -> impl Iterator<Item = Link> + '_ {
    prose(&file.text).flat_map(|(line, text)| {
        text.split("](").skip(1).filter_map(move |rest| {
            let target = rest.split(')').next()?;
            Some(Link { line, target: target.trim().to_owned() })
        })
    })
}

/// The numbered lines outside code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// A link without a target. Links to other hosts are not checked: the gate would then depend on the network.
fn broken(tree: &Tree, file: &File, link: &Link) -> Option<Finding> {
    if link.target.contains("://") || link.target.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = match link.target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (link.target.as_str(), None),
    };
    let target = if path.is_empty() { Some(file.path.clone()) } else { resolve(&file.path, path) };
    let problem = |text: String| Some(Finding::new(file, link.line, text));
    let Some(target) = target else {
        return problem(format!("the link to `{path}` leaves the repository"));
    };
    if !tree.root.join(&target).exists() {
        return problem(format!("the link to `{path}` has no target: there is no {target}"));
    }
    let heading = heading?;
    let document = tree.files.iter().find(|other| other.path == target && target.ends_with(".md"))?;
    (!anchors(&document.text).contains(heading))
        .then(|| Finding::new(file, link.line, format!("{target} has no heading `#{heading}`")))
}

/// Resolves `path` from the document at `from`; the result is relative to the root.
fn resolve(from: &str, path: &str) -> Option<String> {
    let folder = Path::new(from).parent().and_then(Path::to_str).unwrap_or_default();
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a document's headings: lower case, dashes for blanks, no other signs.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            heading
                .chars()
                .filter_map(|sign| match sign {
                    ' ' => Some('-'),
                    '-' | '_' => Some(sign),
                    _ => sign.is_alphanumeric().then_some(sign),
                })
                .collect()
        })
        .collect()
}

/// The folders of fixtures that `fixtures/README.md` does not name.
fn unlisted(tree: &Tree) -> Vec<Finding> {
    let folders: BTreeSet<&str> = tree
        .files
        .iter()
        .filter_map(|file| Some(file.path.strip_prefix("fixtures/")?.split_once('/')?.0))
        .collect();
    let readme = tree.files.iter().find(|file| file.path == "fixtures/README.md");
    let listed = readme.map_or("", |file| file.text.as_str());
    folders
        .into_iter()
        .filter(|folder| !listed.contains(&format!("{folder}/")))
        .map(|folder| Finding {
            path: "fixtures/README.md".to_owned(),
            line: 1,
            text: format!("the file does not say what `{folder}/` proves"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::tidy::tests::check;

    #[test]
    fn links_with_a_target_pass() {
        check(
            &[
                (
                    "README.md",
                    "# Name\n[a](docs/a.md) and [b](docs/a.md#the-b-c-of-it)\n[here](#name) \
                     [x](https://x.example/)\n",
                ),
                ("docs/a.md", "## The `B, C` of it\n[up](../README.md), [folder](../docs/)\n"),
            ],
            &[],
        );
    }

    #[test]
    fn links_without_a_target_are_found() {
        check(
            &[
                ("README.md", "\n[a](docs/b.md) [b](docs/a.md#gone) [c](../x.md)\n"),
                ("docs/a.md", "[a](b.md)\n```text\n# Gone\n[c](d.md)\n```\n"),
            ],
            &[
                "README.md:2: the link to `docs/b.md` has no target: there is no docs/b.md",
                "README.md:2: docs/a.md has no heading `#gone`",
                "README.md:2: the link to `../x.md` leaves the repository",
                "docs/a.md:1: the link to `b.md` has no target: there is no docs/b.md",
            ],
        );
    }

    #[test]
    fn every_folder_of_fixtures_is_listed() {
        check(
            &[("fixtures/README.md", "- `keys/`: …\n"), ("fixtures/keys/a", ""), ("fixtures/jwks/a", "")],
            &["fixtures/README.md:1: the file does not say what `jwks/` proves"],
        );
    }
}
