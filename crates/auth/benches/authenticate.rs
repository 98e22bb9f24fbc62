//! The cost of a token: cached, new, and refused at each stage. `cargo bench -p switchboard-auth`.

use std::{
    hint::black_box,
    pin::Pin,
    sync::Arc,
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
    AppSettings, Authenticator, Fetch, FetchError, KeyPolicy, KeySet, Tenants, TrustSettings,
};
use tokio::{runtime::Builder, time::Instant};
use url::Url;

type BenchError = Box<dyn std::error::Error>;

fn main() -> Result<(), BenchError> {
    Builder::new_current_thread().enable_time().build()?.block_on(measure())
}

async fn measure() -> Result<(), BenchError> {
    let key = PKey::private_key_from_pem(include_bytes!("../../../fixtures/keys/not-secret-skype-1.pem"))?;
    let authenticator = authenticator()?;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let clock = move || now;
    tokio::spawn(Arc::clone(&authenticator).run(clock));
    let cached = field(&token(&key, "", NOW + 50)?);
    authenticator.authenticate(&cached, now).await?;

    let mut times = Times::new();
    for _ in 0..BATCHES {
        let started = Instant::now();
        for _ in 0..BATCH {
            black_box(authenticator.authenticate(black_box(&cached), now).await?);
        }
        times.add(started, BATCH);
    }
    times.report("a cached token");

    let (mut signature, mut whole) = (Times::new(), Times::new());
    let set = KeySet::parse(KEYS.as_bytes())?;
    for field in tokens(&key)? {
        let token = field.get(7..).unwrap_or_default();
        let started = Instant::now();
        black_box(set.verify(black_box(token))?);
        signature.add(started, 1);
        let started = Instant::now();
        black_box(authenticator.authenticate(black_box(&field), now).await?);
        whole.add(started, 1);
    }
    signature.report("a new token, KeySet::verify alone");
    whole.report("a new token");

    let mut forged = cached.clone();
    forged.truncate(forged.len() - 8);
    forged.extend_from_slice(b"AAAAAAAA");
    let whole = String::from_utf8(cached.clone())?;
    let (header, rest) = whole.split_once('.').ok_or("a token has dots")?;
    for (name, credentials) in [
        ("refused: not a token", vec![b'.'; 700]),
        ("refused: too long", field(&[b'a'; 9000])),
        ("refused: 8 KiB of one segment", field(&[b'a'; 8192])),
        ("refused: 8 KiB of dots", field(&[b'.'; 8192])),
        ("refused: a malformed header", format!("{header}AA.{rest}").into_bytes()),
        ("refused: expired", field(&token(&key, "", NOW - 400)?)),
        ("refused: an unknown key", field(&token(&key, "x", NOW + 290)?)),
        ("refused: an invalid signature", forged),
    ] {
        let mut times = Times::new();
        for _ in 0..BATCHES {
            let started = Instant::now();
            for _ in 0..BATCH {
                black_box(authenticator.authenticate(black_box(&credentials), now).await.is_err());
            }
            times.add(started, BATCH);
        }
        times.report(name);
    }
    Ok(())
}

fn authenticator() -> Result<Arc<Authenticator>, BenchError> {
    let trust = TrustSettings {
        name: "skype".into(),
        metadata: Url::parse("https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration")?,
        issuers: vec!["https://api.botframework.com".into()],
        callers: vec!["26a18ebc-cdf7-4a6a-91cb-beb352805e81".parse()?],
        ca_digest: None,
    };
    let app = AppSettings { id: APP.parse()?, tenants: Tenants::Any, audiences: Vec::new() };
    let hour = Duration::from_secs(3600);
    let keys =
        KeyPolicy { refresh: hour, cooldown: Duration::from_secs(30), keep_stale: 24 * hour, store: None };
    Ok(Arc::new(Authenticator::new(vec![(trust, Arc::new(Issuer))], vec![app], keys)?))
}

/// An issuer that always responds.
struct Issuer;

impl Fetch for Issuer {
    fn get(
        &self,
        url: &Url,
        _: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        let document = if url.path().ends_with("keys") { KEYS } else { METADATA };
        Box::pin(async move { Ok(Bytes::from_static(document.as_bytes())) })
    }
}

/// Tokens of the platform that differ in their expiry.
fn tokens(key: &PKey<Private>) -> Result<Vec<Vec<u8>>, BenchError> {
    (0..u64::from(TOKENS)).map(|nth| Ok(field(&token(key, "", NOW + 100 + nth)?))).collect()
}

fn token(key: &PKey<Private>, id_suffix: &str, exp: u64) -> Result<Vec<u8>, BenchError> {
    let id = base64url(&sha1(&key.public_key_to_der()?)) + id_suffix;
    let header = format!(r#"{{"alg":"RS256","kid":"{id}","typ":"JWT","cty":"JWT","x5t":"{id}"}}"#);
    let claims = format!(
        r#"{{"tid":"11111111-2222-4333-8444-555555555555","appid":"26a18ebc-cdf7-4a6a-91cb-beb352805e81","nbf":{},"exp":{exp},"iss":"https://api.botframework.com","aud":"{APP}"}}"#,
        exp - 300
    );
    let input = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = Signer::new(MessageDigest::sha256(), key)?.sign_oneshot_to_vec(input.as_bytes())?;
    Ok(format!("{input}.{}", base64url(&signature)).into_bytes())
}

fn field(token: &[u8]) -> Vec<u8> {
    [b"Bearer ", token].concat()
}

fn base64url(bytes: &[u8]) -> String {
    encode_block(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Times of one operation, in batches. The least is the cost; the median shows how busy the machine is.
struct Times(Vec<Duration>);

impl Times {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, started: Instant, times: u32) {
        self.0.push(started.elapsed() / times);
    }

    #[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
    fn report(mut self, name: &str) {
        self.0.sort_unstable();
        let nanos = |at: usize| self.0.get(at).map_or(0, Duration::as_nanos);
        println!("{name:40} least {:>6} ns, median {:>6} ns", nanos(0), nanos(self.0.len() / 2));
    }
}

const NOW: u64 = 1_800_000_000;
const APP: &str = "9fd00000-f7af-4f74-947d-000000000abc";
/// Each token expires in another second.
const TOKENS: u32 = 400;
const BATCHES: u32 = 100;
const BATCH: u32 = 500;
const KEYS: &str = include_str!("../../../fixtures/jwks/skype.json");
const METADATA: &str = include_str!("../../../fixtures/jwks/skype-metadata.json");
