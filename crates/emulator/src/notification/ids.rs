//! The random ids of a call and of its participants.

use openssl::error::ErrorStack;
use uuid::Uuid;

use crate::encoding::random_id;

/// The ids of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallIds {
    pub(crate) call: Uuid,
    pub(crate) chain: Uuid,
    pub(crate) scenario: Uuid,
    pub(crate) caller: Uuid,
    pub(crate) caller_participant: Uuid,
    pub(crate) bot_participant: Uuid,
}

impl CallIds {
    /// Makes new ids. A call that belongs to another call shares its chain.
    pub(crate) fn new(chain: Option<Uuid>) -> Result<Self, ErrorStack> {
        Ok(Self {
            call: random_id()?,
            chain: chain.map_or_else(random_id, Ok)?,
            scenario: random_id()?,
            caller: random_id()?,
            caller_participant: random_id()?,
            bot_participant: random_id()?,
        })
    }

    /// The ids 1 to 6, in the order of the members.
    #[cfg(test)]
    pub(crate) fn numbered() -> Self {
        let id = Uuid::from_u128;
        Self {
            call: id(1),
            chain: id(2),
            scenario: id(3),
            caller: id(4),
            caller_participant: id(5),
            bot_participant: id(6),
        }
    }
}
