//! GUIDs in a configuration and on the command line.

use uuid::Uuid;

use super::section::Setting;

/// Parses a GUID with dashes.
pub(super) fn guid(setting: &Setting<'_>) -> Option<Uuid> {
    setting.parse(GUID, parse_guid)
}

/// Parses a GUID with dashes. `Uuid` alone would also accept braces and `urn:`.
pub(crate) fn parse_guid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

pub(super) const GUID: &str = "a GUID like \"0efc74f7-41c3-47a4-8775-7259bfef4241\"";
