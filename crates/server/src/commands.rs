//! All commands but `serve`: `check`, `explain`, `doctor`, `keygen`, `mint`, `fleet`, `tail`,
//! `completions`, `man`. Results go to stdout, errors to stderr.

mod against;
mod doctor;
mod explain;
mod fleet;
mod gateways;
mod manual;
mod mint;
mod output;
mod problems;
mod tail;

use std::{env, io, path::Path, process::ExitCode};

use openssl::rand::rand_bytes;
use switchboard_delivery::Discovery;

use self::{
    against::Comparison,
    explain::{Explanation, TokenExplained},
    output::{FAILURE, complain, print},
    problems::Warning,
};
pub use self::{
    doctor::doctor,
    fleet::fleet,
    manual::{completions, man},
    mint::mint,
    tail::tail,
};
use crate::{
    cli::{
        CONFIG_VARIABLE, CheckArgs, CheckCommandArgs, ConfigArgs, EX_USAGE, ExplainArgs, GivenBy,
        OutputFormat,
    },
    config::{Config, Problem, Problems, bounded, read_bounded, shown},
    process::certificate::CertificateFiles,
};

/// `switchboard check`: prints every problem, or a summary of the configuration and the changes from another
/// one.
pub fn check(args: &CheckCommandArgs) -> ExitCode {
    let CheckCommandArgs { check: args, against } = args;
    let config = match load_checked(args, args.format) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let comparison = match against.as_deref().map(|old| Comparison::load(old, &config)).transpose() {
        Ok(comparison) => comparison,
        Err(problems) => return problems::refuse(&problems.of_choice(AGAINST), args.format),
    };
    let mut warnings = Vec::new();
    if !args.without_secrets {
        warnings.extend(certificate_warnings(&config, args.config.path()));
        warnings.extend(fleet_file_warnings(&config));
    }
    problems::accept(&summary(&config), &warnings, comparison.as_ref(), args.format)
}

/// `switchboard explain`: prints what the gateway would do with a notification, a callback or a token.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let mut config = match load_checked(&args.check, args.format()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if args.check.without_secrets {
        // The stored keys belong to a `ca` that was not read.
        config.keys.store = None;
    } else if let Some(file) = &config.fleet_file {
        match file.load() {
            Ok(instances) => {
                let takes_calls = instances.into_iter().filter(|instance| !instance.is_draining);
                config.delivery.instances = takes_calls.map(|instance| instance.settings).collect();
            }
            Err(problems) => {
                complain(&format!("warning: no instance is shown\n{problems}"), 0);
            }
        }
    }
    if let Some(app) = args.app
        && config.apps.iter().all(|known| known.id != app)
    {
        return complain(&format!("--app: {app} is not the id of an [[app]]"), EX_USAGE);
    }
    if args.token == args.body && args.token.as_deref() == Some(Path::new("-")) {
        return complain("--token and the body cannot both be standard input", EX_USAGE);
    }
    let token = args.token.as_ref().map(|file| {
        let bytes = read_body(file, TokenExplained::BYTES_MAX)?;
        TokenExplained::of_now(&config, &bytes)
    });
    let token = match token.transpose() {
        Ok(token) => token,
        Err(problem) => return complain(&problem, FAILURE),
    };
    // The gateway refuses a body over the limit, so there is no decision to explain.
    let limit = u64::try_from(config.limits.body).unwrap_or(u64::MAX);
    let body = match args.body.as_ref().map(|body| read_body(body, limit)).transpose() {
        Ok(body) => body,
        Err(problem) => return complain(&problem, FAILURE),
    };
    let explanation = Explanation::of(&config, body.as_deref(), token, args);
    print(&match args.format() {
        OutputFormat::Json => explanation.json(),
        OutputFormat::Text | OutputFormat::Github => explanation.to_string(),
    })
}

/// `switchboard keygen`: prints 32 random bytes in base64.
pub fn keygen() -> ExitCode {
    let mut secret = [0; 32];
    match rand_bytes(&mut secret) {
        Ok(()) => print(&openssl::base64::encode_block(&secret)),
        Err(error) => complain(&format!("cannot get random bytes: {error}"), FAILURE),
    }
}

/// Loads the configuration. Prints its problems for people.
pub(crate) fn load(args: &ConfigArgs) -> Result<Config, ExitCode> {
    load_with_secrets(args).map_err(|problems| complain(&problems.to_string(), EX_USAGE))
}

fn load_with_secrets(args: &ConfigArgs) -> Result<Config, Problems> {
    Config::load(args.path(), |name| env::var(name).ok()).map_err(|problems| explained(problems, args))
}

