//! The platform over https, with a certificate authority of its own.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use switchboard_emulator::{Client, Platform, PlatformSettings, fetch_json, parse_http_url};

use crate::support::platform_with;

async fn secure(folder: &Path) -> Platform {
    platform_with(|settings| PlatformSettings { tls: Some(folder.to_owned()), ..settings }).await
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_reads_documents_under_every_name() {
    let folder = tempfile::tempdir().unwrap();
    let platform = secure(folder.path()).await;
    let ca = platform.ca().unwrap();
    assert_eq!(ca, folder.path().join("ca.pem"));
    assert!(platform.origin().starts_with("https://127.0.0.1:"));
    let trusting = Client::new(Some(ca)).unwrap();
    let port = platform.address().port();
    for host in ["127.0.0.1", "localhost"] {
        let origin = format!("https://{host}:{port}");
        let url = parse_http_url(&format!("{origin}/common/v2.0/.well-known/openid-configuration")).unwrap();
        let document: Value = serde_json::from_str(&fetch_json(&trusting, &url).await.unwrap()).unwrap();
        assert_eq!(document["jwks_uri"], format!("{origin}/common/discovery/v2.0/keys"));
    }
    let url = parse_http_url(&format!("{}/v1/keys", platform.origin())).unwrap();
    let error = fetch_json(&Client::new(None).unwrap(), &url).await.expect_err("not trusted");
    assert_eq!(error.label(), "tls");
}

#[tokio::test]
async fn a_restarted_platform_has_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let first = secure(folder.path()).await;
    let trusting = Client::new(first.ca()).unwrap();
    drop(first);
    let second = secure(folder.path()).await;
    let url = parse_http_url(&format!("{}/v1/keys", second.origin())).unwrap();
    fetch_json(&trusting, &url).await.unwrap();
}

#[tokio::test]
async fn the_openssl_command_verifies_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let _platform = secure(folder.path()).await;
    let verified = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost", "-CAfile"])
        .args([folder.path().join("ca.pem"), folder.path().join("server.pem")])
        .stdin(Stdio::null())
        .output();
    // On a machine without the command the test above is the only proof.
    if let Ok(output) = verified {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
