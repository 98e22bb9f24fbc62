//! The options of the commands that a package is made with.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// The options of `switchboard completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The options of `switchboard man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A folder that exists.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}
