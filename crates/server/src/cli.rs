//! The command line: what can be asked of `switchboard`, as types.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use switchboard_routing::Name;
use url::Url;
use uuid::Uuid;

use crate::config;

/// The front door of a Microsoft Teams calling bot.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway; SIGTERM drains it, SIGHUP reads its configuration again.
    Serve(ConfigArgs),
    /// Parse everything and print every problem with its path; exit 0, or 64 if there is one.
    Check(ConfigArgs),
    /// Say what would be decided for a notification, rule by rule, and why.
    Explain(ExplainArgs),
    /// Make a new seal secret.
    Keygen,
    /// Write the callback URI of an instance.
    Mint(MintArgs),
    /// Look at the fleet of a running gateway; take an instance out of it and in again.
    #[command(subcommand)]
    Fleet(FleetCommand),
}

/// What can be done with a fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Every instance: its state, its calls, and what went wrong with it.
    List(FleetListArgs),
    /// No new calls for an instance; it keeps the callbacks of the calls that it has.
    Drain(FleetDrainArgs),
    /// End a drain.
    Resume(FleetResumeArgs),
}

/// Which gateway is asked.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Its admin listener, like http://127.0.0.1:9090; plain http for loopback only.
    #[arg(long = "admin", value_name = "URL", value_parser = admin_url)]
    pub url: Url,
    /// The environment variable that holds its admin.token.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub token_env: Option<String>,
    /// The file that holds its admin.token.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON instead of lines for people.
    #[arg(long)]
    pub json: bool,
}

/// `switchboard fleet list`
#[derive(Debug, Args)]
pub struct FleetListArgs {
    /// Which gateway.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `switchboard fleet drain`
#[derive(Debug, Args)]
pub struct FleetDrainArgs {
    /// The instance.
    #[arg(value_name = "INSTANCE", value_parser = name)]
    pub instance: Name,
    /// Which gateway.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Stay until its last call has ended, and exit 0 then.
    #[arg(long)]
    pub wait: bool,
}

/// `switchboard fleet resume`
#[derive(Debug, Args)]
pub struct FleetResumeArgs {
    /// The instance.
    #[arg(value_name = "INSTANCE", value_parser = name)]
    pub instance: Name,
    /// Which gateway.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// A notification to be explained.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The notification's body; `-` reads standard input.
    #[arg(value_name = "BODY.json")]
    pub body: PathBuf,
    /// A header field of the request; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The token's tenant; without it, the one that the body names.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub tenant: Option<Uuid>,
    /// The token's app; without it, the first of the configuration.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub app: Option<Uuid>,
    /// Print JSON instead of lines for people.
    #[arg(long)]
    pub json: bool,
}

/// An instance that needs its callback URI.
#[derive(Debug, Args)]
pub struct MintArgs {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The instance.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub instance: Name,
    /// The app whose calls it takes.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub app: Uuid,
    /// This life of the instance, where the fleet's source has one.
    #[arg(long, value_name = "I", value_parser = name, default_value = "0")]
    pub incarnation: Name,
}

impl Cli {
    /// The command line of this process, its own name first. An error has been told to the user already; help and
    /// version are no errors.
    pub fn parse_or_tell(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        Self::try_parse_from(arguments).map_err(|error| {
            // Coloured on a terminal only, and not where NO_COLOR is set.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
        })
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("not like 'Name: value'")?;
    let name =
        http::HeaderName::try_from(name.trim()).map_err(|_| "the name is not one of a header field")?;
    let value = value.trim();
    if value.chars().any(char::is_control) {
        return Err("the value contains control characters".to_owned());
    }
    Ok((name.as_str().to_owned(), value.to_owned()))
}

/// An admin token must not cross a network in the clear.
fn admin_url(text: &str) -> Result<Url, &'static str> {
    let url = config::absolute_url(text).ok_or("not an absolute URL, like http://127.0.0.1:9090")?;
    if url.scheme() == "http" && !config::is_loopback(&url) {
        Err("plain http is for loopback hosts only; write https, or ask from the machine itself")
    } else if url.path() != "/" || url.query().is_some() {
        Err("has a path or a query; leave it at host and port")
    } else {
        Ok(url)
    }
}

fn guid(text: &str) -> Result<Uuid, &'static str> {
    config::parse_guid(text).ok_or("not a GUID like 0efc74f7-41c3-47a4-8775-7259bfef4241")
}

fn name(text: &str) -> Result<Name, &'static str> {
    Name::parse(text).map_err(|_| "not 1 to 63 of A-Z a-z 0-9 . _ -")
}

/// The command line or the configuration is wrong (sysexits.h).
pub const EX_USAGE: u8 = 64;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split('|'))
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "switchboard|serve|--config|a.toml",
            "switchboard|check|--config|a.toml",
            "switchboard|explain|--config|a.toml|body.json|--header|X-A: b|--header|X-C:d|--json",
            "switchboard|explain|--config|a.toml|-|--tenant|0efc74f7-41c3-47a4-8775-7259bfef4241",
            "switchboard|keygen",
            "switchboard|mint|--config|a.toml|--instance|bot-0|--app|0efc74f7-41c3-47a4-8775-7259bfef4241",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090",
            "switchboard|fleet|list|--admin|https://gateway.contoso.com:9090/|--json|--token-env|TOKEN",
            "switchboard|fleet|drain|bot-0|--admin|http://[::1]:9090|--wait|--token-file|token",
            "switchboard|fleet|resume|--admin|http://localhost:9090|bot-0",
        ] {
            parse(line).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in [
            "switchboard",
            "switchboard|fleet",
            "switchboard|fleet|list",
            "switchboard|fleet|list|--admin|127.0.0.1:9090",
            "switchboard|fleet|list|--admin|http://10.0.0.1:9090",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090/fleet",
            "switchboard|fleet|list|--admin|http://u:p@127.0.0.1:9090",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090|--wait",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090|--token-env|A|--token-file|b",
            "switchboard|fleet|drain|--admin|http://127.0.0.1:9090",
            "switchboard|fleet|drain|bot/0|--admin|http://127.0.0.1:9090",
            "switchboard|serve",
            "switchboard|check|a.toml",
            "switchboard|explain|--config|a.toml|body.json|--header|no colon",
            "switchboard|explain|--config|a.toml|body.json|--header|b ad: value",
            "switchboard|explain|--config|a.toml|body.json|--header|a: b\nc",
            "switchboard|explain|--config|a.toml|body.json|--tenant|contoso",
            "switchboard|mint|--config|a.toml|--instance|bot/0|--app|0efc74f7-41c3-47a4-8775-7259bfef4241",
            "switchboard|mint|--config|a.toml|--instance|bot-0|--app|{0efc74f7-41c3-47a4-8775-7259bfef4241}",
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line}");
        }
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("X-Test :  a: b "), Ok(("x-test".to_owned(), "a: b".to_owned())));
    }
}
