//! `ManagedIdentity`: the identity that Azure gives to a machine, and the request for one of its tokens.

use std::fmt;

use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::{
    GraphMethod, GraphRequest, InvalidGraphSettings,
    address::{has_userinfo, is_safe},
    secret::Secret,
    transport::{TOKEN_BODY_BYTES_MAX, USER_AGENT},
};

/// A managed identity: the tokens of a machine in Azure come from an endpoint that only this machine reaches
/// (Microsoft Entra, "How to use managed identities on a virtual machine to acquire an access token").
///
/// It is the identity of the machine itself (system-assigned), or with [`ManagedIdentity::user_assigned`] one
/// of the identities that the operator assigned to the machine.
///
/// ```
/// use switchboard_graph::ManagedIdentity;
///
/// let identity = ManagedIdentity::virtual_machine();
/// assert_eq!(identity.endpoint().as_str(), "http://169.254.169.254/metadata/identity/oauth2/token");
///
/// let url = "http://localhost:42356/msi/token".parse()?;
/// let identity = ManagedIdentity::app_service(url, "not-secret")?;
/// assert_eq!(identity.endpoint().as_str(), "http://localhost:42356/msi/token");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ManagedIdentity {
    endpoint: Url,
    form: IdentityForm,
    client_id: Option<Uuid>,
}

/// The form of a request to the identity endpoint.
#[derive(Clone)]
enum IdentityForm {
    /// The Instance Metadata Service of virtual machines and of what runs on them.
    Metadata,
    /// App Service, Functions and Container Apps. Only processes of the app know the header.
    AppService(Secret),
}

impl ManagedIdentity {
    /// The identity of a virtual machine, from the Instance Metadata Service at 169.254.169.254.
    pub fn virtual_machine() -> Self {
        let endpoint = Url::parse(METADATA_ENDPOINT).expect("the constant below is a URL");
        Self { endpoint, form: IdentityForm::Metadata, client_id: None }
    }

    /// The same, from an endpoint that takes the place of the Instance Metadata Service, like the emulator's.
    ///
    /// # Errors
    ///
    /// `endpoint` is neither https nor http to a loopback host, or has userinfo or a fragment.
    pub fn virtual_machine_at(endpoint: Url) -> Result<Self, InvalidGraphSettings> {
        if !is_safe(&endpoint) {
            let problem = "must be https (http for loopback hosts only)";
            return Err(InvalidGraphSettings::new("graph.managed_identity", problem));
        }
        Ok(Self { endpoint: plain(endpoint)?, form: IdentityForm::Metadata, client_id: None })
    }

    /// The identity of an app of App Service, Functions or Container Apps. `endpoint` and `header` are the
    /// values of its environment variables `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`. Azure chooses the
    /// endpoint, which is plain http on the app's own host.
    ///
    /// # Errors
    ///
    /// `endpoint` is neither https nor http, or has userinfo or a fragment; or `header` is empty, is too
    /// long, or contains other characters than visible ASCII.
    pub fn app_service(endpoint: Url, header: &str) -> Result<Self, InvalidGraphSettings> {
        if !matches!(endpoint.scheme(), "https" | "http") || !endpoint.has_host() {
            let problem = "needs an IDENTITY_ENDPOINT that is an http or https URL";
            return Err(InvalidGraphSettings::new("graph.managed_identity", problem));
        }
        let is_header = (1..=HEADER_BYTES_MAX).contains(&header.len())
            && header.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_header {
            let problem = "needs an IDENTITY_HEADER of 1 to 1024 visible ASCII characters";
            return Err(InvalidGraphSettings::new("graph.managed_identity", problem));
        }
        let form = IdentityForm::AppService(Secret::new(header.to_owned()));
        Ok(Self { endpoint: plain(endpoint)?, form, client_id: None })
    }

    /// Selects the user-assigned identity of this client id.
    pub fn user_assigned(self, client_id: Uuid) -> Self {
        Self { client_id: Some(client_id), ..self }
    }

    /// Returns the URL of the identity endpoint, without a query.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Returns the request for a token for `resource`.
    pub(crate) fn request(&self, resource: &str, deadline: Instant) -> GraphRequest {
        let (version, proof) = match &self.form {
            IdentityForm::Metadata => ("2018-02-01", ("metadata", "true".to_owned())),
            IdentityForm::AppService(header) => {
                ("2019-08-01", ("x-identity-header", header.expose().to_owned()))
            }
        };
        let mut url = self.endpoint.clone();
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", resource);
        if let Some(id) = self.client_id {
            url.query_pairs_mut().append_pair("client_id", &id.to_string());
        }
        let headers =
            vec![("accept", "application/json".to_owned()), ("user-agent", USER_AGENT.to_owned()), proof];
        GraphRequest {
            method: GraphMethod::Get,
            url,
            headers,
            body: Vec::new(),
            deadline,
            body_bytes_max: TOKEN_BODY_BYTES_MAX,
        }
    }
}

/// Shows no header.
impl fmt::Debug for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedIdentity")
            .field("endpoint", &self.endpoint.as_str())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

fn plain(endpoint: Url) -> Result<Url, InvalidGraphSettings> {
    if has_userinfo(&endpoint) || endpoint.query().is_some() || endpoint.fragment().is_some() {
        let problem = "needs an endpoint without userinfo, query and fragment";
        return Err(InvalidGraphSettings::new("graph.managed_identity", problem));
    }
    Ok(endpoint)
}

/// Plain http: the address is link-local, so the request does not leave the physical machine.
const METADATA_ENDPOINT: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// Azure's header has 32 to 64 characters.
const HEADER_BYTES_MAX: usize = 1024;
