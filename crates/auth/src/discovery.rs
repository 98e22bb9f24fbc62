//! `Discovery`: the parts of an OpenID configuration document that this crate uses.

use serde::Deserialize;
use url::{Host, Url};

/// The parts of the document that this crate uses. Its list of algorithms is not one of them: Skype's says
/// `RSA256`, which does not exist. Its issuer need not fit its address: Skype's does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) keys: Url,
    pub(crate) issuer: Option<Box<str>>,
    pub(crate) cloud: Option<Box<str>>,
}

impl Discovery {
    /// Parses the document that was fetched from `metadata`. The keys must be on the same host: an attacker
    /// who can write the document must not choose the targets of this process's requests (RFC 8725 section
    /// 3.10).
    pub(crate) fn parse(document: &[u8], metadata: &Url) -> Result<Self, DiscoveryError> {
        if document.len() > METADATA_BYTES_MAX {
            return Err(DiscoveryError::TooLarge);
        }
        let document: MetadataDocument =
            serde_json::from_slice(document).map_err(|_| DiscoveryError::Malformed)?;
        let keys = Url::parse(&document.jwks_uri).map_err(|_| DiscoveryError::KeysNotUrl)?;
        // A document that was fetched over TLS must not lead to keys without TLS.
        let scheme_is_safe = match keys.scheme() {
            "https" => true,
            "http" => is_loopback(&keys) && metadata.scheme() == "http",
            _ => false,
        };
        if !scheme_is_safe || has_userinfo(&keys) || keys.host() != metadata.host() {
            return Err(DiscoveryError::KeysAddress { found: origin(&keys), needed: origin(metadata) });
        }
        Ok(Self {
            keys,
            issuer: document.issuer.map(String::into_boxed_str),
            cloud: document.cloud_instance_name.map(String::into_boxed_str),
        })
    }
}

/// The reasons to refuse a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// It is too large.
    #[error("the document is larger than 64 KiB")]
    TooLarge,
    /// It is something else.
    #[error("the document is not an OpenID configuration")]
    Malformed,
    /// The address of its keys is not a URL.
    #[error("jwks_uri is not an absolute URL")]
    KeysNotUrl,
    /// The keys must be https, without user and password, on the host of the metadata.
    #[error("jwks_uri leads to {found}; it must lead to {needed}, where the metadata are")]
    KeysAddress {
        /// Scheme and host of the keys.
        found: String,
        /// Scheme and host of the metadata.
        needed: String,
    },
}

impl DiscoveryError {
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::TooLarge => "metadata_too_large",
            Self::Malformed => "metadata_malformed",
            Self::KeysNotUrl | Self::KeysAddress { .. } => "metadata_keys_address",
        }
    }
}

/// Returns scheme, userinfo and host of `url`, the parts that decide where keys may come from, without the
/// text of the userinfo. A host is ASCII; of a long one, only the start is returned.
fn origin(url: &Url) -> String {
    let userinfo = if has_userinfo(url) { "USERINFO@" } else { "" };
    let host: String = url.host_str().unwrap_or_default().chars().take(HOST_CHARS_MAX).collect();
    format!("{}://{userinfo}{host}", url.scheme().get(..SCHEME_CHARS_MAX).unwrap_or_else(|| url.scheme()))
}

/// Returns true if `url` has a user name or a password.
pub(crate) fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Returns true if `url` can only lead to this machine.
///
/// graph, routing and server have a copy of this rule and of `has_userinfo`. None of the first three may
/// depend on another (docs/architecture.md), and ten lines do not justify a crate for all to depend on.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The members of the document, as OpenID Connect Discovery 1.0 section 3 and Entra name them.
#[derive(Deserialize)]
struct MetadataDocument {
    jwks_uri: String,
    issuer: Option<String>,
    cloud_instance_name: Option<String>,
}

/// The longest host in an error.
const HOST_CHARS_MAX: usize = 100;

/// The longest scheme in an error.
const SCHEME_CHARS_MAX: usize = 16;

/// Real documents have less than 2 KiB.
pub(crate) const METADATA_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metadata: &str, document: &str, expected: Result<&str, &str>) {
        let found = Discovery::parse(document.as_bytes(), &Url::parse(metadata).unwrap());
        let found = found.as_ref().map(|it| it.keys.as_str()).map_err(DiscoveryError::label);
        assert_eq!(found, expected, "{document}");
    }

    #[test]
    fn keys_must_be_on_the_host_of_the_metadata() {
        let keys_at =
            |uri: &str| format!(r#"{{"jwks_uri":"{uri}","issuer":"https://i","id_token":["RSA256"]}}"#);
        let metadata = "https://login.example/common/.well-known/openid-configuration";
        check(metadata, &keys_at("https://login.example/keys"), Ok("https://login.example/keys"));
        check(metadata, &keys_at("https://LOGIN.example:8443/k"), Ok("https://login.example:8443/k"));
        for other in [
            "https://keys.example/keys",
            "http://login.example/keys",
            "http://127.0.0.1/keys",
            "https://user@login.example/keys",
            "https://:password@login.example/keys",
            "https://login.example.evil.example/",
            "https://login.example./keys",
            "ftp://login.example/keys",
            "file:///etc/passwd",
            "data:,x",
            "/keys",
            "",
        ] {
            check(metadata, &keys_at(other), Err("metadata_keys_address"));
        }
        let both =
            Discovery::parse(keys_at("https://keys.example/keys").as_bytes(), &Url::parse(metadata).unwrap());
        assert_eq!(
            both.unwrap_err().to_string(),
            "jwks_uri leads to https://keys.example; it must lead to https://login.example, where the \
             metadata are"
        );
    }

    #[test]
    fn plain_http_is_for_loopback_hosts_only() {
        let document = r#"{"jwks_uri":"http://127.0.0.1:4000/keys"}"#;
        check("http://127.0.0.1:4001/metadata", document, Ok("http://127.0.0.1:4000/keys"));
        check("https://127.0.0.1:4001/metadata", document, Err("metadata_keys_address"));
    }

    #[test]
    fn other_documents_are_refused() {
        for document in ["", "<html></html>", "[]", "{}", r#"{"jwks_uri":1}"#, r#"{"jwks_uri":"https://a/""#]
        {
            check("https://a/", document, Err("metadata_malformed"));
        }
        let twice = r#"{"jwks_uri":"https://a/","jwks_uri":"https://a/"}"#;
        check("https://a/", twice, Err("metadata_malformed"));
        check("https://a/", &" ".repeat(METADATA_BYTES_MAX + 1), Err("metadata_too_large"));
    }
}
