//! The command line and its commands.

mod bot;
mod call;
mod call_options;
mod guard;
mod listen;
mod load;
mod manual;
mod platform_options;
mod replay;
mod sdk_options;
mod serve;
mod stop;
mod up;
mod values;
mod variables;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Emulate the Teams calling platform on your own machine.
#[derive(Debug, Parser)]
#[command(name = "switchboard-emulator", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run all in one: the platform, bots, and the gateway in front of them.
    Up(Box<up::UpArguments>),
    /// Run the platform: both token issuers, the Graph calls API and the control API.
    Serve(Box<serve::ServeArguments>),
    /// Place one call and show its timeline. Exit with 0 if the call ends as expected, else with 1.
    Call(Box<call::CallArguments>),
    /// Place many calls and print a report. Exit with 1 if a call fails or a notification is lost or
    /// misrouted.
    Load(Box<load::LoadArguments>),
    /// Run a small bot instance. By default it answers every call.
    Bot(Box<bot::BotArguments>),
    /// Forward notifications of the real platform, and save them without secrets and personal data.
    Listen(Box<listen::ListenArguments>),
    /// Place the calls of a recording again. Exit with 0 if each completes, else with 1.
    Replay(Box<replay::ReplayArguments>),
    /// Print the script by which a shell completes the command line.
    Completions(manual::CompletionsArguments),
    /// Write the manual pages of all commands into a folder.
    #[command(hide = true)]
    Man(manual::ManArguments),
    /// Run a program until it ends or stdin is closed. `up` runs the gateway by it.
    #[command(hide = true)]
    Guard(guard::GuardArguments),
}

/// Reads the command line, and the variables of options that it does not give.
pub(crate) fn parse() -> Result<Command, clap::Error> {
    let matches = variables::with_variables(Cli::command()).try_get_matches()?;
    Ok(Cli::from_arg_matches(&matches)?.command)
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Serve(arguments) => Box::pin(serve::run(*arguments)).await,
        Command::Call(arguments) => Box::pin(call::run(*arguments)).await,
        Command::Load(arguments) => Box::pin(load::run(*arguments)).await,
        Command::Bot(arguments) => Box::pin(bot::run(*arguments)).await,
        Command::Listen(arguments) => Box::pin(listen::run(*arguments)).await,
        Command::Replay(arguments) => Box::pin(replay::run(*arguments)).await,
        Command::Up(arguments) => Box::pin(up::run(*arguments)).await,
        Command::Completions(arguments) => manual::completions(&arguments, Cli::command()),
        Command::Man(arguments) => manual::man(&arguments, variables::with_variables(Cli::command())),
        Command::Guard(arguments) => Box::pin(guard::run(arguments)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Cli::command().debug_assert();
        variables::with_variables(Cli::command()).debug_assert();
    }

    #[test]
    fn a_number_out_of_bounds_is_rejected_with_its_bounds() {
        let load = ["x", "load", "--to=http://x/", "--app-id=0efc74f7-41c3-47a4-8775-7259bfef4241"];
        let bot = ["x", "bot", "--platform=http://x/"];
        for (command, arguments, expected) in [
            (&load[..], &["--calls=x"][..], "not a whole number from 1 to 100000"),
            (&load, &["--calls=0"], "not a whole number from 1 to 100000"),
            (&load, &["--calls=1", "--rate=10001"], "not a whole number from 1 to 10000"),
            (&bot, &["--like=sdk"], "--app-id <GUID>"),
            (&bot, &["--then=levitate"], "must be one of answer, reject, redirect"),
            (&bot, &["--with=prompt"], "not NAME=VALUE"),
            (&bot, &["--capacity", "-1"], "not a whole number from 0 to 1000000"),
            (&bot, &["--participant-capacity=2147483648"], "not a whole number from 0 to 2147483647"),
            (&bot, &["--app-id=0efc74f7-41c3-47a4-8775-7259bfef4241", "--secret="], "--secret <TEXT>"),
        ] {
            let error = Cli::try_parse_from(command.iter().chain(arguments)).expect_err("an invalid number");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// clap panics on a value parser of another type than its field, but only when the option has a value.
    #[test]
    fn every_option_accepts_a_value() {
        let app = "0efc74f7-41c3-47a4-8775-7259bfef4241";
        for line in [
            "bot --listen 127.0.0.1:0 --name b --platform http://x/ --capacity 100 --answer action \
             --app-id APP --secret s --delay 1s --fail 503:0.1 --hang-up-after 1s --participant-capacity 5 \
             --joining reject --delta-roster --journal j --ca c --json --like sdk \
             --then playPrompt,recordResponse --with prompt=http://x/a.wav --with user=u",
            "load --to http://x/ --app-id APP --kind group --region amer --country US --tenant APP \
             --protocol graph --token entra-v2 --duration 1s --answer-within 1s --participants 3 \
             --platform http://x/ --ca c --calls 2 --rate 3 --bot b=http://x/ --json",
            "load --to http://x/ --app-id APP --listen 127.0.0.1:0 --kind-mix p2p=2,group=1 --calls 2",
            "call --to http://x/ --app-id APP --kind pstn --region amer --country US --tenant APP \
             --protocol legacy-first --token skype --duration 1s --answer-within 1s --participants 3 \
             --listen 127.0.0.1:0 --ca c --script s --body b --set a=1 --set /b=2 \
             --expect rejected --keep-alive --json",
            "up --bots 3 --answer action --app-id APP --listen 127.0.0.1:0 --bot-port 0 \
             --gateway 127.0.0.1:0 --admin 127.0.0.1:0 --folder f --switchboard s --json",
            "up --config c",
            "up --own-bot http://127.0.0.1:3978/api/calls --own-bot http://127.0.0.1:3979/api/calls",
            "listen --forward-to http://x --save f --listen 127.0.0.1:0 --ca c --json",
            "replay FILE --to http://x/ --app-id APP --tenant APP --fast --platform http://x/ --ca c --json",
            "replay FILE --to http://x/ --listen 127.0.0.1:0",
            "serve --listen 127.0.0.1:0 --tls t --app-id APP --secret s --certificate c --federated-key f \
             --tenant APP --permission Calls.Initiate.All --token-life 1h --graph-auth off \
             --post-timeout 10s --rotate-every 1s --publish-before 2s --fault graph=500 --ca c --json",
        ] {
            let line = line.replace("APP", app);
            let parsed = Cli::try_parse_from(["x"].into_iter().chain(line.split_whitespace()));
            assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
        }
    }

    #[track_caller]
    fn check_rejected(arguments: &[&str], expected: &str) {
        let good = ["switchboard-emulator", "call", "--to=http://x/", "--platform=http://x/"];
        let app = "--app-id=0efc74f7-41c3-47a4-8775-7259bfef4241";
        let error = Cli::try_parse_from(good.iter().chain([&app]).chain(arguments))
            .expect_err("an invalid command line");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn an_invalid_value_is_rejected_with_an_example() {
        check_rejected(&["--kind=fax"], "must be one of p2p, group, meeting, recording, pstn");
        check_rejected(&["--listen=4000"], "not an IP address and a port, like 127.0.0.1:4000");
        check_rejected(&["--duration=5"], "a whole number with its unit, like 500ms, 1s or 2m");
        check_rejected(&["--tenant=contoso"], "not a GUID like");
        check_rejected(
            &["--token=bad"],
            "must be a kind (skype, skype-slash, entra-v1, entra-v2), a flaw (none",
        );
        check_rejected(&["--country=USA"], "two letters, like US");
        check_rejected(&["--durations=1s"], "'--duration'");
    }
}
