//! Bearer tokens, assembled from bytes so that any of them can be wrong.

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

/// Microsoft's calling service.
pub(crate) const CALLING_SERVICE: &str = "26a18ebc-cdf7-4a6a-91cb-beb352805e81";

/// A token in the making.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    key: &'static str,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Token {
    /// As the platform sends them today: signed by Skype, five minutes long, without `iat`, with `cty`.
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

    /// Entra's first generation.
    pub(crate) fn entra_v1() -> Self {
        Self::entra("1.0", &format!("https://sts.windows.net/{TENANT}/"), "appid")
    }

    /// Entra's second generation.
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

    /// Signs with this key and says so.
    pub(crate) fn key(mut self, key: &'static str) -> Self {
        self.key = key;
        self.header("kid", key)
    }

    /// Signs with this key, whatever the header says.
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

    /// What would be signed.
    pub(crate) fn signing_input(&self) -> String {
        let header = base64url(Value::from(self.header.clone()).to_string().as_bytes());
        let payload = base64url(Value::from(self.claims.clone()).to_string().as_bytes());
        format!("{header}.{payload}")
    }

    pub(crate) fn sign(&self) -> String {
        self.assemble(&self.signing_input(), &rs256(self.key, self.signing_input().as_bytes()))
    }

    /// With a signature of the test's own making.
    pub(crate) fn with_signature(&self, signature: &[u8]) -> String {
        self.assemble(&self.signing_input(), signature)
    }

    /// With a payload that no map can hold, and the right signature over it.
    pub(crate) fn with_payload(&self, payload: &str) -> String {
        let header = base64url(Value::from(self.header.clone()).to_string().as_bytes());
        let input = format!("{header}.{}", base64url(payload.as_bytes()));
        self.assemble(&input, &rs256(self.key, input.as_bytes()))
    }

    fn assemble(&self, input: &str, signature: &[u8]) -> String {
        let token = format!("{input}.{}", base64url(signature));
        remember(&token);
        token
    }
}

/// What no log may hold: the parts of every token of this process.
pub(crate) fn is_leaked(text: &str) -> bool {
    text.contains("eyJ") || SECRETS.lock().unwrap().iter().any(|secret| text.contains(secret))
}

fn remember(token: &str) {
    let parts = token.split('.').filter_map(|part| part.get(part.len().saturating_sub(24)..));
    SECRETS.lock().unwrap().extend(parts.filter(|part| part.len() == 24).map(str::to_owned));
}

static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The committed keys, by the middle of their file names. They are public and protect nothing.
pub(crate) fn private_key(name: &str) -> &'static PKey<Private> {
    static KEYS: LazyLock<Mutex<HashMap<String, &'static PKey<Private>>>> = LazyLock::new(Mutex::default);
    KEYS.lock().unwrap().entry(name.to_owned()).or_insert_with(|| {
        let path = format!("{}/../../fixtures/keys/not-secret-{name}.pem", env!("CARGO_MANIFEST_DIR"));
        let pem = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Box::leak(Box::new(PKey::private_key_from_pem(&pem).unwrap()))
    })
}

/// The public half, as a JWK (RFC 7517).
pub(crate) fn jwk(name: &str) -> Value {
    let key = private_key(name).rsa().unwrap();
    let number = |number: &openssl::bn::BigNumRef| base64url(&number.to_vec());
    let mut jwk = json!({ "kty": "RSA", "use": "sig", "kid": name, "x5t": name, "n": number(key.n()), "e": number(key.e()) });
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

/// Makes each token another one, so that none is answered from the gateway's memory by chance.
fn fresh() -> String {
    static NUMBER: OnceLock<Mutex<u64>> = OnceLock::new();
    let mut number = NUMBER.get_or_init(Mutex::default).lock().unwrap();
    *number += 1;
    number.to_string()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}
