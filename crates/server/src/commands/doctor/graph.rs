//! Graph: one token for each tenant that an app names.

use std::sync::Arc;

use switchboard_auth::{AppSettings, Tenants};
use switchboard_delivery::TlsClient;
use switchboard_graph::{Calls, GraphSettings, TokenError, TokenRefusal, Transport};
use uuid::Uuid;

use super::{
    check::Check,
    finding::Finding,
    observed::{ClockOffsets, ObservedTransport},
};
use crate::{
    clients::{graph::GraphTransport, tls_client},
    telemetry::Chain,
    wall_clock::wall_clock,
};

pub(super) fn checks(
    graph: Vec<(Uuid, GraphSettings)>,
    apps: &[AppSettings],
    tenant: Option<Uuid>,
    clocks: &Arc<ClockOffsets>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for (id, settings) in graph {
        let listed = match apps.iter().find(|app| app.id == id).map(|app| &app.tenants) {
            Some(Tenants::Only(ids)) => ids.clone(),
            Some(Tenants::Any) | None => Vec::new(),
        };
        let tenants = match tenant.or_else(|| settings.only_tenant().filter(|_| listed.is_empty())) {
            Some(tenant) => vec![tenant],
            None => listed,
        };
        if tenants.is_empty() {
            checks.push(Check::new(AREA, id.to_string(), async move {
                let advice = "name a tenant with --tenant, to request a token as for a call of that tenant";
                vec![Finding::skipped(AREA, &id.to_string(), "the app names no tenant", advice)]
            }));
        }
        for tenant in tenants.into_iter().take(TENANTS_MAX) {
            let (settings, clocks) = (settings.clone(), Arc::clone(clocks));
            checks.push(Check::new(AREA, id.to_string(), async move {
                vec![examine(id, settings, tenant, clocks).await]
            }));
        }
    }
    checks
}

async fn examine(id: Uuid, settings: GraphSettings, tenant: Uuid, clocks: Arc<ClockOffsets>) -> Finding {
    let subject = id.to_string();
    let issuer = match settings.only_tenant() {
        Some(_) => settings.identity_endpoint().unwrap_or_else(|| settings.authority()),
        None => settings.authority(),
    };
    let issuer = issuer.host_str().unwrap_or_default().to_owned();
    let transport = match tls_client(None).and_then(TlsClient::new) {
        Ok(tls) => GraphTransport::new(&tls),
        Err(error) => {
            let detail = format!("no TLS client: {}", Chain(&error));
            return Finding::failed(AREA, &subject, detail, "check the authorities of the system");
        }
    };
    let transport: Arc<dyn Transport> = Arc::new(ObservedTransport { transport, clocks });
    match Calls::new(settings, transport).authorize(tenant, wall_clock()).await {
        Ok(()) => Finding::ok(AREA, &subject, format!("{issuer} issues a token for the tenant {tenant}")),
        Err(error) => {
            let detail = format!("{issuer}, tenant {tenant}: {}", Chain(&error));
            Finding::failed(AREA, &subject, detail, advice(&error))
        }
    }
}

fn advice(error: &TokenError) -> &'static str {
    match error {
        TokenError::Credential(_) => "check the files of app.graph",
        TokenError::Refused { reason: TokenRefusal::UnknownIdentity, .. } => {
            "assign the managed identity to this machine, and check its client_id in app.graph"
        }
        TokenError::OtherTenant { .. } => {
            "list only the tenant of the managed identity in app.tenants, or use another credential"
        }
        TokenError::Refused { .. } => {
            "check the id, the credential (a secret expires) and the admin consent of the app in Entra"
        }
        TokenError::Throttled { .. } | TokenError::Unavailable { .. } => "try again later",
        TokenError::Transport(_) => {
            "check that this machine may connect to the authority or to the identity endpoint (firewall, \
             egress), and the certificate of the authority"
        }
        TokenError::InvalidResponse { .. } => {
            "check app.graph: another server than a token endpoint responded"
        }
        TokenError::Interrupted => "run doctor again",
    }
}

const AREA: &str = "graph";

/// Tenants per app. Each costs a request to Entra.
const TENANTS_MAX: usize = 10;
