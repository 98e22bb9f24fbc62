//! `up`: runs the platform, bots and the gateway in one command.

mod configuration;
mod gateway;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;
use switchboard_emulator::{
    AnswerMode, Behaviour, Bot, BotSettings, Client, ClientCredentials, DEFAULT_APP, Platform,
    PlatformSettings, PlatformStartError, parse_http_url,
};
use url::Url;
use uuid::Uuid;

use self::{
    configuration::{Bots, Configuration, GatewayPlan},
    gateway::{APP_SECRET, Gateway, find_switchboard},
};
use super::{
    platform_options::client,
    sdk_options::SdkOptions,
    stop::stop_signal,
    values::{address, guid, whole},
};
use crate::screen::{complain, say};

#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// The number of bots.
    #[arg(long, value_name = "N", default_value = "2", value_parser = whole(1_u16, 100))]
    bots: u16,
    /// The webhook of a bot of your own, like http://127.0.0.1:3978/api/calls, in place of the emulator's
    /// bots. May be repeated.
    #[arg(long = "own-bot", value_name = "URL", value_parser = parse_http_url)]
    #[arg(conflicts_with_all = ["bots", "answer", "like", "config"])]
    own_bots: Vec<Url>,
    /// The treatment of a new call by the bots, as of `bot --answer`.
    #[arg(long, default_value = "graph")]
    answer: AnswerMode,
    #[command(flatten)]
    sdk: SdkOptions,
    /// The app id of the bots.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    app_id: Option<Uuid>,
    /// The address of the platform. Port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4000", value_parser = address)]
    listen: SocketAddr,
    /// The port of the first bot on 127.0.0.1; the others follow it. 0 takes free ports.
    #[arg(long, value_name = "PORT", default_value = "3978")]
    bot_port: u16,
    /// The public address of the gateway, if its configuration is written here [default: 127.0.0.1:8443].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, conflicts_with = "config")]
    gateway: Option<SocketAddr>,
    /// The admin address of the gateway, if its configuration is written here [default: 127.0.0.1:9090].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, conflicts_with = "config")]
    admin: Option<SocketAddr>,
    /// A configuration of the gateway, which is used as it is [default: one is written].
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    config: Option<PathBuf>,
    /// The folder that receives the written configuration, gateway.toml, and keeps it [default: a new one in
    /// the folder for temporary files, which is removed at the end].
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The program of the gateway [default: switchboard beside this program, else in PATH].
    #[arg(long, value_name = "FILE")]
    switchboard: Option<PathBuf>,
    /// Print one JSON object instead of text. The log of the gateway is on stderr.
    #[arg(long)]
    json: bool,
}

/// Runs all until Ctrl-C, until SIGTERM, or until the gateway ends.
pub(super) async fn run(arguments: UpArguments) -> Result<ExitCode, String> {
    let UpArguments { bots, own_bots, answer, listen, bot_port, config, folder, json, .. } = arguments;
    let program = find_switchboard(arguments.switchboard)?;
    let given = config.map(Configuration::read).transpose()?;
    let app = arguments.app_id.or_else(|| given.as_ref().and_then(|given| given.app)).unwrap_or(DEFAULT_APP);
    let platform = start_platform(listen, app).await?;
    let client = client(None)?;
    let sdk = arguments.sdk.behaviour();
    // A bot on the SDK validates tokens for its app, and sends tokens to Graph.
    let credentials =
        sdk.is_some().then(|| ClientCredentials { app: app.to_string(), secret: APP_SECRET.to_owned() });
    let behaviour = Behaviour { answer, credentials, sdk, ..Behaviour::default() };
    let count = if own_bots.is_empty() { bots } else { 0 };
    let bots = start_bots(count, bot_port, &behaviour, &platform, &client).await?;
    let configuration = match given {
        Some(given) => given,
        None => Configuration::write(
            &GatewayPlan {
                app,
                public: arguments.gateway.unwrap_or(GATEWAY),
                admin: arguments.admin.unwrap_or(ADMIN),
                platform: platform.origin(),
                bots: match own_bots.as_slice() {
                    [] => Bots::Emulated(bots.iter().map(Bot::address).collect()),
                    own => Bots::Own(own.to_vec()),
                },
            },
            folder,
        )?,
    };
    let mut gateway = Gateway::start(&program, &configuration)?;
    let started = async {
        tokio::select! {
            biased;
            signal = stop_signal() => signal.map(|_| false),
            ready = gateway.ready(&client, &configuration) => ready.map(|()| true),
        }
    };
    let stopped = match started.await {
        Ok(true) => {
            let addresses: Vec<String> = if own_bots.is_empty() {
                bots.iter().map(|bot| format!("http://{}", bot.address())).collect()
            } else {
                own_bots.iter().map(Url::to_string).collect()
            };
            show(json, &platform, &addresses, &configuration, app);
            tokio::select! {
                // Ctrl-C reaches the gateway, too, which must not look as if it failed.
                biased;
                signal = stop_signal() => signal.map(drop),
                ended = gateway.ended() => Err(ended),
            }
        }
        Ok(false) => Ok(()),
        Err(reason) => Err(reason),
    };
    gateway.stop().await;
    configuration.remove();
    stopped.map(|()| ExitCode::SUCCESS)
}

async fn start_platform(listen: SocketAddr, app: Uuid) -> Result<Platform, String> {
    let settings = PlatformSettings { listen, apps: vec![app], ..PlatformSettings::loopback() };
    Platform::start(settings).await.map_err(|error| {
        let taken = matches!(error, PlatformStartError::Bind { .. });
        let hint = if taken { "; choose another address or port for the platform with --listen" } else { "" };
        format!("{error}{hint}")
    })
}

async fn start_bots(
    count: u16,
    first_port: u16,
    behaviour: &Behaviour,
    platform: &Platform,
    client: &Client,
) -> Result<Vec<Bot>, String> {
    let platform = Url::parse(platform.origin()).map_err(|error| error.to_string())?;
    let mut bots = Vec::new();
    for number in 0..count {
        let port = match first_port {
            0 => 0,
            first => {
                first.checked_add(number).ok_or("--bot-port: the ports of all bots must fit below 65536")?
            }
        };
        let settings = BotSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            on_failure: complain,
            behaviour: behaviour.clone(),
            ..BotSettings::new(&format!("bot-{number}"), platform.clone())
        };
        let bot = Bot::start(settings, client.clone()).await.map_err(|error| {
            format!("bot-{number}: {error}; choose another first port for the bots with --bot-port")
        })?;
        bots.push(bot);
    }
    Ok(bots)
}

fn show(json: bool, platform: &Platform, bots: &[String], configuration: &Configuration, app: Uuid) {
    let (origin, webhook) = (platform.origin(), configuration.webhook());
    let config = configuration.file.display().to_string();
    if json {
        let line = json!({"platform": origin, "webhook": webhook, "bots": bots, "app_id": app,
                          "config": config});
        say(&line.to_string());
        return;
    }
    let kept = if configuration.is_temporary() { ", which is removed at the end" } else { "" };
    say(&format!("the platform   {origin}"));
    say(&format!("its page       {origin}/"));
    for (number, address) in bots.iter().enumerate() {
        say(&format!("bot-{number:<10} {address}"));
    }
    say(&format!("the gateway    {webhook}"));
    say(&format!("configured by  {config}{kept}"));
    say(&format!(
        "\nplace a call:\n  switchboard-emulator call --platform {origin} --app-id {app} --to {webhook}\n\
         \nCtrl-C ends all."
    ));
}

const GATEWAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);
