//! The command line of `switchboard`.

mod given;
mod manual;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use switchboard_delivery::InstanceState;
use switchboard_notification::CallId;
use switchboard_routing::Name;
use url::Url;
use uuid::Uuid;

use self::given::GivenParser;
pub use self::{
    given::{Given, GivenBy},
    manual::{CompletionsArgs, ManArgs},
};
use crate::{config, request::outcome::Outcome};

/// The gateway in front of Microsoft Teams calling bots.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// A command of `switchboard`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway; SIGTERM drains it, SIGHUP reloads its configuration.
    Serve(ConfigArgs),
    /// Check the configuration and print every problem with its place; exit 0, or 64 if there is a problem.
    Check(CheckCommandArgs),
    /// Explain what the gateway would do with a notification, a callback or a token, rule by rule.
    Explain(ExplainArgs),
    /// Look up and connect to everything that the configuration names; exit 0, or 1 if something fails.
    Doctor(DoctorArgs),
    /// Make a new seal secret.
    Keygen,
    /// Print the callback URI of an instance.
    Mint(MintArgs),
    /// Show the fleet of running gateways; drain and resume its instances, and find a call.
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Show the requests of running gateways as they end, until Ctrl-C.
    Tail(TailArgs),
    /// Print the script by which a shell completes the command line.
    Completions(CompletionsArgs),
    /// Write the manual pages of all commands into a folder.
    #[command(hide = true)]
    Man(ManArgs),
}

/// A command of `switchboard fleet`.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// List every instance with its state, its calls and its failures.
    List(FleetListArgs),
    /// Stop new calls to an instance; it keeps the callbacks of the calls that it has.
    Drain(FleetDrainArgs),
    /// End a drain.
    Resume(FleetResumeArgs),
    /// Find the instance of a call; exit 0, or 1 if no gateway remembers the call.
    Find(FleetFindArgs),
}

/// The options that name the gateways.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The admin listener of a gateway; may be repeated, or name several gateways with commas between them.
    /// Plain http is for loopback only.
    #[arg(
        long = "admin",
        value_name = "URL",
        env = ADMIN_VARIABLE,
        default_value = ADMIN_DEFAULT,
        value_parser = GivenParser(admin_urls)
    )]
    pub urls: Vec<Given<Vec<Url>>>,
    /// The environment variable that holds the admin.token of the gateways.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub token_env: Option<String>,
    /// The file that holds the admin.token of the gateways.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON instead of lines for people.
    #[arg(long)]
    pub json: bool,
}

impl AdminArgs {
    /// Each gateway once, in the order of the command line.
    pub fn gateways(&self) -> Vec<Given<Url>> {
        let mut gateways: Vec<Given<Url>> = Vec::new();
        for Given { value: urls, by } in &self.urls {
            for url in urls {
                if gateways.iter().all(|known| known.value != *url) {
                    gateways.push(Given { value: url.clone(), by: *by });
                }
            }
        }
        gateways
    }
}

