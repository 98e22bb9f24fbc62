//! The explanation of a callback URI: the owner that it names, and whether its seal holds.

use std::fmt;

use serde::Serialize;
use switchboard_routing::{CallbackParts, SealError};
use url::Url;
use uuid::Uuid;

use crate::{cli::ExplainArgs, config::Config};

/// The parts of a callback URI, and what the gateway does with a notification that is posted to it.
#[derive(Debug, Serialize)]
pub(super) struct CallbackExplained {
    /// `None` if the path does not have the shape of a callback.
    #[serde(flatten)]
    owner: Option<OwnerExplained>,
    seal: SealExplained,
    /// The other observations, one sentence each.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct OwnerExplained {
    region: String,
    instance: String,
    incarnation: String,
    key: String,
}

/// The result of the check of the seal.
#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum SealExplained {
    /// For the token of this app, the seal holds.
    Holds { app: String },
    /// The configuration has no key of this id. The gateway refuses the request.
    UnknownSealKey { known: Vec<String> },
    /// The key did not seal these names for these apps. The gateway refuses the request.
    WrongSeal { apps: Vec<String> },
    /// The path is not a callback of this gateway. The gateway refuses the request.
    CallbackPath,
    /// The secrets were not read.
    NotChecked,
}

impl CallbackExplained {
    /// Explains `uri`, an absolute URI or the path of one, for the app of the options or for each app.
    pub(super) fn of(config: &Config, uri: &str, args: &ExplainArgs) -> Self {
        let mut notes = Vec::new();
        let path = match Url::parse(uri) {
            Ok(url) => {
                if !is_of_base(config, &url) {
                    notes.push("its origin is not callback.base, to which the platform posts".to_owned());
                }
                url.path().to_owned()
            }
            Err(_) => uri.split(['?', '#']).next().unwrap_or_default().to_owned(),
        };
        let Some(CallbackParts { region, instance, incarnation, key_id }) = config.callback.describe(&path)
        else {
            return Self { owner: None, seal: SealExplained::CallbackPath, notes };
        };
        let apps: Vec<_> = match args.app {
            Some(app) => vec![app],
            None => config.apps.iter().map(|app| app.id).collect(),
        };
        let seal = seal(config, &path, &apps, args.check.without_secrets);
        notes.extend(destination(config, &region, &instance));
        let owner = OwnerExplained { region, instance, incarnation, key: key_id };
        Self { owner: Some(owner), seal, notes }
    }
}

fn seal(config: &Config, path: &str, apps: &[Uuid], without_secrets: bool) -> SealExplained {
    let Some(sealed) = config.callback.parse(path) else { return SealExplained::CallbackPath };
    let opened = |app: &Uuid| config.callback.open(&sealed, *app).map(|_| *app);
    let results: Vec<_> = apps.iter().map(opened).collect();
    if results.contains(&Err(SealError::UnknownKey)) {
        let known = config.callback.key_ids().map(str::to_owned).collect();
        return SealExplained::UnknownSealKey { known };
    }
    if without_secrets {
        return SealExplained::NotChecked;
    }
    match results.into_iter().find_map(Result::ok) {
        Some(app) => SealExplained::Holds { app: app.to_string() },
        None => SealExplained::WrongSeal { apps: apps.iter().map(Uuid::to_string).collect() },
    }
}

/// Says where the gateway sends a callback of this owner.
fn destination(config: &Config, region: &str, instance: &str) -> Option<String> {
    if region == config.region.as_str() {
        let is_listed = config.delivery.instances.iter().any(|listed| listed.name.as_str() == instance);
        let may_be_found = config.delivery.discovery.is_some();
        return (!is_listed && !may_be_found).then(|| {
            format!("the configuration has no instance {instance}: callback.orphaned says what happens to it")
        });
    }
    let peer = config.peers.iter().find(|peer| peer.name.as_str() == region);
    Some(match peer {
        Some(peer) if peer.callback.is_some() => {
            format!("the gateway sends it on to that of the peer region {region}")
        }
        Some(_) => format!("the gateway refuses it: the peer region {region} has no setting `callback`"),
        None => format!("the gateway refuses it: {region} is neither its region nor a [[peer]]"),
    })
}

fn is_of_base(config: &Config, url: &Url) -> bool {
    url.origin().ascii_serialization() == config.callback.origin()
}

impl fmt::Display for CallbackExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "callback: ")?;
        if let Some(OwnerExplained { region, instance, incarnation, key }) = &self.owner {
            let any = if incarnation == "0" { ", which stands for any" } else { "" };
            writeln!(f, "region {region}, instance {instance}")?;
            writeln!(f, "  incarnation: {incarnation}{any}")?;
            writeln!(f, "  key: {key}")?;
            write!(f, "  ")?;
        }
        match &self.seal {
            SealExplained::Holds { app } => write!(f, "seal: holds, for a token of the app {app}")?,
            SealExplained::UnknownSealKey { known } => write!(
                f,
                "seal: refused, unknown_seal_key: callback.seal has no such key; its ids are {}",
                known.join(", ")
            )?,
            SealExplained::WrongSeal { apps } => {
                write!(
                    f,
                    "seal: refused, wrong_seal: this key did not seal these names for {}; the secret is \
                     another one, the URI was changed, or it belongs to another app",
                    apps.join(", ")
                )?;
            }
            SealExplained::CallbackPath => write!(
                f,
                "refused, callback_path: not a region, an instance and a seal below listen.callback_path"
            )?,
            SealExplained::NotChecked => write!(f, "seal: not checked, without secrets")?,
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}
