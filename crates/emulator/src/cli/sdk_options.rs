//! The options of bots on the calling SDK, which `bot` and `up` share.

use clap::Args;
use switchboard_emulator::{SdkBehaviour, parse_sdk_request};

#[derive(Debug, Args)]
pub(super) struct SdkOptions {
    /// Behave as a bot on Microsoft's calling SDK for .NET, which validates tokens.
    #[arg(long, value_name = "BOT", value_parser = ["sdk"])]
    like: Option<String>,
    /// The requests of the SDK that follow when a call is established, like playPrompt,recordResponse.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = parse_sdk_request)]
    #[arg(requires = "like")]
    then: Vec<String>,
    /// An argument of these requests, like prompt=https://bot.example/a.wav. Give it once for each.
    #[arg(long = "with", value_name = "NAME=VALUE", value_parser = argument, requires = "like")]
    with: Vec<(String, String)>,
}

impl SdkOptions {
    /// Returns the behaviour; `None` for a plain bot.
    pub(super) fn behaviour(self) -> Option<SdkBehaviour> {
        let Self { like, then, with } = self;
        like.map(|_| SdkBehaviour { then, arguments: with.into_iter().collect() })
    }
}

fn argument(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or("not NAME=VALUE, like prompt=https://bot.example/a.wav")?;
    Ok((name.to_owned(), value.to_owned()))
}
