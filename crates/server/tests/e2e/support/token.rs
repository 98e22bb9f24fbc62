//! Bearer tokens, assembled from bytes so that a test can make each part wrong.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, OnceLock},
};

use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    sign::Signer,
};
use serde_json::{Map, Value, json};

use super::{APP, TENANT, unix_now};

/// The app id of Microsoft's calling service.
pub(crate) const CALLING_SERVICE: &str = "26a18ebc-cdf7-4a6a-91cb-beb352805e81";

/// The header, the claims and the signing key of a token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    key: &'static str,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Token {
    /// A token as the platform sends it today: by Skype, valid for five minutes, without `iat`, with `cty`.
    pub(crate) fn skype() -> Self {
        let now = unix_now();
        let claims = json!({
            "iss": "https://api.botframework.com",
            "aud": APP,
            "tid": TENANT,
            "appid": CALLING_SERVICE,
            "nbf": now,
            "exp": now + 300,
            "nonce": fresh(),
        });
        Self::of("skype-1", &claims).header("cty", "JWT").header("x5t", "skype-1")
    }

    /// A token of Entra, version 1.0.
    pub(crate) fn entra_v1() -> Self {
        Self::entra("1.0", &format!("https://sts.windows.net/{TENANT}/"), "appid")
    }

    /// A token of Entra, version 2.0.
    pub(crate) fn entra_v2() -> Self {
        Self::entra("2.0", &format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "azp")
    }

    fn entra(version: &str, issuer: &str, caller: &str) -> Self {
        let now = unix_now();
        let claims = json!({
            "iss": issuer,
            "aud": APP,
            "tid": TENANT,
            caller: CALLING_SERVICE,
            "ver": version,
            "idtyp": "app",
            "iat": now,
            "nbf": now,
            "exp": now + 3900,
            "nonce": fresh(),
        });
        Self::of("entra-1", &claims)
    }

    fn of(key: &'static str, claims: &Value) -> Self {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key });
        Self { key, header: object(&header), claims: object(claims) }
    }

    /// Signs with this key and names it in the header.
    pub(crate) fn key(mut self, key: &'static str) -> Self {
        self.key = key;
        self.header("kid", key)
    }

    /// Signs with this key; the header may name another one.
    pub(crate) fn signed_by(mut self, key: &'static str) -> Self {
        self.key = key;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self.header.remove(name);
        self
    }

    /// Returns the bytes to sign.
    pub(crate) fn signing_input(&self) -> String {
        let header = base64url(Value::from(self.header.clone()).to_string().as_bytes());
        let payload = base64url(Value::from(self.claims.clone()).to_string().as_bytes());
        format!("{header}.{payload}")
    }

    pub(crate) fn sign(&self) -> String {
        self.assemble(&self.signing_input(), &rs256(self.key, self.signing_input().as_bytes()))
    }

    /// Returns the token with this signature.
    pub(crate) fn with_signature(&self, signature: &[u8]) -> String {
        self.assemble(&self.signing_input(), signature)
    }

    /// Returns the token with this payload, which need not be valid JSON, and a valid signature.
    pub(crate) fn with_payload(&self, payload: &str) -> String {
        let header = base64url(Value::from(self.header.clone()).to_string().as_bytes());
        let input = format!("{header}.{}", base64url(payload.as_bytes()));
        self.assemble(&input, &rs256(self.key, input.as_bytes()))
    }

    fn assemble(&self, input: &str, signature: &[u8]) -> String {
        let token = format!("{input}.{}", base64url(signature));
        record_secret(&token);
        token
    }
}

/// Returns true if `text` contains a part of any token of this process; no log may contain one.
pub(crate) fn contains_secret(text: &str) -> bool {
    text.contains("eyJ") || SECRETS.lock().unwrap().iter().any(|secret| text.contains(secret))
}

fn record_secret(token: &str) {
    let parts = token.split('.').filter_map(|part| part.get(part.len().saturating_sub(24)..));
    SECRETS.lock().unwrap().extend(parts.filter(|part| part.len() == 24).map(str::to_owned));
}

static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Returns a committed key by the middle part of its file name. These keys are public and protect nothing.
pub(crate) fn private_key(name: &str) -> &'static PKey<Private> {
    static KEYS: LazyLock<Mutex<HashMap<String, &'static PKey<Private>>>> = LazyLock::new(Mutex::default);
    KEYS.lock().unwrap().entry(name.to_owned()).or_insert_with(|| {
        let path = format!("{}/../../fixtures/keys/not-secret-{name}.pem", env!("CARGO_MANIFEST_DIR"));
        let pem = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Box::leak(Box::new(PKey::private_key_from_pem(&pem).unwrap()))
    })
}

/// Returns the public key as a JWK (RFC 7517).
pub(crate) fn jwk(name: &str) -> Value {
    let key = private_key(name).rsa().unwrap();
    let number = |number: &openssl::bn::BigNumRef| base64url(&number.to_vec());
    let (n, e) = (number(key.n()), number(key.e()));
    let mut jwk = json!({ "kty": "RSA", "use": "sig", "kid": name, "x5t": name, "n": n, "e": e });
    if name.starts_with("entra") {
        jwk["issuer"] = "https://login.microsoftonline.com/{tenantid}/v2.0".into();
    }
    jwk
}

fn rs256(key: &str, input: &[u8]) -> Vec<u8> {
    let mut signer = Signer::new(MessageDigest::sha256(), private_key(key)).unwrap();
    signer.sign_oneshot_to_vec(input).unwrap()
}

/// RFC 7515 section 2.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    openssl::base64::encode_block(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Returns a unique value, so that the gateway has no cached verdict for a new token.
fn fresh() -> String {
    static NUMBER: OnceLock<Mutex<u64>> = OnceLock::new();
    let mut number = NUMBER.get_or_init(Mutex::default).lock().unwrap();
    *number += 1;
    number.to_string()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}
