//! `serve`: runs the platform until it is stopped.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, builder::NonEmptyStringValueParser,
    error::ErrorKind, value_parser,
};
use serde_json::{Map, Value};
use switchboard_emulator::{
    CreatedCalls, Credential, FaultSetting, Faults, OperationResponses, Permission, Platform,
    PlatformSettings, PlatformStartError, Rotation, parse_duration,
};
use uuid::Uuid;

use super::{
    platform_options::read_script,
    stop::stop_signal,
    values::{address, guid},
};
use crate::screen::say;

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The address to listen on. Port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4000", value_parser = address)]
    listen: SocketAddr,
    /// Serve https for localhost, 127.0.0.1 and ::1. The folder receives a ca.pem for clients to trust.
    #[arg(long, value_name = "FOLDER")]
    tls: Option<PathBuf>,
    #[command(flatten)]
    apps: AppArguments,
    /// A tenant that exists [default: any tenant id exists]. May be repeated.
    #[arg(long = "tenant", value_name = "GUID", value_parser = guid)]
    tenants: Vec<Uuid>,
    /// A permission in tokens for Graph, like Calls.Initiate.All [default: all four]. May be repeated.
    #[arg(long = "permission", value_name = "NAME")]
    permissions: Vec<Permission>,
    /// The lifetime of the tokens of the token endpoint.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "3599s")]
    token_life: Duration,
    /// Require a token on requests to Graph: on or off [default: on if a credential is registered].
    #[arg(long, value_name = "on|off", value_parser = on_or_off)]
    graph_auth: Option<bool>,
    /// The time limit of one attempt to deliver a notification.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    post_timeout: Duration,
    /// Report the results of operations by notifications (notified), or in the responses (immediate, or
    /// immediate:NAME,… for some operations, like immediate:recordResponse).
    #[arg(long, value_name = "WHEN", default_value = "notified")]
    operations: OperationResponses,
    /// A file with the script of every call that a bot places, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// The time from the end of the script, or from established, to the end of a call that a bot places.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1h")]
    duration: Duration,
    /// Rotate the keys of both issuers at this interval. The last eleven earlier keys stay published.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    rotate_every: Option<Duration>,
    /// The time for which each of these keys is published before it signs.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    #[arg(requires = "rotate_every")]
    publish_before: Duration,
    /// A fault that is active from the start, like graph=429:2, skype=down, drop=0.1 or clock=+10m. GET
    /// /emulator lists the possible faults; PATCH /emulator/faults changes them. May be repeated.
    #[arg(long = "fault", value_name = "NAME=VALUE")]
    faults: Vec<FaultSetting>,
    /// A PEM file of further certificate authorities to trust, for bots that serve https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the platform until Ctrl-C or SIGTERM.
pub(super) async fn run(arguments: ServeArguments) -> Result<ExitCode, String> {
    let ServeArguments { listen, tls, apps, tenants, permissions, token_life, graph_auth, .. } = arguments;
    let ServeArguments { post_timeout, rotate_every, publish_before, faults: fault_settings, .. } = arguments;
    let ServeArguments { operations, script, duration, ca, json, .. } = arguments;
    let script = script.as_deref().map(read_script).transpose()?;
    let app = apps.ids.first().copied();
    let mut faults = Faults::default();
    for setting in &fault_settings {
        setting.apply(&mut faults);
    }
    let defaults = PlatformSettings::loopback();
    let settings = PlatformSettings {
        listen,
        credentials: apps.read()?,
        apps: apps.ids,
        ca,
        tls,
        tenants,
        permissions: if permissions.is_empty() { defaults.permissions } else { permissions },
        token_life,
        graph_auth,
        post_timeout,
        operations,
        created_calls: CreatedCalls { script, duration },
        rotation: rotate_every.map(|every| Rotation { every, publish_before }),
        faults,
        ..PlatformSettings::loopback()
    };
    let platform = Platform::start(settings).await.map_err(|error| {
        let taken = matches!(error, PlatformStartError::Bind { .. });
        let hint = if taken { "; choose another address or port with --listen" } else { "" };
        format!("{error}{hint}")
    })?;
    if json {
        let mut object: Map<String, Value> =
            platform.urls().into_iter().map(|named| (named.name.to_owned(), named.url.into())).collect();
        object.insert("origin".to_owned(), platform.origin().into());
        let variables = platform.identity_variables().into_iter();
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into())).collect();
        object.insert("identity_variables".to_owned(), Value::Object(variables));
        if let Some(ca) = platform.ca() {
            object.insert("ca".to_owned(), ca.to_string_lossy().into());
        }
        say(&Value::Object(object).to_string());
    } else {
        print(&platform, app, !listen.ip().is_loopback());
    }
    stop_signal().await?;
    Ok(ExitCode::SUCCESS)
}

