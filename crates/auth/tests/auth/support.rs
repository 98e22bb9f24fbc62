//! Two scripted issuers, their tokens, and an authenticator that trusts them.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use openssl::{
    base64::encode_block,
    hash::MessageDigest,
    pkey::{PKey, Private},
    sha::sha1,
    sign::Signer,
};
use switchboard_auth::{
    AppSettings, Authenticator, Caller, Fetch, FetchError, KeyPolicy, RefusedSender, Tenants, TrustSettings,
};
use tokio::{task::JoinHandle, time::sleep};
use url::Url;
use uuid::Uuid;

/// The time at which the fixtures are checked.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const APP: &str = "9fd00000-f7af-4f74-947d-000000000abc";
pub(crate) const CLOSED: &str = "9fd00000-f7af-4f74-947d-000000000def";
pub(crate) const TENANT: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const SERVICE: &str = "26a18ebc-cdf7-4a6a-91cb-beb352805e81";

pub(crate) const BOTH_KEYS: &str = include_str!("../../../../fixtures/jwks/skype.json");
pub(crate) const FIRST_KEY: &str = include_str!("../../../../fixtures/jwks/skype-before.json");
pub(crate) const SECOND_KEY: &str = include_str!("../../../../fixtures/jwks/skype-after.json");
pub(crate) const SWAPPED_KEY: &str = include_str!("../../../../fixtures/jwks/skype-swapped.json");
const ENTRA_KEYS: &str = include_str!("../../../../fixtures/jwks/entra.json");
const SKYPE_METADATA: &str = include_str!("../../../../fixtures/jwks/skype-metadata.json");
const ENTRA_METADATA: &str = include_str!("../../../../fixtures/jwks/entra-metadata.json");

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const COOLDOWN: Duration = Duration::from_secs(30);

/// The response of an issuer to a fetch.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// It publishes these keys.
    Publishes(Bytes),
    /// It publishes these keys, after a delay.
    Slow(Duration, Bytes),
    /// The fetch fails with this label.
    Fails(&'static str),
    /// It never responds.
    Hangs,
    /// Its metadata document is this one.
    BadMetadata(Bytes),
}

impl Behaviour {
    pub(crate) fn publishes(keys: &str) -> Self {
        Self::Publishes(Bytes::copy_from_slice(keys.as_bytes()))
    }

    pub(crate) fn slow(seconds: u64, keys: &str) -> Self {
        Self::Slow(Duration::from_secs(seconds), Bytes::copy_from_slice(keys.as_bytes()))
    }
}

/// A network with one issuer. It counts the fetches.
#[derive(Debug)]
pub(crate) struct Issuer {
    metadata: &'static str,
    behaviour: Mutex<Behaviour>,
    fetches: AtomicU64,
    dropped: AtomicU64,
}

impl Issuer {
    fn new(metadata: &'static str, behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self {
            metadata,
            behaviour: Mutex::new(behaviour),
            fetches: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    pub(crate) fn skype(behaviour: Behaviour) -> Arc<Self> {
        Self::new(SKYPE_METADATA, behaviour)
    }

    pub(crate) fn entra() -> Arc<Self> {
        Self::new(ENTRA_METADATA, Behaviour::publishes(ENTRA_KEYS))
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Returns the number of fetches. Each starts with the metadata.
    pub(crate) fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::SeqCst)
    }

    /// Returns the number of fetches whose future was dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }
}

impl Fetch for Issuer {
    fn get(
        &self,
        url: &Url,
        _: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        let is_metadata = url.path().to_ascii_lowercase().ends_with("configuration");
        let behaviour = self.behaviour.lock().unwrap().clone();
        Box::pin(async move {
            if is_metadata {
                self.fetches.fetch_add(1, Ordering::SeqCst);
            }
            let metadata = Bytes::from_static(self.metadata.as_bytes());
            match behaviour {
                Behaviour::Publishes(keys) => Ok(if is_metadata { metadata } else { keys }),
                Behaviour::Slow(_, _) if is_metadata => Ok(metadata),
                Behaviour::Slow(time, keys) => {
                    let guard = Dropped(&self.dropped);
                    sleep(time).await;
                    std::mem::forget(guard);
                    Ok(keys)
                }
                Behaviour::Fails(kind) => Err(FetchError { kind, detail: "down\r\nINFO forged line".into() }),
                Behaviour::Hangs => pending().await,
                Behaviour::BadMetadata(document) => Ok(document),
            }
        })
    }
}

struct Dropped<'a>(&'a AtomicU64);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An authenticator with its `run` spawned, and its issuers.
pub(crate) struct World {
    pub(crate) skype: Arc<Issuer>,
    pub(crate) entra: Arc<Issuer>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) running: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl World {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self::with(behaviour, keys(), NOW)
    }

    /// `clock` is the time on the wall clock, for the store.
    pub(crate) fn with(behaviour: Behaviour, keys: KeyPolicy, clock: u64) -> Self {
        let (skype, entra) = (Issuer::skype(behaviour), Issuer::entra());
        let authenticator = Arc::new(Authenticator::new(trusts(&skype, &entra), apps(), keys).unwrap());
        let running = tokio::spawn(Arc::clone(&authenticator).run(move || at(clock)));
        Self { skype, entra, authenticator, running }
    }

    /// Returns `accepted` or the label of the error, at `NOW`.
    pub(crate) async fn verdict(&self, token: &[u8]) -> &'static str {
        verdict(&self.authenticate(token, NOW).await)
    }

    pub(crate) async fn authenticate(
        &self,
        token: &[u8],
        now: u64,
    ) -> Result<Arc<Caller>, Box<RefusedSender>> {
        self.authenticator.authenticate(&bearer(token), at(now)).await
    }

    /// Returns the number of keys and the generation of the Skype trust.
    pub(crate) fn keys(&self) -> (usize, u64) {
        let status = &self.authenticator.trusts()[0];
        (status.keys, status.generation)
    }
}

