//! A participant of a call: an identity, and the state that a roster shows.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::words::words;

words! {
    /// The kind of an identity (Graph reference, "identitySet" and "communicationsIdentitySet").
    pub(crate) enum IdentityKind {
        /// A person of a tenant.
        User = "user",
        /// A telephone number.
        Phone = "phone",
        /// A bot.
        Application = "application",
        /// A resource account.
        ApplicationInstance = "applicationInstance",
        /// A person of another tenant.
        Guest = "guest",
        /// A person who is not named to the bot.
        Encrypted = "encrypted",
        /// A person of a server on premises.
        OnPremises = "onPremises",
        /// A user of Azure Communication Services.
        AzureCommunicationServicesUser = "azureCommunicationServicesUser",
        /// The same, as older notifications name it.
        AcsUser = "acsUser",
        /// A user of Skype.
        SkypeUser = "skypeUser",
        /// A device.
        Device = "device",
    }
}

/// One identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) kind: IdentityKind,
    pub(crate) id: String,
    pub(crate) name: Option<String>,
}

impl Identity {
    pub(crate) fn user(id: Uuid) -> Self {
        let name = Some(format!("Person {}", id.simple()));
        Self { kind: IdentityKind::User, id: id.to_string(), name }
    }

    pub(crate) fn application(id: Uuid) -> Self {
        Self { kind: IdentityKind::Application, id: id.to_string(), name: None }
    }

    /// Reads the first identity with an id from an `identitySet`.
    pub(crate) fn read(set: &Value) -> Option<Self> {
        IdentityKind::ALL.into_iter().find_map(|kind| {
            let identity = set.get(kind.label())?;
            let text = |name: &str| identity.get(name).and_then(Value::as_str).map(str::to_owned);
            let id = text("id").filter(|id| !id.is_empty() && id.chars().count() <= ID_LETTERS_MAX)?;
            let name = text("displayName").filter(|name| name.chars().count() <= ID_LETTERS_MAX);
            Some(Self { kind, id, name })
        })
    }

    /// Returns the `identitySet` as the platform writes it.
    pub(crate) fn to_json(&self, tenant: &str) -> Value {
        let mut identity = Map::new();
        identity.insert("@odata.type".to_owned(), "#microsoft.graph.identity".into());
        identity.insert("id".to_owned(), self.id.as_str().into());
        if let Some(name) = &self.name {
            identity.insert("displayName".to_owned(), name.as_str().into());
        }
        if self.kind != IdentityKind::Phone {
            identity.insert("tenantId".to_owned(), tenant.into());
        }
        if self.kind == IdentityKind::User {
            identity.insert("identityProvider".to_owned(), "AAD".into());
        }
        let mut set = Map::new();
        set.insert("@odata.type".to_owned(), "#microsoft.graph.identitySet".into());
        set.insert(self.kind.label().to_owned(), identity.into());
        set.into()
    }

    /// Returns the id that stays the same in each call. The calling SDK finds the participant of a delta
    /// roster by it.
    pub(crate) fn stable_id(&self) -> String {
        let prefix = match self.kind {
            IdentityKind::User | IdentityKind::Guest => "8:orgid:",
            IdentityKind::Phone => "4:",
            IdentityKind::Application => "28:",
            IdentityKind::ApplicationInstance => "28:orgid:",
            IdentityKind::Encrypted
            | IdentityKind::OnPremises
            | IdentityKind::AzureCommunicationServicesUser
            | IdentityKind::AcsUser
            | IdentityKind::SkypeUser
            | IdentityKind::Device => "8:",
        };
        format!("{prefix}{}", self.id)
    }
}

/// One participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Participant {
    /// The id in resource paths, new for each call.
    pub(crate) id: Uuid,
    pub(crate) identity: Identity,
    pub(crate) muted: bool,
    pub(crate) on_hold: bool,
    pub(crate) in_lobby: bool,
    pub(crate) hand_raised: bool,
    pub(crate) shares_screen: bool,
}

impl Participant {
    pub(crate) fn new(id: Uuid, identity: Identity) -> Self {
        Self {
            id,
            identity,
            muted: false,
            on_hold: false,
            in_lobby: false,
            hand_raised: false,
            shares_screen: false,
        }
    }

    /// Returns the participant as the control API shows it.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "kind": self.identity.kind.label(),
            "identity": self.identity.id,
            "name": self.identity.name,
            "muted": self.muted,
            "on_hold": self.on_hold,
            "in_lobby": self.in_lobby,
            "hand_raised": self.hand_raised,
            "shares_screen": self.shares_screen,
        })
    }
}

/// Ids of Graph are shorter.
const ID_LETTERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_written() {
        for kind in IdentityKind::ALL {
            let identity = Identity { kind, id: "1".to_owned(), name: Some("N".to_owned()) };
            assert_eq!(Identity::read(&identity.to_json("t")), Some(identity));
        }
        for empty in [json!({}), json!({"user": {}}), json!({"user": {"id": ""}}), json!([1]), json!(null)] {
            assert_eq!(Identity::read(&empty), None);
        }
    }
}
