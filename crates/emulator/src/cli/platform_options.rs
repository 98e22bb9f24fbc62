//! The platform that places the calls: a running one, or one of our own for the time of the command.

use std::{
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use switchboard_emulator::{Client, Platform, PlatformSettings, Script, SendError, parse_http_url};
use url::Url;
use uuid::Uuid;

use super::values::address;

/// The options that name the platform.
#[derive(Debug, Args)]
pub(super) struct PlatformOptions {
    /// A running platform, like http://127.0.0.1:4000 (see `serve`) [default: the command starts one].
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    platform: Option<Url>,
    /// The address of a platform that the command starts. Configure it as the Graph endpoint of the bot, and
    /// as the token issuer of the bot or of the gateway.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4000", value_parser = address)]
    #[arg(conflicts_with = "platform")]
    listen: SocketAddr,
    /// A PEM file of further certificate authorities to trust.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

impl PlatformOptions {
    /// Returns the URL of the platform, and the platform itself if it is started here. Dropping it stops it.
    pub(super) async fn start(&self, app: Uuid) -> Result<(Url, Option<Platform>), String> {
        if let Some(url) = &self.platform {
            return Ok((url.clone(), None));
        }
        let settings = PlatformSettings {
            listen: self.listen,
            apps: vec![app],
            ca: self.ca.clone(),
            ..PlatformSettings::loopback()
        };
        let platform = Platform::start(settings).await.map_err(|error| {
            let listen = self.listen;
            format!(
                "{error}; to use the platform that runs there, give --platform http://{listen}; \
                 else choose another --listen"
            )
        })?;
        let url = Url::parse(platform.origin()).map_err(|error| error.to_string())?;
        Ok((url, Some(platform)))
    }
}

/// Describes why a platform placed no call, with a hint if the scheme is the likely reason.
pub(super) fn not_placed(platform: &Url, error: &SendError) -> String {
    let broke = matches!(error, SendError::Exchange(_)) && platform.scheme() == "http";
    let hint = if broke { "; if it serves https, write https://" } else { "" };
    format!("the platform at {platform} placed no call: {error}{hint}")
}

/// Makes a client that also trusts the authorities of a file.
pub(super) fn client(ca: Option<&Path>) -> Result<Client, String> {
    if let Some(ca) = ca {
        // The error of OpenSSL does not say that the file is missing.
        read_text(ca).map_err(|error| format!("--ca: {error}"))?;
    }
    Client::new(ca).map_err(|error| match ca {
        Some(ca) => {
            let hint = "not a file of certificates in PEM, like the ca.pem that `serve --tls FOLDER` writes";
            format!("--ca {}: {hint}", ca.display())
        }
        None => format!("openssl failed: {error}"),
    })
}

/// Reads a small text file.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    read_text_of(path, TEXT_BYTES_MAX)
}

/// Reads the start of a text file, at most a number of bytes.
pub(super) fn read_text_of(path: &Path, bytes_max: u64) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(bytes_max).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

/// More than any file may have, so that a file that is too long is still recognized as too long.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Reads a file of steps.
pub(super) fn read_script(file: &Path) -> Result<Script, String> {
    let text = read_text(file)?;
    Script::parse(&text).map_err(|error| format!("{}: {error}", file.display()))
}
