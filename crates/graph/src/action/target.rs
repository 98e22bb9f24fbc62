//! `RedirectTarget`: whom a call is redirected to.

use uuid::Uuid;

use super::ActionError;

/// Whom a call is redirected to: one identity of Graph's identity set.
#[derive(Clone, PartialEq, Eq)]
pub struct RedirectTarget {
    pub(crate) kind: RedirectTargetKind,
    pub(crate) id: String,
    pub(crate) display_name: Option<String>,
    pub(crate) tenant: Option<Uuid>,
}

impl RedirectTarget {
    /// The `kind` of identity known by `id`: a phone's in E.164 form, any other 1 to 1024 characters.
    pub fn new(kind: RedirectTargetKind, id: &str) -> Result<Self, ActionError> {
        let (fits, must) = match kind {
            RedirectTargetKind::Phone => (is_e164(id), PHONE_MUST),
            RedirectTargetKind::User
            | RedirectTargetKind::Application
            | RedirectTargetKind::ApplicationInstance
            | RedirectTargetKind::Guest
            | RedirectTargetKind::Encrypted
            | RedirectTargetKind::OnPremises
            | RedirectTargetKind::AzureCommunicationServicesUser => (is_text(id), TEXT_MUST),
        };
        if !fits {
            return Err(ActionError::wrong("id", must));
        }
        Ok(Self { kind, id: id.to_owned(), display_name: None, tenant: None })
    }

    /// With a name to show, 1 to 1024 characters.
    pub fn with_display_name(self, name: &str) -> Result<Self, ActionError> {
        if !is_text(name) {
            return Err(ActionError::wrong("displayName", TEXT_MUST));
        }
        Ok(Self { display_name: Some(name.to_owned()), ..self })
    }

    /// Of another tenant than the call's.
    pub fn with_tenant(self, tenant: Uuid) -> Self {
        Self { tenant: Some(tenant), ..self }
    }
}

/// Numbers and names of people are not for logs.
impl std::fmt::Debug for RedirectTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedirectTarget").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The kinds of identity that Graph knows (Microsoft Graph REST reference, "identitySet", "communicationsIdentitySet").
/// Which of them can be redirected to in a tenant is for the platform to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectTargetKind {
    /// A user, by object id.
    User,
    /// An application, by app id: another bot.
    Application,
    /// A resource account.
    ApplicationInstance,
    /// A telephone, in E.164 form. Needs a resource account with a number (call: redirect, example 3).
    Phone,
    /// A guest.
    Guest,
    /// A caller whose identity the app may not see.
    Encrypted,
    /// A user of Skype for Business on premises.
    OnPremises,
    /// A user of Azure Communication Services.
    AzureCommunicationServicesUser,
}

impl RedirectTargetKind {
    /// The member of the identity set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Application => "application",
            Self::ApplicationInstance => "applicationInstance",
            Self::Phone => "phone",
            Self::Guest => "guest",
            Self::Encrypted => "encrypted",
            Self::OnPremises => "onPremises",
            Self::AzureCommunicationServicesUser => "azureCommunicationServicesUser",
        }
    }

    pub(super) const ALL: [Self; 8] = [
        Self::User,
        Self::Application,
        Self::ApplicationInstance,
        Self::Phone,
        Self::Guest,
        Self::Encrypted,
        Self::OnPremises,
        Self::AzureCommunicationServicesUser,
    ];
}

/// ITU-T E.164: a plus sign and up to 15 digits, the first of which is not 0.
fn is_e164(id: &str) -> bool {
    id.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_text(text: &str) -> bool {
    (1..=TEXT_CHARS_MAX).contains(&text.chars().count())
}

/// Identities are GUIDs, MRIs and encrypted blobs of less than this.
const TEXT_CHARS_MAX: usize = 1024;

const PHONE_MUST: &str = "must be a number in E.164 form, like \"+14255550123\"";
const TEXT_MUST: &str = "must be a string of 1 to 1024 characters";