fn print(platform: &Platform, app: Option<Uuid>, exposed: bool) {
    let origin = platform.origin();
    say(&format!("the platform listens on {origin}\n"));
    let urls = platform.urls();
    let width = urls.iter().map(|named| named.url.len()).max().unwrap_or(0);
    for named in urls {
        say(&format!("  {:width$}  {}", named.url, named.about));
    }
    say("\na bot with a managed identity needs one of these in its environment:");
    let variables = platform.identity_variables();
    let (app_service, machine): (Vec<_>, Vec<_>) =
        variables.iter().partition(|(name, _)| name.starts_with("IDENTITY_"));
    for form in [app_service, machine] {
        let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
        say(&format!("  {}", pairs.join(" ")));
    }
    if let Some(ca) = platform.ca() {
        say(&format!("\nclients must trust {}", ca.display()));
    }
    if exposed {
        say("\nevery client that reaches this address can make tokens: keep it in a closed network");
    }
    let app = app.map_or_else(|| "APP-ID".to_owned(), |app| app.to_string());
    let ca = platform.ca().map_or_else(String::new, |ca| format!(" --ca {}", ca.display()));
    say(&format!(
        "\nplace a call:\n  switchboard-emulator call --platform {origin}{ca} --app-id {app} --to WEBHOOK-URL"
    ));
}

/// The apps, each with the credentials that follow it on the command line.
#[derive(Debug)]
struct AppArguments {
    ids: Vec<Uuid>,
    credentials: Vec<(Uuid, CredentialArgument)>,
}

#[derive(Clone)]
enum CredentialArgument {
    Secret(String),
    Certificate(PathBuf),
    Federated(PathBuf),
}

impl std::fmt::Debug for CredentialArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret"),
            Self::Certificate(path) | Self::Federated(path) => path.fmt(f),
        }
    }
}

