//! Settings and credentials: the token request of each credential, and that no output shows one.

use std::{fs, path::PathBuf, str::FromStr, sync::Arc};

use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::{MessageDigest, hash},
    nid::Nid,
    pkey::{PKey, Private},
    rsa::{Padding, Rsa},
    sign::{RsaPssSaltlen, Verifier},
    symm::Cipher,
    x509::X509,
};
use serde_json::{Value, json};
use switchboard_graph::{
    Calls, Cloud, Credential, GraphSettings, Hosts, InvalidGraphSettings, TransportErrorKind,
};
use url::Url;

use crate::support::{APP, Reply, SECRET, Script, TENANT, call, reject, settings};

const KEY: &[u8] = include_bytes!("../../../../fixtures/keys/not-secret-entra-1.pem");
const OTHER_KEY: &[u8] = include_bytes!("../../../../fixtures/keys/not-secret-entra-2.pem");
const SHORT_KEY: &[u8] = include_bytes!("../../../../fixtures/keys/not-secret-short.pem");

/// Returns a certificate for `key`, signed by `key`.
fn certificate(key: &PKey<Private>) -> X509 {
    let mut builder = X509::builder().unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(1_900_000_000).unwrap()).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build()
}

fn key(pem: &[u8]) -> PKey<Private> {
    PKey::private_key_from_pem(pem).unwrap()
}

fn pem(certificate: &X509) -> Vec<u8> {
    certificate.to_pem().unwrap()
}

fn base64url(text: &str) -> Vec<u8> {
    let mut text = text.replace('-', "+").replace('_', "/");
    text.push_str(&"=".repeat(text.len().wrapping_neg() % 4));
    openssl::base64::decode_block(&text).unwrap()
}