pub(crate) fn verdict(result: &Result<Arc<Caller>, Box<RefusedSender>>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(refused) => refused.error.label(),
    }
}

pub(crate) fn bearer(token: &[u8]) -> Vec<u8> {
    [b"Bearer ", token].concat()
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(crate) fn keys() -> KeyPolicy {
    KeyPolicy { refresh: HOUR, cooldown: COOLDOWN, keep_stale: 24 * HOUR, store: None }
}

pub(crate) fn trusts(skype: &Arc<Issuer>, entra: &Arc<Issuer>) -> Vec<(TrustSettings, Arc<dyn Fetch>)> {
    let service: Uuid = SERVICE.parse().unwrap();
    let skype_trust = TrustSettings {
        name: "skype".into(),
        metadata: Url::parse("https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration").unwrap(),
        issuers: [
            "https://api.botframework.com",
            "https://api.botframework.com/",
            "https://graph.microsoft.com",
        ]
        .map(str::to_owned)
        .into(),
        callers: vec![service],
        ca_digest: None,
    };
    let entra_trust = TrustSettings {
        name: "entra".into(),
        metadata: Url::parse(
            "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration",
        )
        .unwrap(),
        issuers: ["https://sts.windows.net/{tid}/", "https://login.microsoftonline.com/{tid}/v2.0"]
            .map(str::to_owned)
            .into(),
        callers: vec![service],
        ca_digest: None,
    };
    let (skype, entra): (Arc<Issuer>, Arc<Issuer>) = (Arc::clone(skype), Arc::clone(entra));
    vec![(skype_trust, skype), (entra_trust, entra)]
}

pub(crate) fn apps() -> Vec<AppSettings> {
    vec![
        AppSettings { id: APP.parse().unwrap(), tenants: Tenants::Any, audiences: Vec::new() },
        AppSettings {
            id: CLOSED.parse().unwrap(),
            tenants: Tenants::Only(vec![TENANT.parse().unwrap()]),
            audiences: vec!["api://closed.example".into()],
        },
    ]
}

/// A private key of the fixtures.
#[derive(Clone, Copy)]
pub(crate) struct SigningKey(&'static LazyLock<PKey<Private>>);

pub(crate) const FIRST: SigningKey = SigningKey(&FIRST_PRIVATE);
pub(crate) const SECOND: SigningKey = SigningKey(&SECOND_PRIVATE);

static FIRST_PRIVATE: LazyLock<PKey<Private>> =
    LazyLock::new(|| private(include_bytes!("../../../../fixtures/keys/not-secret-skype-1.pem")));
static SECOND_PRIVATE: LazyLock<PKey<Private>> =
    LazyLock::new(|| private(include_bytes!("../../../../fixtures/keys/not-secret-skype-2.pem")));

fn private(pem: &[u8]) -> PKey<Private> {
    PKey::private_key_from_pem(pem).unwrap()
}

impl SigningKey {
    pub(crate) fn id(self) -> String {
        base64url(&sha1(&self.0.public_key_to_der().unwrap()))
    }

    pub(crate) fn sign(self, header: &str, claims: &str) -> Vec<u8> {
        let input = signing_input(header, claims);
        let mut signer = Signer::new(MessageDigest::sha256(), self.0).unwrap();
        let signature = signer.sign_oneshot_to_vec(input.as_bytes()).unwrap();
        format!("{input}.{}", base64url(&signature)).into_bytes()
    }

    /// Returns a token of the platform that is valid from `nbf` to `exp`.
    pub(crate) fn token(self, nbf: u64, exp: u64) -> Vec<u8> {
        self.token_with_id(&self.id(), nbf, exp)
    }

    pub(crate) fn token_with_id(self, id: &str, nbf: u64, exp: u64) -> Vec<u8> {
        self.sign(&format!(r#"{{"alg":"RS256","kid":"{id}","typ":"JWT"}}"#), &claims(nbf, exp))
    }

    /// Returns a token that is valid at `NOW`.
    pub(crate) fn fresh(self) -> Vec<u8> {
        self.token(NOW - 10, NOW + 290)
    }
}

pub(crate) fn claims(nbf: u64, exp: u64) -> String {
    format!(
        r#"{{"tid":"{TENANT}","appid":"{SERVICE}","nbf":{nbf},"exp":{exp},"iss":"https://api.botframework.com","aud":"{APP}"}}"#
    )
}

/// Returns a token that meets all rules, except that its key is unknown.
pub(crate) fn unknown(id: &str) -> Vec<u8> {
    unsigned(&format!(r#"{{"alg":"RS256","kid":"{id}"}}"#), &claims(NOW - 10, NOW + 290))
}

/// Returns a token with an invalid signature.
pub(crate) fn unsigned(header: &str, claims: &str) -> Vec<u8> {
    format!("{}.{}", signing_input(header, claims), base64url(&[7; 256])).into_bytes()
}

/// RFC 7515 section 5.1 step 5.
pub(crate) fn signing_input(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()))
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    encode_block(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}