impl AppArguments {
    /// Reads the files of the credentials.
    fn read(&self) -> Result<Vec<(Uuid, Credential)>, String> {
        let file = |path: &PathBuf| {
            fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let credential = |argument: &CredentialArgument| match argument {
            CredentialArgument::Secret(text) => Ok(Credential::secret(text)),
            CredentialArgument::Certificate(path) => Credential::certificate(&file(path)?)
                .map_err(|_| format!("{}: not a certificate in PEM with an RSA key", path.display())),
            CredentialArgument::Federated(path) => Credential::federated(&file(path)?).map_err(|_| {
                format!("{}: neither an RSA public key nor a certificate in PEM", path.display())
            }),
        };
        self.credentials.iter().map(|(app, argument)| Ok((*app, credential(argument)?))).collect()
    }
}

impl FromArgMatches for AppArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        fn indexed<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<(usize, T)> {
            let values = matches.get_many::<T>(name).into_iter().flatten().cloned();
            matches.indices_of(name).into_iter().flatten().zip(values).collect()
        }
        let ids = indexed::<Uuid>(matches, "app_id");
        let secrets = indexed::<String>(matches, "secret").into_iter();
        let certificates = indexed::<PathBuf>(matches, "certificate").into_iter();
        let federated = indexed::<PathBuf>(matches, "federated").into_iter();
        let credentials = secrets
            .map(|(index, text)| (index, CredentialArgument::Secret(text)))
            .chain(certificates.map(|(index, path)| (index, CredentialArgument::Certificate(path))))
            .chain(federated.map(|(index, path)| (index, CredentialArgument::Federated(path))));
        let mut owned = Vec::new();
        for (index, argument) in credentials {
            let owner = ids.iter().rev().find(|(place, _)| *place < index).ok_or_else(|| {
                let message = "--secret, --certificate and --federated-key belong to the --app-id before \
                               them: give the --app-id first\n";
                clap::Error::raw(ErrorKind::MissingRequiredArgument, message)
            })?;
            owned.push((owner.1, argument));
        }
        Ok(Self { ids: ids.into_iter().map(|(_, id)| id).collect(), credentials: owned })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for AppArguments {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new("app_id")
                    .long("app-id")
                    .value_name("GUID")
                    .value_parser(guid)
                    .action(ArgAction::Append)
                    .help(
                        "An app that the platform knows. The first one is the default of requests that name \
                         no app. May be repeated",
                    ),
            )
            .arg(
                Arg::new("secret")
                    .long("secret")
                    .value_name("TEXT")
                    .value_parser(NonEmptyStringValueParser::new())
                    .action(ArgAction::Append)
                    .help("A client secret of the preceding --app-id. May be repeated"),
            )
            .arg(
                Arg::new("certificate")
                    .long("certificate")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .action(ArgAction::Append)
                    .help(
                        "A certificate (PEM) whose key signs client assertions of the preceding --app-id. \
                         May be repeated",
                    ),
            )
            .arg(
                Arg::new("federated")
                    .long("federated-key")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .action(ArgAction::Append)
                    .help(
                        "A public key or certificate (PEM) of another issuer, whose tokens for \
                         api://AzureADTokenExchange stand for the preceding --app-id. May be \
                         repeated",
                    ),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct ServeLine {
        #[command(flatten)]
        serve: ServeArguments,
    }

    const A: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
    const B: &str = "1efc74f7-41c3-47a4-8775-7259bfef4241";

    #[test]
    fn a_secret_belongs_to_the_app_before_it() {
        let line =
            ["x", "--app-id", A, "--secret", "one", "--secret", "two", "--app-id", B, "--secret=three"];
        let apps = ServeLine::try_parse_from(line).unwrap().serve.apps;
        let owners: Vec<String> = apps.credentials.iter().map(|(app, _)| app.to_string()).collect();
        assert_eq!((owners, apps.ids.len()), (vec![A.to_owned(), A.to_owned(), B.to_owned()], 2));
        let shown = format!("{apps:?}");
        assert!(!shown.contains("one") && !shown.contains("three"), "{shown}");
    }

    #[track_caller]
    fn check_rejected(arguments: &[&str], expected: &str) {
        let error =
            ServeLine::try_parse_from(["x"].iter().chain(arguments)).expect_err("an invalid command line");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn an_invalid_command_line_is_rejected_with_a_remedy() {
        check_rejected(&["--secret", "x", "--app-id", A], "give the --app-id first");
        check_rejected(&["--app-id", "contoso"], "not a GUID like");
        check_rejected(&["--app-id", A, "--secret", ""], "--secret <TEXT>");
        check_rejected(&["--listen", "localhost:4000"], "not an IP address and a port, like 127.0.0.1:4000");
        check_rejected(&["--fault", "graph"], "a fault is NAME=VALUE, like graph=429:2");
        check_rejected(&["--fault", "graph=maybe"], "graph does not take \"maybe\"; it takes one of down");
        check_rejected(&["--fault", "grahp=500"], "no such fault: the names are skype, entra");
        check_rejected(&["--permission", "Calls.All"], "must be one of Calls.Initiate.All");
        check_rejected(&["--graph-auth", "yes"], "must be on or off");
        check_rejected(&["--publish-before", "2s"], "--rotate-every");
    }
}
