//! A variable for each option: `--app-id` is also `SWITCHBOARD_EMULATOR_APP_ID`.

use clap::Command;

/// Adds the variable of each option of each command. The command line goes before it.
pub(super) fn with_variables(command: Command) -> Command {
    command
        .mut_subcommands(|command| {
            // Without --platform, call, load and replay start a platform of their own. A variable for its
            // address would contradict one for --platform.
            let may_start_platform = command.get_arguments().any(|option| option.get_id() == "platform")
                && command.get_name() != "bot";
            command.mut_args(move |option| {
                let Some(name) = option.get_long().filter(|name| !matches!(*name, "help" | "version")) else {
                    return option;
                };
                if may_start_platform && name == "listen" {
                    return option;
                }
                let variable = format!("{PREFIX}{}", name.replace('-', "_").to_ascii_uppercase());
                // Help would show the values, and secrets are among them.
                option.env(variable).hide_env(true)
            })
        })
        .after_help(
            "Each option is also a variable: --app-id is SWITCHBOARD_EMULATOR_APP_ID. The command line goes \
         before it.",
        )
}

const PREFIX: &str = "SWITCHBOARD_EMULATOR_";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{super::Cli, *};

    #[test]
    fn each_option_has_a_variable_and_no_help_shows_a_value() {
        let command = with_variables(Cli::command());
        let mut variables = Vec::new();
        for command in command.get_subcommands() {
            for option in command.get_arguments().filter(|option| option.get_long().is_some()) {
                assert!(option.is_hide_env_set() || option.get_env().is_none(), "{option}");
                let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
                variables.push(format!("{} {}", command.get_name(), variable.unwrap_or_default()));
            }
        }
        for expected in [
            "serve SWITCHBOARD_EMULATOR_LISTEN",
            "bot SWITCHBOARD_EMULATOR_LISTEN",
            "call SWITCHBOARD_EMULATOR_APP_ID",
            "load SWITCHBOARD_EMULATOR_PLATFORM",
            "up SWITCHBOARD_EMULATOR_BOT_PORT",
        ] {
            assert!(variables.iter().any(|variable| variable == expected), "{expected}: {variables:?}");
        }
        assert!(!variables.iter().any(|variable| variable == "call SWITCHBOARD_EMULATOR_LISTEN"));
    }
}
