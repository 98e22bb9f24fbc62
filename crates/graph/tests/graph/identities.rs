//! Managed identities: the requests to the identity endpoint, its failures, and the one tenant of its tokens.

use std::{iter, sync::Arc, time::Duration};

use switchboard_graph::{
    Calls, Credential, GraphSettings, InvalidGraphSettings, ManagedIdentity, Reject, TokenError,
    TransportErrorKind,
};
use tokio::time::{Instant, advance};
use url::Url;
use uuid::Uuid;

use crate::support::{Reply, Script, TENANT, call, callback, now, reject, settings, tenant};

const CLIENT: &str = "0f0f0f0f-1111-4222-8333-444444444444";
const HEADER: &str = "h3ad3r-0123456789abcdef";

/// Recorded from the Instance Metadata Service; the token is made up.
const METADATA_TOKEN: &str = r#"{"access_token":"eyJ.machine.x","client_id":"0f0f0f0f-1111-4222-8333-444444444444",
    "expires_in":"86400","expires_on":"1800086400","ext_expires_in":"86399","not_before":"1799999700",
    "refresh_in":"43200","resource":"https://graph.microsoft.com","token_type":"Bearer"}"#;

/// Recorded from App Service: it has no `expires_in`.
const APP_SERVICE_TOKEN: &str = r#"{"access_token":"eyJ.app.x","expires_on":"1800003600",
    "resource":"https://graph.microsoft.com","token_type":"Bearer",
    "client_id":"0f0f0f0f-1111-4222-8333-444444444444"}"#;

fn app_service() -> ManagedIdentity {
    let url = "http://169.254.130.2:8081/msi/token".parse().unwrap();
    ManagedIdentity::app_service(url, HEADER).unwrap()
}

fn user_assigned(identity: ManagedIdentity) -> ManagedIdentity {
    identity.user_assigned(CLIENT.parse().unwrap())
}

fn with(credential: Credential, script: &Arc<Script>) -> Calls {
    let script: Arc<Script> = Arc::clone(script);
    Calls::new(settings(credential), script)
}

fn machine(script: &Arc<Script>) -> Calls {
    with(Credential::managed_identity(ManagedIdentity::virtual_machine(), tenant()), script)
}

/// `identity` obtains its first token with this request.
#[track_caller]
fn check_request(identity: ManagedIdentity, token: &str, line: &str, (name, value): (&str, &str)) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let script = Script::new([Reply::new(200, &[], token)], []);
    let calls = with(Credential::managed_identity(identity, tenant()), &script);
    runtime.block_on(reject(&calls, 5)).unwrap();
    assert_eq!(script.lines()[0], line);
    assert_eq!(script.token_headers(name), [Some(value.to_owned())]);
    assert_eq!(script.token_headers("authorization"), [None]);
    assert!(script.headers("authorization")[0].as_ref().unwrap().starts_with("Bearer eyJ."));
}

#[test]
fn a_virtual_machine_asks_the_metadata_service() {
    let url = "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
               &resource=https%3A%2F%2Fgraph.microsoft.com";
    let header = ("metadata", "true");
    check_request(ManagedIdentity::virtual_machine(), METADATA_TOKEN, url, header);
    let identity = user_assigned(ManagedIdentity::virtual_machine());
    check_request(identity, METADATA_TOKEN, &format!("{url}&client_id={CLIENT}"), header);
    let emulator = "http://127.0.0.1:4000/metadata/identity/oauth2/token".parse().unwrap();
    let identity = ManagedIdentity::virtual_machine_at(emulator).unwrap();
    check_request(identity, METADATA_TOKEN, &url.replace("169.254.169.254", "127.0.0.1:4000"), header);
}

