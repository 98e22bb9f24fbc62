//! The settings of a bot.

use std::{net::SocketAddr, path::PathBuf};

use url::Url;

use super::behaviour::Behaviour;

/// The settings of a bot.
#[derive(Clone, Debug)]
pub struct BotSettings {
    /// The name that the bot shows.
    pub name: String,
    /// The incarnation that the bot reports to a gateway, cut to [`Self::INCARNATION_BYTES`]; random if
    /// `None`. A source of the gateway that knows incarnations, such as the uid of a pod, must have the same.
    pub incarnation: Option<String>,
    /// The address to listen on. Port 0 takes a free port.
    pub listen: SocketAddr,
    /// The platform whose Graph endpoint the bot uses.
    pub platform: Url,
    /// The number of calls that the bot takes at once. `None` means no limit.
    pub capacity: Option<usize>,
    /// A file to which the bot appends a line for each notification item. It outlives the bot.
    pub journal: Option<PathBuf>,
    /// Receives each failure about a call, as one line that is safe to print.
    pub on_failure: fn(&str),
    /// The bot's behaviour.
    pub behaviour: Behaviour,
}

impl BotSettings {
    /// The length of an incarnation in a callback URI.
    pub const INCARNATION_BYTES: usize = 13;

    /// A bot on a free port of loopback that answers every call through Graph.
    pub fn new(name: &str, platform: Url) -> Self {
        Self {
            name: name.to_owned(),
            incarnation: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            platform,
            capacity: None,
            journal: None,
            on_failure: |_| (),
            behaviour: Behaviour::default(),
        }
    }
}
