//! `listen`: forwards and records the notifications of the real platform until it is stopped.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;
use switchboard_emulator::{
    NotificationRecorder, Received, RecorderSettings, RecorderStartError, parse_http_url, printable,
};
use url::Url;

use super::{platform_options::client, stop::stop_signal, values::address};
use crate::screen::say;

#[derive(Debug, Args)]
pub(crate) struct ListenArguments {
    /// The bot or the gateway, like http://127.0.0.1:8443. The path of each request is kept.
    #[arg(long, value_name = "URL", value_parser = origin)]
    forward_to: Url,
    /// The folder that receives the recording.
    #[arg(long, value_name = "FOLDER")]
    save: PathBuf,
    /// The address to listen on, to which a tunnel leads. Port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4010", value_parser = address)]
    listen: SocketAddr,
    /// A PEM file of further certificate authorities to trust.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// Records until Ctrl-C or SIGTERM.
pub(super) async fn run(arguments: ListenArguments) -> Result<ExitCode, String> {
    let ListenArguments { forward_to, save, listen, ca, json } = arguments;
    let client = client(ca.as_deref())?;
    let on_received = if json { show_json } else { show };
    let settings = RecorderSettings { listen, forward_to: forward_to.clone(), folder: save, on_received };
    let recorder = NotificationRecorder::start(settings, client).await.map_err(|error| {
        let hint = match &error {
            RecorderStartError::Bind { .. } => "; choose another address or port with --listen",
            RecorderStartError::File { .. } => "; choose another folder with --save",
        };
        format!("{error}{hint}")
    })?;
    let (url, file) = (format!("http://{}", recorder.address()), recorder.file());
    if json {
        let file = file.to_string_lossy();
        say(&json!({"url": url, "forward_to": forward_to.as_str(), "file": file}).to_string());
    } else {
        say(&format!("the recorder listens on {url}, forwards to {forward_to}"));
        say(&format!("and saves to {}\n", file.display()));
    }
    stop_signal().await?;
    recorder.finish().await;
    Ok(ExitCode::SUCCESS)
}

fn show(received: &Received) {
    let status = received.status.map_or_else(|| "-".to_owned(), |status| status.as_u16().to_string());
    let saved = match &received.not_saved {
        Some(reason) => format!("not saved: {}", printable(reason)),
        None => "saved".to_owned(),
    };
    say(&format!("{status:>4}  {:<40}  {saved}", printable(&received.what)));
}

fn show_json(received: &Received) {
    let Received { what, status, not_saved } = received;
    let status = status.map(|status| status.as_u16());
    say(&json!({"what": what, "status": status, "not_saved": not_saved}).to_string());
}

/// Parses a URL that has no path: each request brings its own.
fn origin(text: &str) -> Result<Url, String> {
    let url = parse_http_url(text).map_err(|error| error.to_string())?;
    if url.path() == "/" && url.query().is_none() {
        Ok(url)
    } else {
        Err("a path is not part of it: the path of each request is kept; give scheme, host and port"
            .to_owned())
    }
}
