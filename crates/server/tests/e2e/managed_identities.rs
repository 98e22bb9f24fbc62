//! A managed identity as the credential of an app: a server simulates the identity endpoint and Graph.

use serde_json::json;

use crate::{
    actions::{ACTION, ANSWER},
    support::{
        APP, Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies, http::Message,
    },
};

const IDENTITY: &str = "0f0f0f0f-1111-4222-8333-444444444444";
const HEADER: &str = "h3ad3r-0123456789abcdef";
const OTHER_TENANT: &str = "11111111-2222-4333-8444-000000000002";

/// A gateway whose app has a managed identity, one bot, and the server of the identity endpoint and of Graph.
struct Fixture {
    _issuer: Issuer,
    bot: Instance,
    azure: Instance,
    gateway: Gateway,
}

impl Fixture {
    /// `identity` and the values of the variables receive the origin of the server.
    async fn start(
        identity: impl FnOnce(&str) -> String,
        variables: impl FnOnce(&str) -> Vec<(&'static str, String)>,
    ) -> Self {
        let issuer = Issuer::start();
        let [bot, azure] = Instance::start_all(["bot-0", "azure"]);
        let origin = azure.url().replace("/api/calls", "");
        let graph = format!("graph = {{ {}, endpoint = \"{origin}\" }}", identity(&origin));
        let settings = Settings::new(&issuer, &[&bot]).line("app", &graph);
        let variables = variables(&origin);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let gateway = Gateway::start_with_variables(&settings, &variables).await;
        Self { _issuer: issuer, bot, azure, gateway }
    }

    /// Starts the gateway on a virtual machine.
    async fn virtual_machine() -> Self {
        let identity = |origin: &str| {
            let endpoint = format!("{origin}/metadata/identity/oauth2/token");
            format!(
                "managed_identity = {{ tenant = \"{TENANT}\", client_id = \"{IDENTITY}\", \
                 endpoint = \"{endpoint}\" }}"
            )
        };
        Self::start(identity, |_| Vec::new()).await
    }

    /// Posts a new call of `tenant`, to which the bot responds with an action.
    async fn new_call(&mut self, tenant: &str) {
        self.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
        let token = Token::skype().claim("tid", tenant).sign();
        let response = Request::webhook(&token, bodies::incoming("call-1")).send(&self.gateway).await;
        assert_eq!(response.status(), 202);
        self.bot.request().await;
    }

    async fn actions(&self, result: &str) -> f64 {
        let labels = [("action", "answer"), ("result", result)];
        self.gateway.metric("switchboard_actions_total", &labels).await
    }

    /// The next request is for a token; `line` is its target.
    async fn expect_token_request(&mut self, line: &str) -> Message {
        let request = self.azure.request().await;
        assert_eq!((request.method(), request.target()), ("GET", line));
        assert_eq!((request.field("authorization"), request.body.len()), (None, 0));
        request
    }

    async fn expect_answer(&mut self, token: &str) {
        let request = self.azure.request().await;
        assert_eq!(request.target(), "/v1.0/communications/calls/call-1/answer");
        assert_eq!(request.field("authorization"), Some(&*format!("Bearer {token}")));
    }
}

fn json_reply(status: u16, body: &str) -> Reply {
    Reply::with(status, &[("Content-Type", "application/json; charset=utf-8")], body)
}

#[tokio::test]
async fn an_app_acts_with_the_identity_of_its_virtual_machine() {
    let mut fixture = Fixture::virtual_machine().await;
    let token = json!({
        "access_token": "eyJ.machine.x", "client_id": IDENTITY, "expires_in": "86400",
        "expires_on": "1900000000", "ext_expires_in": "86399", "not_before": "1700000000",
        "refresh_in": "43200", "resource": "https://graph.microsoft.com", "token_type": "Bearer",
    });
    let line = format!(
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fgraph.microsoft.com\
         &client_id={IDENTITY}"
    );
    // The endpoint is being updated for a moment.
    fixture.azure.next(Reply::status(410));
    fixture.azure.next(json_reply(200, &token.to_string()));
    fixture.azure.next(Reply::status(202));
    fixture.new_call(TENANT).await;
    for _ in 0..2 {
        let request = fixture.expect_token_request(&line).await;
        assert_eq!(request.field("metadata"), Some("true"));
    }
    fixture.expect_answer("eyJ.machine.x").await;
    // The token is kept.
    fixture.azure.next(Reply::status(202));
    fixture.new_call(TENANT).await;
    fixture.expect_answer("eyJ.machine.x").await;
    assert_eq!(fixture.actions("ok").await, 2.0);
    assert!(!fixture.gateway.log.text().contains("eyJ.machine"));
}

#[tokio::test]
async fn an_app_acts_with_the_identity_of_app_service() {
    let identity = |_: &str| format!("managed_identity = {{ tenant = \"{TENANT}\" }}");
    let variables = |origin: &str| {
        vec![("IDENTITY_ENDPOINT", format!("{origin}/msi/token")), ("IDENTITY_HEADER", HEADER.to_owned())]
    };
    let mut fixture = Fixture::start(identity, variables).await;
    let token = json!({
        "access_token": "eyJ.app.x", "expires_on": "4000000000",
        "resource": "https://graph.microsoft.com", "token_type": "Bearer", "client_id": APP,
    });
    fixture.azure.next(json_reply(200, &token.to_string()));
    fixture.azure.next(Reply::status(202));
    fixture.new_call(TENANT).await;
    let line = "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fgraph.microsoft.com";
    let request = fixture.expect_token_request(line).await;
    assert_eq!(request.field("x-identity-header"), Some(HEADER));
    fixture.expect_answer("eyJ.app.x").await;
    assert_eq!(fixture.actions("ok").await, 1.0);
    let log = fixture.gateway.log.text();
    assert!(!log.contains(HEADER) && !log.contains("eyJ.app"), "{log}");
}

#[tokio::test]
async fn a_call_of_another_tenant_fails_before_anything_is_asked() {
    let mut fixture = Fixture::virtual_machine().await;
    fixture.new_call(OTHER_TENANT).await;
    let notice = fixture.bot.request().await.json();
    assert_eq!(notice["error"]["code"], json!("token_other_tenant"));
    assert_eq!(notice["error"]["outcomeUnknown"], json!(false));
    fixture.azure.expect_nothing();
    assert_eq!(fixture.actions("token_other_tenant").await, 1.0);
    let error = fixture.gateway.log.message("Graph did not do the action of an instance").await;
    assert_eq!(error["reason"], "token_other_tenant");
    assert!(error["error"].as_str().unwrap().contains(TENANT), "{error}");
}

#[tokio::test]
async fn an_app_of_any_tenant_proves_itself_with_a_managed_identity() {
    let identity = |origin: &str| {
        format!(
            "federated_identity = {{ client_id = \"{IDENTITY}\", endpoint = \"{origin}/machine\" }}, \
             authority = \"{origin}\""
        )
    };
    let mut fixture = Fixture::start(identity, |_| Vec::new()).await;
    for token in ["eyJ.proof.x", "eyJ.graph.x"] {
        let body = json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" });
        fixture.azure.next(json_reply(200, &body.to_string()));
    }
    fixture.azure.next(Reply::status(202));
    fixture.new_call(OTHER_TENANT).await;
    let resource = "api%3A%2F%2FAzureADTokenExchange";
    let line = format!("/machine?api-version=2018-02-01&resource={resource}&client_id={IDENTITY}");
    fixture.expect_token_request(&line).await;
    let request = fixture.azure.request().await;
    assert_eq!(request.target(), format!("/{OTHER_TENANT}/oauth2/v2.0/token"));
    let form = String::from_utf8(request.body.clone()).unwrap();
    assert!(form.contains(&format!("client_id={APP}&")), "{form}");
    assert!(form.ends_with("&client_assertion=eyJ.proof.x"), "{form}");
    fixture.expect_answer("eyJ.graph.x").await;
}
