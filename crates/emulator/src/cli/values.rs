//! The parsers of values that several commands take.

use std::{fmt::Display, net::SocketAddr, str::FromStr};

use uuid::Uuid;

/// Parses an IP address and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an IP address and a port, like 127.0.0.1:4000".to_owned())
}

/// Makes a parser of whole numbers from `least` to `most`, both included.
pub(super) fn whole<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: Copy + FromStr + PartialOrd + Display,
{
    move |text| match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("not a whole number from {least} to {most}")),
    }
}

/// Parses a GUID in the form that tokens carry, with hyphens and without braces.
pub(super) fn guid(text: &str) -> Result<Uuid, String> {
    let parsed = if text.len() == 36 { Uuid::try_parse(text).ok() } else { None };
    parsed.ok_or_else(|| "not a GUID like 0efc74f7-41c3-47a4-8775-7259bfef4241".to_owned())
}
