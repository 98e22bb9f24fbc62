//! `switchboard completions` and `switchboard man`: what a package contains about the command line.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::CommandFactory as _;

use super::output::{FAILURE, complain, print};
use crate::{
    cli::{Cli, CompletionsArgs, ManArgs},
    config::shown,
};

/// `switchboard completions`: prints the script by which a shell completes the command line.
pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

/// `switchboard man`: writes the manual pages of all commands into a folder.
pub fn man(args: &ManArgs) -> ExitCode {
    match write_pages(&args.folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{}: cannot be written: {error}", shown(&args.folder)), FAILURE),
    }
}

fn write_pages(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)?;
    let mut page = OpenOptions::new().append(true).open(folder.join(format!("{NAME}.1")))?;
    page.write_all(SECTIONS.as_bytes())
}

const NAME: &str = "switchboard";
/// The sections of `switchboard(1)` that the definitions of the command line do not have.
const SECTIONS: &str = include_str!("manual/sections.roff");

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write_pages(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let top = read("switchboard.1");
        for section in ["NAME", "SYNOPSIS", "SUBCOMMANDS", "FILES", "\"EXIT STATUS\""] {
            assert!(top.contains(&format!(".SH {section}\n")), "{section}");
        }
        let mut command = Cli::command();
        command.build();
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            if name != "help" {
                assert!(read(&format!("switchboard-{name}.1")).contains(".SH SYNOPSIS\n"), "{name}");
            }
        }
        assert!(read("switchboard-fleet-find.1").contains("CALL"));
        assert!(!folder.path().join("switchboard-man.1").exists());
    }

    /// The shell itself reads the script: a misspelt one fails here, and not at a user's prompt.
    #[test]
    fn bash_completes_a_command_and_an_option() {
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut Cli::command(), NAME, &mut script);
        let script = String::from_utf8(script).unwrap();
        let complete = |words: &str, last: usize| {
            let line = format!(
                "{script}\nCOMP_WORDS=({words}); COMP_CWORD={last}; _switchboard switchboard \
                 \"${{COMP_WORDS[{last}]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
            );
            let bash = Command::new("bash").args(["-c", &line]).stderr(Stdio::inherit()).output().unwrap();
            String::from_utf8(bash.stdout).unwrap()
        };
        assert_eq!(complete("switchboard doc", 1), "doctor\n");
        assert_eq!(complete("switchboard fleet dr", 2), "drain\n");
        assert_eq!(complete("switchboard check --without", 2), "--without-secrets\n");
    }
}
