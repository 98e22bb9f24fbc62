//! The validation of the tokens of notifications, as the calling SDK does it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use openssl::{
    bn::BigNum,
    pkey::{PKey, Public},
    rsa::Rsa,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use url::Url;
use uuid::Uuid;

use crate::{
    client::{Client, fetch_json},
    clock::{CLOCK_SKEW_SECONDS, unix_seconds},
    encoding::from_base64_url,
    issuer::SKYPE_ISSUER,
    signature::verify_rsa,
};

/// Validates tokens for one app with the keys that a platform publishes.
#[derive(Debug)]
pub(in crate::bot) struct TokenValidator {
    app: String,
    platform: Url,
    client: Client,
    keys: Mutex<KnownKeys>,
    /// Held during the first fetch, for which every notification waits.
    first_fetch: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct KnownKeys {
    by_id: HashMap<String, Arc<VerifyingKey>>,
    fetched: bool,
    /// The last time that an unknown key asked for new metadata.
    refreshed: Option<Instant>,
}

#[derive(Debug)]
struct VerifyingKey {
    public: PKey<Public>,
    skype: bool,
    /// The issuer for which an Entra key signs, with `{tenantid}`.
    issuer: Option<String>,
}

/// The family of a valid token, as `x-microsoft-bot-auth-type` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenFamily {
    Skype,
    Entra,
}

impl TokenFamily {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Skype => "oid",
            Self::Entra => "entra",
        }
    }
}

impl TokenValidator {
    pub(in crate::bot) fn new(app: String, platform: Url, client: Client) -> Self {
        Self { app, platform, client, keys: Mutex::default(), first_fetch: AsyncMutex::default() }
    }

    /// Validates the value of `Authorization`. `None` is a token that the SDK refuses.
    ///
    /// A token of an unknown key is refused, and the keys are read again in the background.
    pub(super) async fn validate(
        self: &Arc<Self>,
        authorization: Option<&str>,
        now: SystemTime,
    ) -> Option<TokenFamily> {
        let (scheme, token) = authorization?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: TokenHeader = serde_json::from_slice(&from_base64_url(header)?).ok()?;
        let claims: TokenClaims = serde_json::from_slice(&from_base64_url(claims)?).ok()?;
        let skype = claims.iss == SKYPE_ISSUER;
        self.fetch_first().await;
        let known = self.lock().by_id.get(&header.kid).filter(|key| key.skype == skype).cloned();
        let Some(key) = known else {
            self.refresh();
            return None;
        };
        let signature = from_base64_url(signature)?;
        let verified = verify_rsa(&key.public, &header.alg, signed.as_bytes(), &signature);
        if !verified || !claims.are_valid(&self.app, now) {
            return None;
        }
        if skype {
            return Some(TokenFamily::Skype);
        }
        claims.are_of_entra(key.issuer.as_deref()).then_some(TokenFamily::Entra)
    }

    /// Reads the keys before the first token is validated.
    async fn fetch_first(&self) {
        let _fetching = self.first_fetch.lock().await;
        if !self.lock().fetched {
            let keys = self.fetch().await;
            let mut known = self.lock();
            known.fetched = !keys.is_empty();
            known.by_id = keys;
        }
    }

    /// Reads the keys again in the background: at once the first time, then at most every five minutes.
    fn refresh(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let mut known = self.lock();
            if known.refreshed.is_some_and(|last| now.duration_since(last) < REFRESH_PAUSE) {
                return;
            }
            known.refreshed = Some(now);
        }
        let validator = Arc::clone(self);
        tokio::spawn(async move {
            let keys = validator.fetch().await;
            if !keys.is_empty() {
                validator.lock().by_id = keys;
            }
        });
    }

    async fn fetch(&self) -> HashMap<String, Arc<VerifyingKey>> {
        let mut keys = HashMap::new();
        for (path, skype) in [("/v1/keys", true), ("/common/discovery/v2.0/keys", false)] {
            let Ok(url) = self.platform.join(path) else { continue };
            let Ok(text) = fetch_json(&self.client, &url).await else { continue };
            let set: Value = serde_json::from_str(&text).unwrap_or_default();
            let list = set.get("keys").and_then(Value::as_array).into_iter().flatten();
            for jwk in list.take(KEYS_MAX) {
                if let Some((id, key)) = read_key(jwk, skype) {
                    keys.insert(id, Arc::new(key));
                }
            }
        }
        keys
    }

    fn lock(&self) -> MutexGuard<'_, KnownKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_key(jwk: &Value, skype: bool) -> Option<(String, VerifyingKey)> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let number = |name: &str| BigNum::from_slice(&from_base64_url(text(name)?)?).ok();
    let rsa = Rsa::from_public_components(number("n")?, number("e")?).ok()?;
    let public = PKey::from_rsa(rsa).ok()?;
    let issuer = text("issuer").map(str::to_owned);
    Some((text("kid")?.to_owned(), VerifyingKey { public, skype, issuer }))
}

#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct TokenClaims {
    iss: String,
    aud: String,
    exp: f64,
    nbf: Option<f64>,
    tid: Option<String>,
    azp: Option<String>,
    appid: Option<String>,
    cnf: Option<Value>,
    ver: Option<String>,
}

impl TokenClaims {
    /// Checks the claims that both families have.
    #[expect(clippy::as_conversions, reason = "seconds since 1970 are exact in an f64")]
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in an f64")]
    fn are_valid(&self, app: &str, now: SystemTime) -> bool {
        let (now, skew) = (unix_seconds(now) as f64, f64::from(CLOCK_SKEW_SECONDS));
        self.aud == app
            && self.cnf.is_none()
            && self.exp + skew > now
            && self.nbf.is_none_or(|nbf| nbf <= now + skew)
    }

    /// Checks the issuer and the calling app of an Entra token. `key_issuer` is the issuer of its key.
    fn are_of_entra(&self, key_issuer: Option<&str>) -> bool {
        let Some(tenant) = self.tid.as_deref().filter(|tenant| Uuid::try_parse(tenant).is_ok()) else {
            return false;
        };
        let of_tenant = self.iss.split('/').any(|segment| segment == tenant);
        let prefix = ISSUER_PREFIXES.iter().any(|prefix| self.iss.starts_with(prefix));
        let caller = self.azp.as_deref().or(self.appid.as_deref());
        // Only the issuer of v2.0 tokens is compared with that of the key.
        let of_key = self.ver.as_deref() != Some("2.0")
            || key_issuer.is_none_or(|issuer| issuer.replace("{tenantid}", tenant) == self.iss);
        of_tenant && prefix && of_key && caller == Some(CALLING_SERVICE)
    }
}

const ISSUER_PREFIXES: [&str; 2] = ["https://login.microsoftonline.com/", "https://sts.windows.net/"];
const CALLING_SERVICE: &str = "26a18ebc-cdf7-4a6a-91cb-beb352805e81";

/// The refresh interval of Microsoft.IdentityModel.
const REFRESH_PAUSE: Duration = Duration::from_secs(300);
const KEYS_MAX: usize = 64;
const TOKEN_BYTES_MAX: usize = 16 * 1024;
