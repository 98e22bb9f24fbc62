//! The parameters of a token request.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, header};

use super::refusal::TokenRefusal;
use crate::server::header_text;

/// The parameters of a token request.
pub(super) struct TokenForm(Vec<(String, String)>);

impl TokenForm {
    pub(super) fn parse(request: &Request<Bytes>) -> Result<Self, TokenRefusal> {
        let kind = header_text(request.headers(), &header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            // The real endpoint finds no parameter in such a body.
            return Err(TokenRefusal::Missing("grant_type"));
        }
        let pairs = url::form_urlencoded::parse(request.body());
        Ok(Self(
            pairs.take(PARAMETERS_MAX).map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        ))
    }

    /// The first value of a parameter, if there is one that is not empty.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter, or the refusal that names it.
    pub(super) fn need(&self, name: &'static str) -> Result<&str, TokenRefusal> {
        self.first(name).ok_or(TokenRefusal::Missing(name))
    }

    /// Returns the client id, from the body or from basic authentication (RFC 6749 section 2.3.1). Basic
    /// authentication gives the secret too.
    pub(super) fn client(&self, request: &Request<Bytes>) -> Result<(String, Option<String>), TokenRefusal> {
        let basic = header_text(request.headers(), &header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|encoded| STANDARD.decode(encoded.trim()).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((client, secret)) = basic.as_deref().and_then(|pair| pair.split_once(':')) else {
            return Ok((self.need("client_id")?.to_owned(), None));
        };
        let decoded = |text: &str| {
            let pair = format!("x={text}");
            url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
        };
        Ok((decoded(client).unwrap_or_default(), decoded(secret)))
    }
}

const PARAMETERS_MAX: usize = 32;
