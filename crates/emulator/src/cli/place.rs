//! Which platform places the calls: one that runs, or one of our own for as long as we run.

use std::{
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use switchboard_emulator::{Client, Platform, SendError, Settings, parse_http_url};
use url::Url;
use uuid::Uuid;

use super::address;

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The platform that places it, like http://127.0.0.1:4000 (see `serve`); one of our own if not given.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    platform: Option<Url>,
    /// Where a platform of our own listens: the bot must know it as its Graph endpoint, and whoever checks tokens as
    /// the issuer.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4000", value_parser = address, conflicts_with = "platform")]
    listen: SocketAddr,
    /// Trust these certificate authorities (PEM) too.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

impl Place {
    /// The platform's URL, and the platform itself if it is ours: it stops when it is dropped.
    pub(crate) async fn platform(&self, app: Uuid) -> Result<(Url, Option<Platform>), String> {
        if let Some(url) = &self.platform {
            return Ok((url.clone(), None));
        }
        let settings =
            Settings { listen: self.listen, apps: vec![app], ca: self.ca.clone(), ..Settings::loopback() };
        let platform = Platform::start(settings).await.map_err(|error| {
            let listen = self.listen;
            format!(
                "{error}; if a platform runs there, name it: --platform http://{listen}; else use another --listen"
            )
        })?;
        let url = Url::parse(platform.origin()).map_err(|error| error.to_string())?;
        Ok((url, Some(platform)))
    }
}

/// Why a platform placed nothing, and what would be right where that can be told.
pub(crate) fn not_placed(platform: &Url, error: &SendError) -> String {
    let broke = matches!(error, SendError::Exchange(_)) && platform.scheme() == "http";
    let hint = if broke { "; if it serves https, write https://" } else { "" };
    format!("the platform at {platform} placed nothing: {error}{hint}")
}

/// A client that trusts the authorities of a file too.
pub(crate) fn client(ca: Option<&Path>) -> Result<Client, String> {
    if let Some(ca) = ca {
        // OpenSSL's own words for a file that is not there help nobody.
        read_text(ca).map_err(|error| format!("--ca: {error}"))?;
    }
    Client::new(ca).map_err(|error| match ca {
        Some(ca) => {
            let ca = ca.display();
            format!("--ca {ca}: not a file of certificates in PEM, like the ca.pem that `serve --tls FOLDER` writes")
        }
        None => format!("openssl refused: {error}"),
    })
}

/// A small text file.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

/// Longer than any file that is taken, so that what is too long is seen to be.
const TEXT_BYTES_MAX: u64 = 1 << 20;
