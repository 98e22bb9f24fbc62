//! `bot`: a small bot instance until it is stopped.

use std::{net::SocketAddr, process::ExitCode};

use clap::Args;
use serde_json::json;
use switchboard_emulator::{Bot, BotSettings, Client, parse_http_url};
use url::Url;

use super::stopped;
use crate::screen::say;

#[derive(Debug, Args)]
pub(crate) struct BotArguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The instance's name.
    #[arg(long, default_value = "bot-0", value_parser = name)]
    name: String,
    /// The platform at whose Graph endpoint calls are answered.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    platform: Url,
    /// How many calls it takes at once; any number if not given.
    #[arg(long, value_name = "N")]
    capacity: Option<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs it until Ctrl-C or SIGTERM.
pub(crate) async fn run(arguments: BotArguments) -> Result<ExitCode, String> {
    let BotArguments { listen, name, platform, capacity, json } = arguments;
    let client = Client::new(None).map_err(|error| format!("openssl refused: {error}"))?;
    let settings = BotSettings { name: name.clone(), listen, platform: platform.clone(), capacity };
    let bot =
        Bot::start(settings, client).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let url = format!("http://{}", bot.address());
    if json {
        say(&json!({"name": name, "url": url, "platform": platform.as_str(), "capacity": capacity})
            .to_string());
    } else {
        say(&format!("{name} listens on {url}\n"));
        say(&format!("  {url}/         its calls, for people"));
        say(&format!("  {url}/calls    its calls, as JSON"));
        say(&format!("  {url}/healthz  state, calls and capacity"));
        say(&format!("\nnotifications go to any path; calls are answered at {platform}"));
    }
    stopped().await?;
    Ok(ExitCode::SUCCESS)
}

fn name(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"._-".contains(&letter));
    if letters && (1..=63).contains(&text.len()) && !matches!(text, "." | "..") {
        Ok(text.to_owned())
    } else {
        Err("1 to 63 of A-Z a-z 0-9 . _ - are a name, like bot-0".to_owned())
    }
}