/// `switchboard fleet list`
#[derive(Debug, Args)]
pub struct FleetListArgs {
    /// The gateways.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// List the instances in this state only.
    #[arg(long, value_name = "STATE", value_parser = InstanceState::ALL.map(InstanceState::label))]
    pub state: Option<String>,
    /// List the instances only that drain and are empty: they can be removed without the end of a call.
    #[arg(long)]
    pub empty: bool,
    /// List the instances again every 2 s until Ctrl-C.
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

/// `switchboard fleet drain`
#[derive(Debug, Args)]
pub struct FleetDrainArgs {
    /// The instance.
    #[arg(value_name = "INSTANCE", value_parser = name)]
    pub instance: Name,
    /// The gateways.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Wait until the last call of the instance has ended, then exit 0.
    #[arg(long)]
    pub wait: bool,
}

/// `switchboard fleet resume`
#[derive(Debug, Args)]
pub struct FleetResumeArgs {
    /// The instance.
    #[arg(value_name = "INSTANCE", value_parser = name)]
    pub instance: Name,
    /// The gateways.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `switchboard fleet find`
#[derive(Debug, Args)]
pub struct FleetFindArgs {
    /// The id of the call.
    #[arg(value_name = "CALL", value_parser = call_id)]
    pub call: String,
    /// The gateways.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// The options of `switchboard tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Show the requests about this call only.
    #[arg(long, value_name = "ID", value_parser = call_id)]
    pub call: Option<String>,
    /// Show the requests with this outcome only; may be repeated.
    #[arg(long = "outcome", value_name = "LABEL", hide_possible_values = true,
        value_parser = Outcome::ALL.map(Outcome::label))]
    pub outcomes: Vec<String>,
    /// The gateways.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// The option that names the configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration, a TOML file.
    #[arg(
        long = "config",
        value_name = "FILE",
        env = CONFIG_VARIABLE,
        default_value = CONFIG_DEFAULT,
        value_parser = GivenParser(path)
    )]
    pub file: Given<PathBuf>,
}

impl ConfigArgs {
    /// The path of the configuration.
    pub fn path(&self) -> &Path {
        &self.file.value
    }
}

/// The options of `switchboard check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Read no secret, certificate or key that the configuration names, for a machine that has none of them.
    #[arg(long)]
    pub without_secrets: bool,
    /// The format of the output.
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
}

/// The options of `switchboard check`.
#[derive(Debug, Args)]
pub struct CheckCommandArgs {
    /// The configuration, and the format.
    #[command(flatten)]
    pub check: CheckArgs,
    /// Say which settings a reload would change if FILE applies now, and which of them need a restart.
    /// Defaults count. Secrets are compared by their sources and files by their paths: a new certificate in
    /// the same file is no change. Nothing that FILE names is read.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

/// The format of the output of `check` and `explain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Lines for people, with problems as FILE:LINE:COLUMN.
    #[default]
    Text,
    /// One JSON object on stdout.
    Json,
    /// Problems as annotations of a workflow of GitHub Actions.
    Github,
}

/// The options of `switchboard doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The tenant to request Graph tokens for; by default, the tenants of the apps.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub tenant: Option<Uuid>,
    /// Print JSON instead of lines for people.
    #[arg(long)]
    pub json: bool,
}

/// The options of `switchboard explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The configuration, and the format.
    #[command(flatten)]
    pub check: CheckArgs,
    /// The body of the notification; `-` reads standard input.
    #[arg(value_name = "BODY.json", required_unless_present_any = ["callback", "token"])]
    pub body: Option<PathBuf>,
    /// A callback URI to explain, or its path.
    #[arg(long, value_name = "URI")]
    pub callback: Option<String>,
    /// A file with a bearer token to explain, without the network; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// A header field of the request; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The tenant of the token; by default, the one in --token or in the body.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub tenant: Option<Uuid>,
    /// The app of the token; by default, the one in --token or the first app of the configuration.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub app: Option<Uuid>,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

impl ExplainArgs {
    /// The format of the output.
    pub fn format(&self) -> OutputFormat {
        if self.json { OutputFormat::Json } else { self.check.format }
    }
}

/// The options of `switchboard mint`.
#[derive(Debug, Args)]
pub struct MintArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The instance; by default that of the pod in the variable POD_NAME.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub instance: Option<Name>,
    /// The app whose calls the instance takes.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    pub app: Uuid,
    /// The incarnation of the instance, as its source or its probe reports it. By default, if the fleet is
    /// the pods of a service, that of the uid in POD_UID; else 0, which stands for any.
    #[arg(long, value_name = "I", value_parser = name)]
    pub incarnation: Option<Name>,
    /// Write the URI to this file, which is replaced as a whole, in place of stdout.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl Cli {
    /// Parses the command line of this process, with the program name first.
    ///
    /// # Errors
    ///
    /// The command line is wrong, or asks for the help or the version. The text is printed; the error is the
    /// exit code.
    pub fn parse_or_print(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        Self::try_parse_from(arguments).map_err(|error| {
            // Coloured on a terminal only, and not if NO_COLOR is set.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
        })
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("not like 'Name: value'")?;
    let name = http::HeaderName::try_from(name.trim()).map_err(|_| "the name is not a valid header name")?;
    let value = value.trim();
    if value.chars().any(char::is_control) {
        return Err("the value has control characters".to_owned());
    }
    Ok((name.as_str().to_owned(), value.to_owned()))
}