/// Loads the configuration of `check` or `explain`. Prints its problems in `format`.
fn load_checked(args: &CheckArgs, format: OutputFormat) -> Result<Config, ExitCode> {
    let loaded = if args.without_secrets {
        Config::load_without_secrets(args.config.path()).map_err(|problems| explained(problems, &args.config))
    } else {
        load_with_secrets(&args.config)
    };
    loaded.map_err(|problems| problems::refuse(&problems, format))
}

/// Adds to a file that cannot be read why it is this one, unless the command line says so itself.
fn explained(problems: Problems, args: &ConfigArgs) -> Problems {
    match args.file.by {
        GivenBy::Option => problems,
        GivenBy::Variable => problems.of_choice(&format!("{CONFIG_VARIABLE} names this file")),
        GivenBy::Default => problems.of_choice(&format!(
            "this file is the default; name another one with --config FILE or {CONFIG_VARIABLE}"
        )),
    }
}

/// The faults of the certificate of the listener. None keeps the gateway from serving.
fn certificate_warnings(config: &Config, file: &Path) -> Vec<Warning> {
    let opened = config.listen.tls.clone().map(CertificateFiles::open);
    // A file that changed since it was loaded is examined when the gateway reads it.
    let Some(Ok((_, certificate))) = opened else { return Vec::new() };
    let findings = certificate.findings(config.callback.origin()).into_iter();
    let (path, file_shown) = ("listen.tls.certificate", shown(file));
    let position = Config::position_of(file, path);
    let warning =
        |message: String| Warning { file: file_shown.clone(), position, path: path.to_owned(), message };
    findings.map(|finding| warning(finding.to_string())).collect()
}

/// The faults of the file that lists the fleet. The gateway starts without it, and waits for a usable one.
fn fleet_file_warnings(config: &Config) -> Vec<Warning> {
    let Some(fleet_file) = &config.fleet_file else { return Vec::new() };
    let Err(problems) = fleet_file.load() else { return Vec::new() };
    let warning = |problem: &Problem| Warning {
        file: shown(fleet_file.path()),
        position: problem.position,
        path: problem.path.clone(),
        message: problem.message.clone(),
    };
    problems.iter().map(warning).collect()
}

/// The reason why the old configuration was chosen.
const AGAINST: &str = "--against names this file";

fn summary(config: &Config) -> String {
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!(
        "region {}; apps: {}; trusts: {}; instances: {}; peers: {}",
        config.region,
        config.apps.iter().map(|app| app.id.to_string()).collect::<Vec<_>>().join(", "),
        names(config.trusts.iter().map(|trust| trust.settings.name.as_str()).collect()),
        match &config.delivery.discovery {
            Some(Discovery::Dns(dns)) => format!("by DNS, {}", dns.name),
            #[cfg(feature = "kubernetes")]
            Some(Discovery::Kubernetes(pods)) => {
                let namespace = pods.namespace.as_deref().unwrap_or("its own namespace");
                format!("by Kubernetes, {} in {namespace}", pods.service)
            }
            Some(Discovery::File(file)) => format!("by file, {}", shown(&file.path)),
            None => names(config.delivery.instances.iter().map(|instance| instance.name.as_str()).collect()),
        },
        names(config.peers.iter().map(|peer| peer.name.as_str()).collect()),
    )
}

fn read_body(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    if path == Path::new("-") {
        return bounded(io::stdin().lock(), bytes_max)
            .map_err(|reason| format!("standard input cannot be read: {reason}"));
    }
    read_bounded(path, bytes_max).map_err(|reason| format!("{} cannot be read: {reason}", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::parse;

    pub(super) const TWO_INSTANCES: &str = r#"
        region = "emea"
        [[app]]
        id = "0efc74f7-41c3-47a4-8775-7259bfef4241"
        [[app]]
        id = "11111111-41c3-47a4-8775-7259bfef4241"
        [callback]
        base = "https://emea.bots.contoso.com"
        seal = [{ id = "k1", secret = { env = "SEAL" } }]
        [[peer]]
        name = "amer"
        webhook = "https://amer.bots.contoso.com/api/calls"
        [[fleet.instance]]
        name = "bot-0"
        url = "http://10.0.0.10:3978/api/calls"
        [[fleet.instance]]
        name = "bot-1"
        url = "http://10.0.0.11:3978/api/calls"
        apps = ["11111111-41c3-47a4-8775-7259bfef4241"]
    "#;

    #[test]
    fn the_summary_is_one_line() {
        assert_eq!(
            summary(&parse(TWO_INSTANCES).unwrap()),
            "region emea; apps: 0efc74f7-41c3-47a4-8775-7259bfef4241, 11111111-41c3-47a4-8775-7259bfef4241; \
             trusts: skype, entra; instances: bot-0, bot-1; peers: amer"
        );
    }
}
