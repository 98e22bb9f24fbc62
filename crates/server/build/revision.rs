//! The commit that is checked out, read from the files of git: a build need not have the program.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A commit, and the files that change when another one is checked out or made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) commit: String,
    pub(crate) sources: Vec<PathBuf>,
}

/// The commit of the repository that has the crate in `folder`. `None` if it is not in this repository, as in
/// the sources of a registry.
pub(crate) fn of_crate(folder: &Path) -> Option<Revision> {
    // A copy in another project, such as `vendor/switchboard`, must not get the commit of that project.
    let root = folder.parent()?.parent().filter(|root| root.join("crates/server") == folder)?;
    let git = git_folder(&root.join(".git"))?;
    let head_file = git.join("HEAD");
    let head = read(&head_file)?;
    let mut sources = vec![head_file];
    // The log of HEAD changes with each commit, also if its branch has no file of its own yet.
    sources.extend(Some(git.join("logs/HEAD")).filter(|file| file.is_file()));
    let commit = match head.strip_prefix("ref: ") {
        None => head,
        Some(branch) => {
            // A worktree shares the branches.
            let shared = read(&git.join("commondir")).map_or_else(|| git.clone(), |path| git.join(path));
            let file = shared.join(branch);
            let commit = read(&file);
            sources.extend(commit.is_some().then_some(file));
            commit.or_else(|| packed(&read(&shared.join("packed-refs"))?, branch))?
        }
    };
    let is_hash = [40, 64].contains(&commit.len()) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then_some(Revision { commit, sources })
}

/// The folder with the files of git. In a worktree or a submodule `.git` is a file that names it.
fn git_folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let target = read(path)?;
    Some(path.parent()?.join(target.strip_prefix("gitdir: ")?))
}

/// The commit of a branch in the text of `packed-refs`.
fn packed(text: &str, branch: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(_, name)| *name == branch).map(|(commit, _)| commit.to_owned())
}

fn read(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim_end().to_owned())
}