/// Parses the URLs of admin listeners, with spaces or commas between them.
fn admin_urls(value: &OsStr) -> Result<Vec<Url>, String> {
    let text = value.to_str().ok_or("not text")?;
    let urls: Vec<_> = text.split([' ', ',', '\t', '\n']).filter(|url| !url.is_empty()).collect();
    match urls.as_slice() {
        [] => Err("no URL; write one like http://127.0.0.1:9090".to_owned()),
        [url] => Ok(vec![admin_url(url)?]),
        urls => {
            let named =
                |url: &&str| admin_url(url).map_err(|problem| format!("{}: {problem}", url.escape_debug()));
            urls.iter().map(named).collect()
        }
    }
}

/// Parses the URL of an admin listener. An admin token must not cross a network unencrypted.
fn admin_url(text: &str) -> Result<Url, &'static str> {
    let url = config::absolute_url(text).ok_or(
        "not an absolute URL of http or https, like http://127.0.0.1:9090, without user, password and \
         fragment",
    )?;
    if url.scheme() == "http" && !config::is_loopback(&url) {
        Err("plain http is for loopback hosts only; write https, or run this on the machine of the gateway")
    } else if url.path() != "/" || url.query().is_some() {
        Err("has a path or a query; write host and port only")
    } else {
        Ok(url)
    }
}

fn call_id(text: &str) -> Result<String, &'static str> {
    CallId::parse(text)
        .map(|id| id.to_string())
        .map_err(|_| "not a call id like 491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7")
}

fn path(value: &OsStr) -> Result<PathBuf, String> {
    if value.is_empty() { Err("the path is empty; name a TOML file".to_owned()) } else { Ok(value.into()) }
}

fn guid(text: &str) -> Result<Uuid, &'static str> {
    config::parse_guid(text).ok_or("not a GUID like 0efc74f7-41c3-47a4-8775-7259bfef4241")
}

fn name(text: &str) -> Result<Name, &'static str> {
    Name::parse(text).map_err(|_| "not a name of 1 to 63 of A-Z a-z 0-9 . _ -")
}

/// The variable that names the gateways.
const ADMIN_VARIABLE: &str = "SWITCHBOARD_ADMIN";
/// The default of `admin.address`.
const ADMIN_DEFAULT: &str = "http://127.0.0.1:9090";
/// The variable that names the configuration.
pub const CONFIG_VARIABLE: &str = "SWITCHBOARD_CONFIG";
/// The place of the configuration in `docs/install.md` and in the image.
const CONFIG_DEFAULT: &str = "/etc/switchboard/switchboard.toml";

