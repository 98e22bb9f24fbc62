//! Preparations for gateways: free ports, a seal secret, private files, trusts.

use std::{
    fs::OpenOptions,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde_json::Value;

/// Finds different free ports for all listeners. They are released just before the gateways bind them: a
/// configuration cannot use port 0, because each gateway must know the ports of the other gateways.
pub(crate) fn free_addresses(host: &str, count: usize) -> Result<Vec<SocketAddr>, String> {
    let bound: Result<Vec<TcpListener>, _> = (0..count).map(|_| TcpListener::bind((host, 0))).collect();
    let bound = bound.map_err(|error| format!("cannot find a free port: {error}"))?;
    let addresses: Result<Vec<SocketAddr>, _> = bound.iter().map(TcpListener::local_addr).collect();
    addresses.map_err(|error| format!("cannot find a free port: {error}"))
}

/// 32 random bytes in base64, like the output of `switchboard keygen`.
pub(crate) fn new_secret() -> Result<String, String> {
    let mut secret = [0; 32];
    openssl::rand::rand_bytes(&mut secret)
        .map_err(|error| format!("openssl cannot generate random bytes: {error}"))?;
    Ok(openssl::base64::encode_block(&secret))
}

/// Writes a new file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), String> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error: std::io::Error| format!("cannot write {}: {error}", path.display()))
}

/// The trusts of a gateway whose platform is the emulator at `platform`.
pub(crate) fn trusts(platform: &str) -> String {
    TRUSTS.replace("{platform}", platform)
}

/// The trusts of `switchboard-emulator up`. The short cool-down lets keys rotate at once.
const TRUSTS: &str = r#"[[trust]]
name = "skype"
metadata = "{platform}/v1/.well-known/OpenIdConfiguration"
issuers = ["https://api.botframework.com", "https://api.botframework.com/", "https://graph.microsoft.com"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]

[[trust]]
name = "entra"
metadata = "{platform}/common/v2.0/.well-known/openid-configuration"
issuers = ["https://sts.windows.net/{tid}/", "https://login.microsoftonline.com/{tid}/v2.0"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]

[keys]
cooldown = "1s""#;

/// A text member of the line that the emulator prints at its start.
pub(crate) fn text(object: &Value, name: &str) -> Result<String, String> {
    object
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("the emulator printed no {name}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_owner_can_read_a_secret() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("switchboard-setup-test-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        write_private(&path, &new_secret().unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_private(&path, "").is_err(), "an existing file must stay");
        fs::remove_file(&path).unwrap();
    }
}