#[test]
fn an_app_of_app_service_asks_its_own_endpoint_with_its_header() {
    let url = "GET http://169.254.130.2:8081/msi/token?api-version=2019-08-01\
               &resource=https%3A%2F%2Fgraph.microsoft.com";
    let header = ("x-identity-header", HEADER);
    check_request(app_service(), APP_SERVICE_TOKEN, url, header);
    let url = format!("{url}&client_id={CLIENT}");
    check_request(user_assigned(app_service()), APP_SERVICE_TOKEN, &url, header);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_another_tenant_fails_before_anything_is_sent() {
    let script = Script::new([Reply::new(200, &[], METADATA_TOKEN)], []);
    let calls = machine(&script);
    for other in 0..5000 {
        let deadline = Instant::now() + Duration::from_secs(5);
        let other = Uuid::from_u128(other);
        let refused =
            calls.reject(other, &call(), Reject::default(), Some(&callback()), deadline, now()).await;
        let error = refused.unwrap_err();
        assert_eq!((error.label(), error.is_outcome_unknown()), ("token_other_tenant", false));
        let line = format!(
            "the managed identity has tokens for the tenant {TENANT} only, and the call is of another"
        );
        assert_eq!(error.to_string(), line);
        assert_eq!(calls.authorize(other, now()).await, Err(TokenError::OtherTenant { identity: tenant() }));
    }
    assert_eq!(script.lines(), [""; 0]);
    reject(&calls, 5).await.unwrap();
    assert_eq!(script.lines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_when_its_issuer_wants_it() {
    // It is valid for a day, and wants to be renewed after half of it.
    let second = METADATA_TOKEN.replace("machine", "second");
    let script = Script::new([Reply::new(200, &[], METADATA_TOKEN), Reply::new(200, &[], &second)], []);
    let calls = machine(&script);
    for (wait, token_requests) in [(0, 1), (43_199, 1), (2, 2), (43_000, 2)] {
        advance(Duration::from_secs(wait)).await;
        reject(&calls, 5).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(script.token_requests(), token_requests, "after {wait} s");
    }
    let last = script.headers("authorization").pop().unwrap();
    assert_eq!(last.as_deref(), Some("Bearer eyJ.second.x"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_validity_does_for_a_lifetime() {
    let script = Script::new(iter::repeat_with(|| Reply::new(200, &[], APP_SERVICE_TOKEN)).take(9), []);
    let calls = with(Credential::managed_identity(app_service(), tenant()), &script);
    for (wait, token_requests) in [(0, 1), (3299, 1), (1, 2)] {
        advance(Duration::from_secs(wait)).await;
        reject(&calls, 5).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(script.token_requests(), token_requests, "after {wait} s");
    }
    // It ended before `now`, or has no end.
    for body in [
        APP_SERVICE_TOKEN.replace("1800003600", "1700000000"),
        APP_SERVICE_TOKEN.replace("expires_on", "expires"),
        APP_SERVICE_TOKEN.replace("1800003600", "18446744073709551615"),
        APP_SERVICE_TOKEN.replace("\"1800003600\"", "\"09/14/2026 00:00:00\""),
    ] {
        let script = Script::new([Reply::new(200, &[], &body)], []);
        let calls = with(Credential::managed_identity(app_service(), tenant()), &script);
        assert_eq!(reject(&calls, 5).await.unwrap_err().label(), "token_nonsense", "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn transient_failures_of_the_identity_endpoint_are_repeated_a_second_apart() {
    let transient: [fn() -> Reply; 7] = [
        || Reply::new(404, &[], r#"{"error":"not_found"}"#),
        || Reply::status(410),
        || Reply::status(429),
        || Reply::status(500),
        || Reply::status(503),
        || Reply::error(TransportErrorKind::Unreachable),
        || Reply::error(TransportErrorKind::Lost),
    ];
    for reply in transient {
        let script = Script::new([reply(), reply()], []);
        reject(&machine(&script), 15).await.unwrap();
        assert_eq!(script.token_times(), [0, 1000, 3000]);
    }
    let script = Script::new([Reply::new(429, &[("retry-after", "4")], "")], []);
    reject(&machine(&script), 15).await.unwrap();
    assert_eq!(script.token_times(), [0, 4000]);
    for (status, label) in [(404, "token_unavailable"), (410, "token_unavailable"), (429, "token_throttled")]
    {
        let script = Script::new(iter::repeat_with(|| Reply::status(status)).take(9), []);
        assert_eq!(reject(&machine(&script), 15).await.unwrap_err().label(), label);
        assert_eq!(script.token_times(), [0, 1000, 3000, 7000]);
    }
}

#[tokio::test(start_paused = true)]
async fn other_failures_of_the_identity_endpoint_are_not_repeated() {
    let metadata = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    let app_service = r#"{"statusCode":400,"message":"No User Assigned Identity found for s3cr3t."}"#;
    for (status, body) in [(400, metadata), (400, app_service), (401, "Unauthorized"), (403, "")] {
        let script = Script::new([Reply::new(status, &[], body)], []);
        let error = reject(&machine(&script), 15).await.unwrap_err();
        assert_eq!(error.label(), "token_unknown_identity");
        assert_eq!(
            error.to_string(),
            "the app's credential is wrong: the machine does not have this managed identity; \
             assign it to the machine, check client_id (Entra gave no AADSTS code)"
        );
        assert_eq!(script.token_requests(), 1);
    }
    let entra = r#"{"error":"unauthorized_client","error_description":"AADSTS700016: Words."}"#;
    for (reply, label) in [
        (Reply::new(400, &[], entra), "token_unknown_app"),
        (Reply::new(302, &[("location", "http://attacker.example/")], ""), "token_nonsense"),
        (Reply::new(200, &[("content-type", "text/html")], "<html>"), "token_nonsense"),
        (Reply::error(TransportErrorKind::Tls), "token_tls"),
    ] {
        let script = Script::new([reply], []);
        assert_eq!(reject(&machine(&script), 15).await.unwrap_err().label(), label);
        assert_eq!(script.token_requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_managed_identity_can_prove_the_identity_of_an_app_of_any_tenant() {
    let identity = || user_assigned(ManagedIdentity::virtual_machine());
    let script =
        Script::new([Reply::status(410), Reply::new(200, &[], METADATA_TOKEN), Reply::token("a", 3600)], []);
    let calls = with(Credential::federated_identity(identity()), &script);
    reject(&calls, 15).await.unwrap();
    let proof = format!(
        "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
         &resource=api%3A%2F%2FAzureADTokenExchange&client_id={CLIENT}"
    );
    let token = format!("POST https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    assert_eq!(script.lines()[..3], [proof.clone(), proof, token]);
    let form = script.forms().remove(2);
    assert_eq!(form.last().unwrap(), &("client_assertion".to_owned(), "eyJ.machine.x".to_owned()));
    assert_eq!(script.headers("authorization"), [Some("Bearer a".to_owned())]);
    assert_eq!(settings(Credential::federated_identity(identity())).only_tenant(), None);

    let script = Script::new([Reply::status(400)], []);
    let calls = with(Credential::federated_identity(identity()), &script);
    assert_eq!(reject(&calls, 15).await.unwrap_err().label(), "token_unknown_identity");
}

/// Only the metadata service and the endpoint of App Service may be plain http.
#[test]
fn identity_endpoints_that_cannot_work_are_refused() {
    #[track_caller]
    fn check(result: Result<ManagedIdentity, InvalidGraphSettings>, problem: &str) {
        assert_eq!(result.unwrap_err().to_string(), format!("graph.managed_identity: {problem}"));
    }
    let url = |text: &str| Url::parse(text).unwrap();
    let plain = "needs an endpoint without userinfo, query and fragment";
    let https = "must be https (http for loopback hosts only)";
    check(ManagedIdentity::virtual_machine_at(url("http://metadata.example/token")), https);
    check(ManagedIdentity::virtual_machine_at(url("http://169.254.169.253/token")), https);
    check(ManagedIdentity::virtual_machine_at(url("https://u@metadata.example/")), plain);
    check(ManagedIdentity::app_service(url("http://localhost/?a=b"), HEADER), plain);
    let endpoint = "needs an IDENTITY_ENDPOINT that is an http or https URL";
    check(ManagedIdentity::app_service(url("ftp://localhost/"), HEADER), endpoint);
    check(ManagedIdentity::app_service(url("unix:/run/token"), HEADER), endpoint);
    let header = "needs an IDENTITY_HEADER of 1 to 1024 visible ASCII characters";
    for text in ["", "a b", "a\r\nmetadata: true", "ä", &"a".repeat(1025)] {
        check(ManagedIdentity::app_service(url("http://localhost/msi/token"), text), header);
    }
}

#[tokio::test(start_paused = true)]
async fn no_output_shows_the_header_or_a_token_of_an_identity() {
    for credential in
        [Credential::managed_identity(app_service(), tenant()), Credential::federated_identity(app_service())]
    {
        let echo = format!(r#"{{"error":"{HEADER}","error_description":"{HEADER} eyJ"}}"#);
        let script = Script::new([Reply::new(400, &[], &echo), Reply::new(200, &[], APP_SERVICE_TOKEN)], []);
        let settings: GraphSettings = settings(credential);
        let mut shown = format!("{settings:?} {:?}", app_service());
        let transport: Arc<Script> = Arc::clone(&script);
        let calls = Calls::new(settings, transport);
        let error = reject(&calls, 5).await.unwrap_err();
        shown.push_str(&format!("{error} {error:?}"));
        reject(&calls, 5).await.unwrap();
        shown.push_str(&format!("{calls:?} {}", script.debug()));
        for secret in [HEADER, "eyJ"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
