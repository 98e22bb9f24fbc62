//! `serve`: the platform until it is stopped.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::{Map, Value};
use switchboard_emulator::{Platform, Settings};
use uuid::Uuid;

use super::{guid, stopped};
use crate::screen::say;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4000")]
    listen: SocketAddr,
    /// An app that the platform knows; the first one is used where a request names none. May be repeated.
    #[arg(long = "app-id", value_name = "GUID", value_parser = guid)]
    app_ids: Vec<Uuid>,
    /// Trust these certificate authorities (PEM) too, for bots that serve https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs it until Ctrl-C or SIGTERM.
pub(crate) async fn run(serve: Serve) -> Result<ExitCode, String> {
    let Serve { listen, app_ids, ca, json } = serve;
    let settings = Settings { listen, apps: app_ids.clone(), keys: None, ca };
    let platform = Platform::start(settings).await.map_err(|error| error.to_string())?;
    if json {
        let mut object: Map<String, Value> =
            platform.urls().into_iter().map(|named| (named.name.to_owned(), named.url.into())).collect();
        object.insert("origin".to_owned(), platform.origin().into());
        say(&Value::Object(object).to_string());
    } else {
        say(&format!("the platform listens on {}\n", platform.origin()));
        let urls = platform.urls();
        let width = urls.iter().map(|named| named.url.len()).max().unwrap_or(0);
        for named in urls {
            say(&format!("  {:width$}  {}", named.url, named.about));
        }
        if !listen.ip().is_loopback() {
            say("\nwhoever can reach this can mint tokens: keep it in a closed network");
        }
        let app = app_ids.first().map_or_else(|| "APP-ID".to_owned(), Uuid::to_string);
        let origin = platform.origin();
        say(&format!(
            "\nplace a call:\n  switchboard-emulator call --platform {origin} --app-id {app} --to WEBHOOK-URL"
        ));
    }
    stopped().await?;
    Ok(ExitCode::SUCCESS)
}
