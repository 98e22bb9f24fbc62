//! `RedirectTarget`: one target of a redirected call.

use std::fmt;

use uuid::Uuid;

use super::error::InvalidAction;
use crate::spelled::spelled;

/// One target of a redirected call: an identity of Graph's identity set.
#[derive(Clone, PartialEq, Eq)]
pub struct RedirectTarget {
    pub(crate) kind: RedirectTargetKind,
    pub(crate) id: String,
    pub(crate) display_name: Option<String>,
    pub(crate) tenant: Option<Uuid>,
}

impl RedirectTarget {
    /// The identity of this `kind` and `id`. The id of a phone is in E.164 form; any other has 1 to 1024
    /// characters.
    ///
    /// # Errors
    ///
    /// `id` does not have the form that `kind` needs.
    pub fn new(kind: RedirectTargetKind, id: &str) -> Result<Self, InvalidAction> {
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
            return Err(InvalidAction::value("id", must));
        }
        Ok(Self { kind, id: id.to_owned(), display_name: None, tenant: None })
    }

    /// Sets the name to show, 1 to 1024 characters.
    ///
    /// # Errors
    ///
    /// `name` is empty or too long.
    pub fn with_display_name(self, name: &str) -> Result<Self, InvalidAction> {
        if !is_text(name) {
            return Err(InvalidAction::value("displayName", TEXT_MUST));
        }
        Ok(Self { display_name: Some(name.to_owned()), ..self })
    }

    /// Sets the tenant, if it is not the call's.
    pub fn with_tenant(self, tenant: Uuid) -> Self {
        Self { tenant: Some(tenant), ..self }
    }
}

/// Shows the kind only: numbers and names of people do not belong in a log.
impl fmt::Debug for RedirectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedirectTarget").field("kind", &self.kind).finish_non_exhaustive()
    }
}

spelled! {
    /// The kinds of identity that Graph knows (Microsoft Graph REST reference, "identitySet",
    /// "communicationsIdentitySet"). The platform decides which of them can be redirected to in a tenant.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum RedirectTargetKind {
        /// A user, by object id.
        User = "user",
        /// An application, by app id: another bot.
        Application = "application",
        /// A resource account.
        ApplicationInstance = "applicationInstance",
        /// A telephone, in E.164 form. It needs a resource account with a number (call: redirect, example 3).
        Phone = "phone",
        /// A guest.
        Guest = "guest",
        /// A caller whose identity the app may not see.
        Encrypted = "encrypted",
        /// A user of Skype for Business on premises.
        OnPremises = "onPremises",
        /// A user of Azure Communication Services.
        AzureCommunicationServicesUser = "azureCommunicationServicesUser",
    }
}

/// ITU-T E.164: a plus sign and 2 to 15 digits, the first of them not 0.
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

/// Identities are GUIDs, MRIs and encrypted blobs; all of them are shorter.
const TEXT_CHARS_MAX: usize = 1024;

const PHONE_MUST: &str = "must be a number in E.164 form, like \"+14255550123\"";
const TEXT_MUST: &str = "must be a string of 1 to 1024 characters";
