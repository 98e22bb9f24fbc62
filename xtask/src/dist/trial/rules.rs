//! The rules that the trial checks, and the places of an installed package.

/// Fails with the rule and with what was found instead, unless the rule holds.
pub(super) fn expect(holds: bool, rule: &str, found: &str) -> Result<(), String> {
    if holds {
        return Ok(());
    }
    Err(format!("the Debian package: {rule}:\n{found}"))
}

pub(super) const CONFIGURATION: &str = "/etc/switchboard/switchboard.toml";
pub(super) const SECRETS: &str = "/etc/switchboard/secrets.env";
pub(super) const STATE: &str = "/var/lib/switchboard";
