//! `[app.graph]`: the credential and the hosts with which the gateway acts on the calls of an app.

use serde_json::Value;
use switchboard_auth::Tenants;
use switchboard_graph::{Credential, GraphSettings, Hosts, InvalidGraphSettings, ManagedIdentity};
use uuid::Uuid;

use super::{
    cloud::Cloud,
    guid::{GUID, guid},
    secret::Surroundings,
    section::{Section, Setting},
    url,
};

/// Reads the settings of one app; `None` if they have a problem. `app`, `tenants` and `cloud` are `None` if
/// they have a problem already.
#[expect(clippy::option_option, reason = "an absent setting is not a wrong one")]
pub(super) fn graph(
    of_app: &Section<'_>,
    around: &Surroundings<'_>,
    app: Option<Uuid>,
    tenants: Option<&Tenants>,
    cloud: Option<Cloud>,
) -> Option<Option<GraphSettings>> {
    let section = of_app.section("graph");
    if !section.is_present() {
        of_app.note_default("graph", Value::Null);
        return Some(None);
    }
    let credential = credential(of_app, &section, around, tenants);
    let authority = section.maybe("authority", |setting| {
        if section.optional("managed_identity").is_some() {
            setting
                .problem("not used with managed_identity, whose tokens come from the machine; leave it out");
        }
        url::secure(setting, "https://login.microsoftonline.com")
    });
    let endpoint = section.maybe("endpoint", |setting| url::secure(setting, "https://graph.microsoft.com"));
    section.finish();
    // `cloud` decides the hosts also beside written trusts.
    let cloud = cloud?.name().parse().map_err(|error| of_app.problem("graph", in_context("cloud", &error)));
    let hosts = Hosts { authority: authority?, endpoint: endpoint? };
    let settings = GraphSettings::new(app?, cloud.ok()?, hosts, credential?);
    settings.map_err(|error| of_app.problem(&error.path, error.problem)).ok().map(Some)
}

fn credential(
    of_app: &Section<'_>,
    section: &Section<'_>,
    around: &Surroundings<'_>,
    tenants: Option<&Tenants>,
) -> Option<Credential> {
    let (secret, certificate) = (section.optional("secret"), section.optional("certificate"));
    let (key, token) = (section.optional("key"), section.optional("federated_token"));
    let federated = section.optional("federated_identity");
    let managed = section.optional("managed_identity");
    let credential = match (secret, certificate, key, token, federated, managed) {
        (Some(secret), None, None, None, None, None) => {
            let bytes = around.secret(&secret)?;
            let text = std::str::from_utf8(bytes.expose()).unwrap_or_default();
            Credential::secret(text)
        }
        (None, Some(certificate), Some(key), None, None, None) if around.without_secrets => {
            let paths = [certificate, key].map(|setting| around.path(&setting, "the path of a file"));
            // A placeholder: the files are not read.
            Credential::secret(paths.into_iter().all(|path| path.is_some()).then_some("not-read")?)
        }
        (None, Some(certificate), Some(key), None, None, None) => {
            let chain = around.read(&certificate).map(|(_, bytes)| bytes);
            let (_, key) = around.read(&key)?;
            Credential::certificate(&chain?, &key)
        }
        (None, None, None, Some(token), None, None) => {
            let path = around.path(&token, "the path of a file")?;
            Credential::federated_token(path)
        }
        (None, None, None, None, Some(setting), None) => {
            let table = setting.table(IDENTITY);
            let identity = identity(section, "federated_identity", &table, around);
            table.finish();
            Ok(Credential::federated_identity(identity?))
        }
        (None, None, None, None, None, Some(setting)) => {
            let table = setting.table(IDENTITY);
            let tenant = table.required("tenant", GUID).and_then(|setting| tenant(&setting, tenants));
            let identity = identity(section, "managed_identity", &table, around);
            table.finish();
            Ok(Credential::managed_identity(identity?, tenant?))
        }
        _ => {
            of_app.problem("graph", CREDENTIALS);
            return None;
        }
    };
    // The path of the error names the wrong file of a pair.
    credential.map_err(|error| of_app.problem(&error.path, error.problem)).ok()
}

/// Reads the tenant of a managed identity. The app must accept its calls: no other call can be acted on.
fn tenant(setting: &Setting<'_>, accepted: Option<&Tenants>) -> Option<Uuid> {
    let tenant = guid(setting)?;
    if matches!(accepted, Some(Tenants::Only(accepted)) if !accepted.contains(&tenant)) {
        setting.problem("not among the tenants of the app; add it there");
    }
    Some(tenant)
}

/// Reads the table `name` of a managed identity. Without an `endpoint`, the environment decides the form, as
/// in Azure's own libraries: App Service sets both variables, and a virtual machine neither.
fn identity(
    section: &Section<'_>,
    name: &str,
    table: &Section<'_>,
    around: &Surroundings<'_>,
) -> Option<ManagedIdentity> {
    let client_id = table.maybe("client_id", guid);
    let like = "http://127.0.0.1:4000/metadata/identity/oauth2/token";
    let written = table.maybe("endpoint", |setting| url::secure_without_query(setting, like))?;
    let variable = |name| if around.without_secrets { None } else { (around.env)(name) };
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let identity = match (written, set("IDENTITY_ENDPOINT"), set("IDENTITY_HEADER")) {
        (Some(endpoint), _, _) => ManagedIdentity::virtual_machine_at(endpoint),
        (None, None, _) => Ok(ManagedIdentity::virtual_machine()),
        (None, Some(endpoint), Some(header)) => {
            let Some(endpoint) = url::absolute(&endpoint) else {
                section.problem(name, "needs an IDENTITY_ENDPOINT that is an http or https URL");
                return None;
            };
            ManagedIdentity::app_service(endpoint, &header)
        }
        (None, Some(_), None) => {
            section.problem(name, ARC);
            return None;
        }
    };
    let identity = identity.map_err(|error| section.problem(name, error.problem)).ok()?;
    Some(match client_id? {
        Some(id) => identity.user_assigned(id),
        None => identity,
    })
}

/// The problem of another setting, on which these depend.
fn in_context(setting: &str, error: &InvalidGraphSettings) -> String {
    format!("{setting} {}", error.problem)
}

const CREDENTIALS: &str = "needs exactly one credential: secret = { env = \"NAME\" } or { file = \"path\" }, \
                           certificate and key (two PEM files), federated_token (a file), \
                           federated_identity = { client_id = \"GUID\" } or \
                           managed_identity = { tenant = \"GUID\" }";

const IDENTITY: &str = "a table like { client_id = \"GUID\" }; client_id is for a user-assigned identity";

/// Azure Arc sets one variable only, and its callers prove themselves by a file.
const ARC: &str = "needs IDENTITY_HEADER beside IDENTITY_ENDPOINT in the environment, as App Service has \
                   both; the identity of Azure Arc is not supported";
