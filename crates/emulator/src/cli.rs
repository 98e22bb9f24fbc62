//! The command line: what can be asked, and the running of it.

mod bot;
mod call;
mod load;
mod place;
mod serve;

use std::{fmt::Display, net::SocketAddr, process::ExitCode, str::FromStr};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

/// The calling platform on your own machine.
#[derive(Debug, Parser)]
#[command(name = "switchboard-emulator", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the platform: both issuers, the Graph calls API, the control API.
    Serve(Box<serve::Serve>),
    /// Place one call and watch it; exit 0 if it ended as expected, else 1.
    Call(Box<call::Call>),
    /// Place many calls and sum up; exit 1 if one went wrong, or a notification was lost or misrouted.
    Load(Box<load::Load>),
    /// Run a small bot instance that answers every call.
    Bot(Box<bot::BotArguments>),
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Serve(serve) => Box::pin(serve::run(*serve)).await,
        Command::Call(call) => Box::pin(call::run(*call)).await,
        Command::Load(load) => Box::pin(load::run(*load)).await,
        Command::Bot(bot) => Box::pin(bot::run(*bot)).await,
    }
}

/// How somebody asks for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Waits for Ctrl-C or SIGTERM.
async fn stopped() -> Result<Told, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("no signals: {error}"))?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => {
            result.map(|()| Told::Interrupt).map_err(|error| format!("no signals: {error}"))
        }
        _ = terminate.recv() => Ok(Told::Terminate),
    }
}

/// An IP address and a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an IP address and a port, like 127.0.0.1:4000".to_owned())
}

/// A whole number from one to another, both included.
fn whole<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: Copy + FromStr + PartialOrd + Display,
{
    move |text| match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("not a whole number from {least} to {most}")),
    }
}

/// A GUID in the spelling that tokens carry.
fn guid(text: &str) -> Result<Uuid, String> {
    let wrong = || "not a GUID like 0efc74f7-41c3-47a4-8775-7259bfef4241".to_owned();
    if text.len() == 36 { Uuid::try_parse(text).map_err(|_| wrong()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_number_is_told_its_bounds() {
        let load = ["x", "load", "--to=http://x/", "--app-id=0efc74f7-41c3-47a4-8775-7259bfef4241"];
        let bot = ["x", "bot", "--platform=http://x/"];
        for (command, arguments, expected) in [
            (&load[..], &["--calls=x"][..], "not a whole number from 1 to 100000"),
            (&load, &["--calls=0"], "not a whole number from 1 to 100000"),
            (&load, &["--calls=1", "--rate=10001"], "not a whole number from 1 to 10000"),
            (&bot, &["--capacity", "-1"], "not a whole number from 0 to 1000000"),
            (&bot, &["--participant-capacity=2147483648"], "not a whole number from 0 to 2147483647"),
            (&bot, &["--app-id=0efc74f7-41c3-47a4-8775-7259bfef4241", "--secret="], "--secret <TEXT>"),
        ] {
            let error = Cli::try_parse_from(command.iter().chain(arguments)).expect_err("a wrong number");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// A value parser of another type than its field panics only when there is a value.
    #[test]
    fn every_option_can_be_given() {
        let app = "0efc74f7-41c3-47a4-8775-7259bfef4241";
        for line in [
            "bot --listen 127.0.0.1:0 --name b --platform http://x/ --capacity 100 --answer action --app-id APP --secret s \
             --delay 1s --fail 503:0.1 --hang-up-after 1s --participant-capacity 5 --joining reject --delta-roster \
             --journal j --ca c --json",
            "load --to http://x/ --app-id APP --kind group --region amer --country US --tenant APP --protocol graph \
             --token entra-v2 --duration 1s --answer-within 1s --participants 3 --platform http://x/ --ca c --calls 2 \
             --rate 3 --bot b=http://x/ --json",
            "load --to http://x/ --app-id APP --listen 127.0.0.1:0 --kind-mix p2p=2,group=1 --calls 2",
            "call --to http://x/ --app-id APP --kind pstn --region amer --country US --tenant APP --protocol legacy-first \
             --token skype --duration 1s --answer-within 1s --participants 3 --listen 127.0.0.1:0 --ca c --script s \
             --expect rejected --keep-alive --json",
            "serve --listen 127.0.0.1:0 --tls t --app-id APP --secret s --certificate c --federated-key f --tenant APP \
             --permission Calls.Initiate.All --token-life 1h --graph-auth off --post-timeout 10s \
             --rotate-every 1s --publish-before 2s --fault graph=500 --ca c --json",
        ] {
            let line = line.replace("APP", app);
            let parsed = Cli::try_parse_from(["x"].into_iter().chain(line.split_whitespace()));
            assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
        }
    }

    #[track_caller]
    fn check_wrong(arguments: &[&str], expected: &str) {
        let good = ["switchboard-emulator", "call", "--to=http://x/", "--platform=http://x/"];
        let app = "--app-id=0efc74f7-41c3-47a4-8775-7259bfef4241";
        let error = Cli::try_parse_from(good.iter().chain([&app]).chain(arguments))
            .expect_err("a wrong command line");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_wrong_command_line_is_told_what_would_be_right() {
        check_wrong(&["--kind=fax"], "must be one of p2p, group, meeting, recording, pstn");
        check_wrong(&["--listen=4000"], "not an IP address and a port, like 127.0.0.1:4000");
        check_wrong(&["--duration=5"], "a whole number with its unit, like 500ms, 1s or 2m");
        check_wrong(&["--tenant=contoso"], "not a GUID like");
        check_wrong(&["--token=bad"], "must be a kind (skype, entra-v1, entra-v2), a flaw (none, forged");
        check_wrong(&["--country=USA"], "two letters, like US");
        check_wrong(&["--durations=1s"], "'--duration'");
    }
}
