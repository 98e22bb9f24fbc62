//! `RecordedSender`: the sender of a request as its log event shows it.

use switchboard_auth::{AuthError, Caller, RefusedSender, Sender, TokenSummary};
use uuid::Uuid;

/// The sender of a request. Neither proven nor refused: no token was checked.
#[derive(Debug, Default)]
pub(super) struct RecordedSender {
    proven: Option<Sender>,
    /// Boxed: most senders are accepted.
    refused: Option<Box<RefusedSender>>,
}

impl RecordedSender {
    pub(super) fn accept(&mut self, caller: &Caller) {
        self.proven = Some(Sender::clone(caller));
    }

    /// The sender is not authenticated, or not allowed.
    pub(super) fn refuse(&mut self, refused: Box<RefusedSender>) {
        if let AuthError::Forbidden(_, sender) = &refused.error {
            self.proven = Some(Sender::clone(sender));
        }
        self.refused = Some(refused);
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.proven.is_some() && self.refused.is_none()
    }

    pub(super) fn proven(&self) -> Option<&Sender> {
        self.proven.as_ref()
    }

    /// Returns the trust that has the issuer. It is unproven for a refused token.
    pub(super) fn trust(&self) -> Option<&str> {
        let of_refused = || self.refused.as_ref()?.error.trust();
        self.proven().map(|sender| &*sender.trust).or_else(of_refused)
    }

    /// Returns the reason of a refusal in words.
    pub(super) fn problem(&self) -> Option<String> {
        self.refused.as_deref().map(RefusedSender::problem)
    }

    /// Returns the content of an unproven token. That of a proven one is in the sender.
    pub(super) fn token(&self) -> TokenSummary {
        match &self.refused {
            Some(refused) if self.proven.is_none() => refused.token.clone(),
            Some(_) | None => TokenSummary::default(),
        }
    }
}

/// Writes an id into a buffer. A displayed value goes through `fmt`, at three times the cost.
pub(super) fn id_text(id: Option<Uuid>, buffer: &mut [u8]) -> Option<&str> {
    id.map(|id| &*id.hyphenated().encode_lower(buffer))
}
