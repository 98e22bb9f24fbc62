//! `POST /emulator/token` and `POST /emulator/rotate`: reads the body and the query.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{InvalidControlRequest, app, guid};
use crate::{
    encoding::parse_duration,
    issuer::DEFAULT_TENANT,
    rotation::RotationRequest,
    token::{Flaw, Overrides, TokenChoice, TokenRequest},
};

/// The body of `POST /emulator/token`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    kind: Option<String>,
    app: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    overrides: Map<String, Value>,
    #[serde(default)]
    forged: bool,
}

pub(crate) fn parse_token(
    body: &[u8],
    default_app: Option<Uuid>,
) -> Result<TokenRequest, InvalidControlRequest> {
    let raw: RawToken =
        serde_json::from_slice(body).map_err(InvalidControlRequest::body(r#"{"kind":"skype"}"#))?;
    let mut choice = match raw.kind {
        Some(text) => text.parse().map_err(|error| InvalidControlRequest::member("kind", &error))?,
        None => TokenChoice::GOOD,
    };
    match (raw.forged, choice.flaw) {
        (false, _) => {}
        (true, Flaw::None | Flaw::Forged) => choice.flaw = Flaw::Forged,
        (true, _) => {
            return Err(InvalidControlRequest::member("forged", "the kind already names another flaw"));
        }
    }
    let tenant = raw.tenant.map_or(Ok(DEFAULT_TENANT), |text| guid("tenant", &text))?;
    let app = app(raw.app.as_deref(), default_app)?;
    Ok(TokenRequest { choice, app, tenant, overrides: Overrides::from_map(raw.overrides) })
}

/// Reads the query `issuer=skype|entra&overlap=true|false&publish_before=2s`.
pub(crate) fn parse_rotation(query: Option<&str>) -> Result<RotationRequest, InvalidControlRequest> {
    let (mut issuer, mut overlap, mut publish_before) = (None, true, Duration::ZERO);
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match (name.as_ref(), value.as_ref()) {
            ("issuer", value) => {
                issuer = Some(value.parse().map_err(|error| InvalidControlRequest::member("issuer", &error))?)
            }
            ("overlap", "true") => overlap = true,
            ("overlap", "false") => overlap = false,
            ("publish_before", value) => {
                publish_before = parse_duration(value)
                    .map_err(|error| InvalidControlRequest::member("publish_before", &error))?;
            }
            ("overlap", _) => return Err(InvalidControlRequest::member("overlap", "must be true or false")),
            _ => {
                let takes = "the query takes issuer=skype|entra, overlap=true|false and publish_before=2s";
                return Err(InvalidControlRequest::Query(takes));
            }
        }
    }
    issuer
        .map(|issuer| RotationRequest { issuer, overlap, publish_before })
        .ok_or(InvalidControlRequest::Query("issuer=skype or issuer=entra is needed in the query"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Issuer;

    const APP: Uuid = Uuid::from_u128(8);

    #[test]
    fn a_rotation_must_name_its_issuer() {
        let parsed = |query| {
            let RotationRequest { issuer, overlap, publish_before } = parse_rotation(Some(query)).unwrap();
            (issuer, overlap, publish_before.as_millis())
        };
        assert_eq!(parsed("issuer=entra&overlap=false"), (Issuer::Entra, false, 0));
        assert_eq!(parsed("issuer=skype&publish_before=2s"), (Issuer::Skype, true, 2_000));
        for query in [
            None,
            Some(""),
            Some("overlap=true"),
            Some("issuer=x"),
            Some("issuer=skype&overlap=1"),
            Some("x=y"),
            Some("issuer=skype&publish_before=2"),
        ] {
            assert!(parse_rotation(query).is_err(), "{query:?}");
        }
    }

    #[test]
    fn a_forged_token_can_have_no_other_flaw() {
        let parse =
            |body: &str| parse_token(body.as_bytes(), Some(APP)).map(|request| request.choice.to_string());
        assert_eq!(parse(r#"{"forged":true}"#).unwrap(), "skype+forged");
        assert_eq!(parse(r#"{"kind":"entra-v1"}"#).unwrap(), "entra-v1");
        assert!(parse(r#"{"kind":"expired","forged":true}"#).is_err());
        assert!(parse(r#"{"kind":"none+none"}"#).is_err());
    }
}