/// The exit code for a wrong command line or configuration (sysexits.h).
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
            "switchboard|serve",
            "switchboard|doctor",
            "switchboard|check|--config|a.toml",
            "switchboard|check|--config|a.toml|--without-secrets|--format|github",
            "switchboard|doctor|--config|a.toml|--json|--tenant|0efc74f7-41c3-47a4-8775-7259bfef4241",
            "switchboard|explain|--config|a.toml|--callback|/api/callbacks/emea/bot-0/k1.0.x",
            "switchboard|explain|--config|a.toml|--token|token.jwt",
            "switchboard|explain|--config|a.toml|--token|-|body.json|--json",
            "switchboard|explain|--config|a.toml|body.json|--format|json|--without-secrets",
            "switchboard|explain|--config|a.toml|body.json|--header|X-A: b|--header|X-C:d|--json",
            "switchboard|explain|--config|a.toml|-|--tenant|0efc74f7-41c3-47a4-8775-7259bfef4241",
            "switchboard|keygen",
            "switchboard|mint|--config|a.toml|--instance|bot-0|--app|0efc74f7-41c3-47a4-8775-7259bfef4241",
            "switchboard|mint|--app|0efc74f7-41c3-47a4-8775-7259bfef4241|--out|uri",
            "switchboard|completions|bash",
            "switchboard|man|folder",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090",
            "switchboard|fleet|list|--admin|https://gateway.contoso.com:9090/|--json|--token-env|TOKEN",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090|--state|draining|--empty",
            "switchboard|fleet|drain|bot-0|--admin|http://[::1]:9090|--wait|--token-file|token",
            "switchboard|fleet|resume|--admin|http://localhost:9090|bot-0",
            "switchboard|fleet|list",
            "switchboard|fleet|list|--watch",
            "switchboard|fleet|find|491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7|--json",
            "switchboard|tail|--call|call-1|--outcome|placed|--outcome|client_gone|--json",
        ] {
            parse(line).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in [
            "switchboard",
            "switchboard|fleet",
            "switchboard|fleet|list|--watch|--json",
            "switchboard|fleet|find",
            "switchboard|fleet|find|..",
            "switchboard|fleet|find|a/b",
            "switchboard|tail|--call|",
            "switchboard|tail|--outcome|lost",
            "switchboard|fleet|list|--admin|",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090, http://10.0.0.1:9090",
            "switchboard|fleet|list|--admin|127.0.0.1:9090",
            "switchboard|fleet|list|--admin|http://10.0.0.1:9090",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090/fleet",
            "switchboard|fleet|list|--admin|http://u:p@127.0.0.1:9090",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090|--wait",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090|--token-env|A|--token-file|b",
            "switchboard|fleet|list|--admin|http://127.0.0.1:9090|--state|drained",
            "switchboard|fleet|drain|--admin|http://127.0.0.1:9090",
            "switchboard|fleet|drain|bot/0|--admin|http://127.0.0.1:9090",
            "switchboard|serve|--config|",
            "switchboard|check|a.toml",
            "switchboard|check|--config|a.toml|--format|xml",
            "switchboard|explain|--config|a.toml",
            "switchboard|explain|--config|a.toml|body.json|--json|--format|text",
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
    fn gateways_are_named_by_several_options_or_in_one() {
        for (values, expected) in [
            (&["http://127.0.0.1:1"][..], &["http://127.0.0.1:1/"][..]),
            (&["http://127.0.0.1:1", "https://b"], &["http://127.0.0.1:1/", "https://b/"]),
            (
                &["http://127.0.0.1:1,https://b  https://c\n"],
                &["http://127.0.0.1:1/", "https://b/", "https://c/"],
            ),
            (&["https://b", "https://b/ https://B:443"], &["https://b/"]),
        ] {
            let mut line = vec!["switchboard", "tail"];
            line.extend(values.iter().flat_map(|value| ["--admin", value]));
            let Command::Tail(args) = Cli::try_parse_from(line).unwrap().command else { panic!("tail") };
            let gateways = args.admin.gateways();
            assert!(gateways.iter().all(|gateway| gateway.by == GivenBy::Option));
            let urls: Vec<_> = gateways.iter().map(|gateway| gateway.value.as_str()).collect();
            assert_eq!(urls, expected);
        }
    }

    #[test]
    fn a_wrong_outcome_is_answered_with_all_of_them() {
        let error = parse("switchboard|tail|--outcome|lost").unwrap_err().to_string();
        for outcome in Outcome::ALL {
            assert!(error.contains(outcome.label()), "{error}");
        }
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("X-Test :  a: b "), Ok(("x-test".to_owned(), "a: b".to_owned())));
    }
}
