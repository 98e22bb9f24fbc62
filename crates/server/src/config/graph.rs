//! `[app.graph]`: the credential and the hosts with which the gateway acts on the calls of an app.

use switchboard_graph::{Credential, GraphSettings, Hosts, InvalidGraphSettings};
use uuid::Uuid;

use super::{cloud::Cloud, secret::Surroundings, section::Section, url};

/// Reads the settings of one app; `None` if they have a problem. `app` and `cloud` are `None` if they have a
/// problem already.
#[expect(clippy::option_option, reason = "an absent setting is not a wrong one")]
pub(super) fn graph(
    of_app: &Section<'_>,
    around: &Surroundings<'_>,
    app: Option<Uuid>,
    cloud: Option<Cloud>,
) -> Option<Option<GraphSettings>> {
    let section = of_app.section("graph");
    if !section.is_present() {
        return Some(None);
    }
    let credential = credential(of_app, &section, around);
    let authority =
        section.maybe("authority", |setting| url::secure(setting, "https://login.microsoftonline.com"));
    let endpoint = section.maybe("endpoint", |setting| url::secure(setting, "https://graph.microsoft.com"));
    section.finish();
    // `cloud` decides the hosts also beside written trusts.
    let cloud = cloud?.name().parse().map_err(|error| of_app.problem("graph", in_context("cloud", &error)));
    let hosts = Hosts { authority: authority?, endpoint: endpoint? };
    let settings = GraphSettings::new(app?, cloud.ok()?, hosts, credential?);
    settings.map_err(|error| of_app.problem(&error.path, error.problem)).ok().map(Some)
}

fn credential(of_app: &Section<'_>, section: &Section<'_>, around: &Surroundings<'_>) -> Option<Credential> {
    let (secret, certificate) = (section.optional("secret"), section.optional("certificate"));
    let (key, token) = (section.optional("key"), section.optional("federated_token"));
    let credential = match (secret, certificate, key, token) {
        (Some(secret), None, None, None) => {
            let bytes = around.secret(&secret)?;
            let text = std::str::from_utf8(bytes.expose()).unwrap_or_default();
            Credential::secret(text)
        }
        (None, Some(certificate), Some(key), None) if around.without_secrets => {
            let paths = [certificate, key].map(|setting| around.path(&setting, "the path of a file"));
            // A placeholder: the files are not read.
            Credential::secret(paths.into_iter().all(|path| path.is_some()).then_some("not-read")?)
        }
        (None, Some(certificate), Some(key), None) => {
            let chain = around.read(&certificate).map(|(_, bytes)| bytes);
            let (_, key) = around.read(&key)?;
            Credential::certificate(&chain?, &key)
        }
        (None, None, None, Some(token)) => {
            let path = around.path(&token, "the path of a file")?;
            Credential::federated_token(path)
        }
        _ => {
            of_app.problem("graph", CREDENTIALS);
            return None;
        }
    };
    // The path of the error names the wrong file of a pair.
    credential.map_err(|error| of_app.problem(&error.path, error.problem)).ok()
}

/// The problem of another setting, on which these depend.
fn in_context(setting: &str, error: &InvalidGraphSettings) -> String {
    format!("{setting} {}", error.problem)
}

const CREDENTIALS: &str = "needs exactly one credential: secret = { env = \"NAME\" } or { file = \"path\" }, \
                           certificate and key (two PEM files), or federated_token (a file)";
