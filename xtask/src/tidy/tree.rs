//! The text files of the repository.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Every text file below one folder.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    /// In the order of their paths.
    pub(super) files: Vec<File>,
}

/// One text file.
pub(super) struct File {
    /// Relative to the root, with `/` between the parts.
    pub(super) path: String,
    pub(super) text: String,
}

impl Tree {
    /// Reads all files but build output, git's data, and files that are not UTF-8.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(inner) = folders.pop() {
            for entry in fs::read_dir(root.join(&inner))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = if inner.is_empty() { name } else { format!("{inner}/{name}") };
                if entry.file_type()?.is_dir() {
                    if !LEFT_OUT.contains(&path.as_str()) {
                        folders.push(path);
                    }
                } else if let Ok(text) = String::from_utf8(fs::read(entry.path())?) {
                    files.push(File { path, text });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root: root.to_owned(), files })
    }

    /// The files whose path ends with `end`.
    pub(super) fn ending<'t>(&'t self, end: &'t str) -> impl Iterator<Item = &'t File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }

    /// The file at `path`, relative to the root.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }
}

impl File {
    /// The lines with their numbers, from 1. A trailing newline yields one more, empty line.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.split('\n'))
    }

    /// The numbered lines without history: the sections of released versions in the changelog.
    pub(super) fn current(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_changelog = self.path == "CHANGELOG.md";
        let mut is_history = false;
        self.numbered().filter(move |(_, line)| {
            if is_changelog && line.starts_with("## ") {
                is_history = !line.contains("Unreleased");
            }
            !is_history
        })
    }

    /// The number of the line that contains the byte at `offset`, from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// True unless xtask or cargo generates the file, or it is a verbatim copy.
    pub(super) fn is_written_by_hand(&self) -> bool {
        let path = self.path.as_str();
        let name = path.rsplit('/').next().unwrap_or(path);
        path == "fixtures/README.md"
            || !path.starts_with("fixtures/") && !name.starts_with("LICENSE-") && path != "Cargo.lock"
    }

    /// True for files that contain only tests.
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

const LEFT_OUT: [&str; 6] = [
    ".git",
    "target",
    // Written by pip, pytest and npm.
    "packages/python/build",
    "packages/python/src/switchboard_emulator.egg-info",
    "packages/python/.pytest_cache",
    "packages/node/node_modules",
];
