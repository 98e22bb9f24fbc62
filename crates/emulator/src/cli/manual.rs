//! `completions` and `man`: what a package contains about the command line.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Command};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// A folder that exists.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Prints the script by which a shell completes the command line.
pub(super) fn completions(
    arguments: &CompletionsArguments,
    mut command: Command,
) -> Result<ExitCode, String> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "switchboard-emulator", &mut script);
    io::stdout().write_all(&script).map_err(|error| format!("cannot write: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual pages of all commands.
pub(super) fn man(arguments: &ManArguments, command: Command) -> Result<ExitCode, String> {
    clap_mangen::generate_to(command, &arguments.folder)
        .map_err(|error| format!("{}: cannot be written: {error}", arguments.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory as _;

    use super::{
        super::{Cli, variables},
        *,
    };

    #[test]
    fn each_command_has_a_page_that_names_no_value_of_a_variable() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ManArguments { folder: folder.path().to_owned() };
        man(&arguments, variables::with_variables(Cli::command())).unwrap();
        let top = fs::read_to_string(folder.path().join("switchboard-emulator.1")).unwrap();
        assert!(top.contains("SWITCHBOARD_EMULATOR_APP_ID"), "{top}");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.path().join(format!("switchboard-emulator-{}.1", command.get_name()));
            assert!(fs::read_to_string(page).unwrap().contains(".SH SYNOPSIS\n"), "{}", command.get_name());
        }
        assert!(!folder.path().join("switchboard-emulator-guard.1").exists());
    }
}