/// Returns the form of a token request with `credential`.
async fn form(credential: Credential) -> Vec<(String, String)> {
    let script = Script::graph([]);
    let transport: Arc<Script> = Arc::clone(&script);
    reject(&Calls::new(settings(credential), transport), 5).await.unwrap();
    script.forms().remove(0)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(result: Result<T, InvalidGraphSettings>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn a_secret_is_sent_in_the_form() {
    let form = form(Credential::secret(SECRET).unwrap()).await;
    assert_eq!(
        form,
        pairs(&[
            ("grant_type", "client_credentials"),
            ("client_id", APP),
            ("scope", "https://graph.microsoft.com/.default"),
            ("client_secret", SECRET),
        ])
    );
}

#[tokio::test]
async fn a_certificate_signs_an_assertion_that_openssl_verifies() {
    let key = key(KEY);
    let certificate = certificate(&key);
    let form = form(Credential::certificate(&pem(&certificate), KEY).unwrap()).await;
    let assertion = form.last().unwrap().1.clone();
    assert_eq!(
        form,
        pairs(&[
            ("grant_type", "client_credentials"),
            ("client_id", APP),
            ("scope", "https://graph.microsoft.com/.default"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ])
    );

    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let mut verifier = Verifier::new(MessageDigest::sha256(), &key).unwrap();
    verifier.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
    verifier.set_rsa_mgf1_md(MessageDigest::sha256()).unwrap();
    verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
    assert!(verifier.verify_oneshot(&base64url(signature), signed.as_bytes()).unwrap());

    let (header, claims) = signed.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&base64url(header)).unwrap();
    let thumbprint = header["x5t#S256"].as_str().unwrap();
    let der = certificate.to_der().unwrap();
    assert_eq!(base64url(thumbprint), hash(MessageDigest::sha256(), &der).unwrap().to_vec());
    assert_eq!(header, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));

    let claims: Value = serde_json::from_slice(&base64url(claims)).unwrap();
    let id = claims["jti"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
    assert_eq!(
        claims,
        json!({
            "aud": format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
            "iss": APP,
            "sub": APP,
            "jti": id,
            "nbf": 1_800_000_000,
            "iat": 1_800_000_000,
            "exp": 1_800_000_600,
        })
    );
}

#[tokio::test(start_paused = true)]
async fn each_assertion_is_different() {
    let script = Script::new([Reply::error(TransportErrorKind::Unreachable)], []);
    let transport: Arc<Script> = Arc::clone(&script);
    let credential = Credential::certificate(&pem(&certificate(&key(KEY))), KEY).unwrap();
    reject(&Calls::new(settings(credential), transport), 5).await.unwrap();
    let forms = script.forms();
    assert_eq!(forms.len(), 2);
    assert_ne!(forms[0].last(), forms[1].last());
}

#[tokio::test]
async fn the_first_certificate_of_a_chain_counts() {
    let (own, above) = (certificate(&key(KEY)), certificate(&key(OTHER_KEY)));
    let chain = [pem(&own), pem(&above)].concat();
    Credential::certificate(&chain, KEY).unwrap();
    check_refused(
        Credential::certificate(&[pem(&above), pem(&own)].concat(), KEY),
        "graph.key: must be the key of graph.certificate",
    );
}

#[test]
fn certificates_that_cannot_work_are_refused() {
    let good = pem(&certificate(&key(KEY)));
    let check = |certificate: &[u8], key: &[u8], expected| {
        check_refused(Credential::certificate(certificate, key), expected);
    };
    check(b"", KEY, "graph.certificate: must be a certificate in PEM form");
    check(KEY, KEY, "graph.certificate: must be a certificate in PEM form");
    let no_key = "graph.key: must be a private key in PEM form without a password";
    check(&good, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", no_key);
    check(&good, &good, no_key);
    let locked = key(KEY).private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"password").unwrap();
    check(&good, &locked, no_key);
    check(&good, OTHER_KEY, "graph.key: must be the key of graph.certificate");
    check(&pem(&certificate(&key(SHORT_KEY))), SHORT_KEY, "graph.key: must have at least 2048 bits");
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let curve = PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap();
    check(
        &pem(&certificate(&curve)),
        &curve.private_key_to_pem_pkcs8().unwrap(),
        "graph.key: must be an RSA key: assertions are signed with PS256",
    );
    // The older PEM form of the same key.
    let rsa: Rsa<Private> = key(KEY).rsa().unwrap();
    Credential::certificate(&good, &rsa.private_key_to_pem().unwrap()).unwrap();
}

#[test]
fn secrets_that_cannot_work_are_refused() {
    let expected = "graph.secret: must be 1 to 1024 visible ASCII characters, without blanks and line breaks";
    for text in ["", "a b", "secret\n", "sécret", &"x".repeat(1025)] {
        check_refused(Credential::secret(text), expected);
    }
    Credential::secret(&"x".repeat(1024)).unwrap();
    check_refused(
        Credential::federated_token(PathBuf::new()),
        "graph.federated_token: must be the path of a file",
    );
}

#[tokio::test]
async fn a_federated_token_is_read_again_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let script = Script::graph([Reply::status(202), Reply::status(401)]);
    let transport: Arc<Script> = Arc::clone(&script);
    let calls = Calls::new(settings(Credential::federated_token(path.clone()).unwrap()), transport);
    fs::write(&path, "\n eyJ.first.x \r\n").unwrap();
    reject(&calls, 5).await.unwrap();
    fs::write(&path, "eyJ.second.x").unwrap();
    reject(&calls, 5).await.unwrap();
    let assertions: Vec<_> = script.forms().iter().map(|form| form.last().unwrap().clone()).collect();
    assert_eq!(
        assertions,
        pairs(&[("client_assertion", "eyJ.first.x"), ("client_assertion", "eyJ.second.x")])
    );
}

#[tokio::test]
async fn an_unusable_federated_token_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let script = Script::graph([]);
    let transport: Arc<Script> = Arc::clone(&script);
    let calls = Calls::new(settings(Credential::federated_token(path.clone()).unwrap()), transport);
    let error = reject(&calls, 5).await.unwrap_err();
    assert_eq!(error.label(), "token_file_unreadable");
    assert_eq!(error.to_string(), "the federated token file cannot be read: entity not found");
    let contents: [&[u8]; 6] = [b"", b" \n", b"two words", b"\xff\xfe", b"a\0b", &[b'x'; 16 * 1024 + 1]];
    for content in contents {
        fs::write(&path, content).unwrap();
        let error = reject(&calls, 5).await.unwrap_err();
        assert_eq!(error.label(), "token_file_malformed");
        assert_eq!(
            error.to_string(),
            "the federated token file does not contain a token: 1 to 16384 visible ASCII characters"
        );
    }
    assert_eq!(script.lines(), [""; 0]);
}

