//! `[app.graph]`: how the gateway acts on an app's calls.

use switchboard_graph::{Cloud, Credential, Hosts, Settings, SettingsError};
use uuid::Uuid;

use super::{
    secret::Surroundings,
    section::{Section, Setting},
    url,
};

/// The settings of one app; `None` if they are there and wrong. `app` and `cloud` are `None` where they are wrong already.
#[expect(clippy::option_option, reason = "absent and wrong are not the same")]
pub(super) fn graph(
    of_app: &Section<'_>,
    around: &Surroundings<'_>,
    app: Option<Uuid>,
    cloud: Option<&str>,
) -> Option<Option<Settings>> {
    let section = of_app.section("graph");
    if !section.is_present() {
        return Some(None);
    }
    let credential = credential(of_app, &section, around);
    let authority = section.maybe("authority", url::secure);
    let endpoint = section.maybe("endpoint", url::secure);
    section.finish();
    let cloud = cloud?.parse::<Cloud>().map_err(|error| of_app.problem("graph", in_context("cloud", &error)));
    let hosts = Hosts { authority: authority?, endpoint: endpoint? };
    let settings = Settings::new(app?, cloud.ok()?, hosts, credential?);
    settings.map_err(|error| of_app.problem("graph", error.problem)).ok().map(Some)
}

fn credential(of_app: &Section<'_>, section: &Section<'_>, around: &Surroundings<'_>) -> Option<Credential> {
    let (secret, certificate) = (section.optional("secret"), section.optional("certificate"));
    let (key, token) = (section.optional("key"), section.optional("federated_token"));
    let credential = match (secret, certificate, key, token) {
        (Some(secret), None, None, None) => {
            let bytes = around.secret(&secret)?;
            let text = std::str::from_utf8(bytes.expose()).unwrap_or_default();
            Credential::secret(text).map_err(|error| (secret, error))
        }
        (None, Some(certificate), Some(key), None) => {
            let chain = around.read(&certificate).map(|(_, bytes)| bytes);
            let (_, key) = around.read(&key)?;
            Credential::certificate(&chain?, &key).map_err(|error| (certificate, error))
        }
        (None, None, None, Some(token)) => {
            let path = around.path(&token)?;
            Credential::federated_token(path).map_err(|error| (token, error))
        }
        _ => {
            of_app.problem("graph", CREDENTIALS);
            return None;
        }
    };
    credential.map_err(|(setting, error): (Setting<'_>, _)| setting.problem(error.problem)).ok()
}

/// The setting that is wrong is another one.
fn in_context(setting: &str, error: &SettingsError) -> String {
    format!("{setting} {}", error.problem)
}

const CREDENTIALS: &str = "not exactly one credential: secret = { env = \"NAME\" } or { file = \"path\" }, certificate and \
                           key (two PEM files), or federated_token (a file)";