#[test]
fn each_cloud_has_its_hosts() {
    let of = |name: &str| {
        let cloud = Cloud::from_str(name).unwrap();
        assert_eq!(cloud.to_string(), name);
        let credential = Credential::secret(SECRET).unwrap();
        let settings = GraphSettings::new(APP.parse().unwrap(), cloud, Hosts::default(), credential).unwrap();
        [settings.authority().to_string(), settings.endpoint().to_string(), settings.scope().to_owned()]
    };
    assert_eq!(
        of("public"),
        [
            "https://login.microsoftonline.com/",
            "https://graph.microsoft.com/",
            "https://graph.microsoft.com/.default"
        ]
    );
    assert_eq!(
        of("gcc-high"),
        [
            "https://login.microsoftonline.us/",
            "https://graph.microsoft.us/",
            "https://graph.microsoft.us/.default"
        ]
    );
    assert_eq!(
        of("dod"),
        [
            "https://login.microsoftonline.us/",
            "https://dod-graph.microsoft.us/",
            "https://dod-graph.microsoft.us/.default"
        ]
    );
    check_refused(
        Cloud::from_str("china"),
        "cloud: has no calls API: Graph of the China cloud, run by 21Vianet, does not offer it",
    );
    for name in ["", "Public", "gcc", "GCC-High"] {
        check_refused(Cloud::from_str(name), "cloud: must be \"public\", \"gcc-high\" or \"dod\"");
    }
}

fn with_hosts(
    authority: Option<&str>,
    endpoint: Option<&str>,
) -> Result<GraphSettings, InvalidGraphSettings> {
    let url = |text: &str| Url::parse(text).unwrap();
    let hosts = Hosts { authority: authority.map(url), endpoint: endpoint.map(url) };
    GraphSettings::new(APP.parse().unwrap(), Cloud::Public, hosts, Credential::secret(SECRET).unwrap())
}

#[tokio::test]
async fn other_hosts_keep_their_path_and_do_not_change_the_scope() {
    let settings = with_hosts(Some("http://127.0.0.1:4000/entra/"), Some("http://localhost:4000")).unwrap();
    let script = Script::graph([]);
    let transport: Arc<Script> = Arc::clone(&script);
    reject(&Calls::new(settings, transport), 5).await.unwrap();
    assert_eq!(
        script.lines(),
        [
            format!("POST http://127.0.0.1:4000/entra/{TENANT}/oauth2/v2.0/token"),
            format!("POST http://localhost:4000/v1.0/communications/calls/{}/reject", call()),
        ]
    );
    assert_eq!(script.forms()[0][2].1, "https://graph.microsoft.com/.default");
}

#[test]
fn hosts_are_https_or_loopback() {
    let https = "must be https (http for loopback hosts only)";
    let plain = "must have neither userinfo nor query nor fragment";
    for url in ["http://graph.example/", "http://localhost.example/", "ftp://localhost/", "data:,x"] {
        check_refused(with_hosts(None, Some(url)), &format!("graph.endpoint: {https}"));
        check_refused(with_hosts(Some(url), None), &format!("graph.authority: {https}"));
    }
    for url in ["https://u@a/", "https://:p@a/", "https://a/?b", "https://a/#b"] {
        check_refused(with_hosts(None, Some(url)), &format!("graph.endpoint: {plain}"));
        check_refused(with_hosts(Some(url), None), &format!("graph.authority: {plain}"));
    }
    with_hosts(Some("https://login.example"), Some("http://[::1]:4000/")).unwrap();
}

#[tokio::test]
async fn no_output_shows_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "eyJ.federated.x").unwrap();
    let credentials = [
        Credential::secret(SECRET).unwrap(),
        Credential::certificate(&pem(&certificate(&key(KEY))), KEY).unwrap(),
        Credential::federated_token(path).unwrap(),
    ];
    let shown: Vec<_> = credentials.iter().map(|credential| format!("{credential:?}")).collect();
    assert_eq!(shown, ["Credential(secret)", "Credential(certificate)", "Credential(federated token)"]);
    for credential in credentials {
        // The token endpoint repeats the credential, then works; Graph repeats the token.
        let echo = format!(
            r#"{{"error":"{SECRET}","error_description":"AADSTS7000215: {SECRET} eyJ",
                 "trace_id":"{SECRET}"}}"#
        );
        let graph = r#"{"error":{"code":"token.2","message":"you sent Bearer token.2",
                         "innerError":{"request-id":"token.2"}}}"#;
        let script = Script::new(
            [Reply::new(400, &[], &echo)],
            [Reply::new(400, &[("request-id", "token.2")], graph), Reply::error(TransportErrorKind::Lost)],
        );
        let transport: Arc<Script> = Arc::clone(&script);
        let settings = settings(credential);
        let mut shown = format!("{settings:?}");
        let calls = Calls::new(settings, transport);
        for _ in 0..3 {
            let error = reject(&calls, 5).await.unwrap_err();
            shown.push_str(&format!("{error} {error:?} {}", error.label()));
        }
        shown.push_str(&format!("{calls:?} {}", script.debug()));
        for secret in [SECRET, "s3cr3t", "eyJ", "token.2"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert_eq!(
            script.headers("authorization"),
            [const { Some("Bearer token.2") }; 2].map(|it| it.map(str::to_owned))
        );
    }
}
