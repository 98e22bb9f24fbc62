//! The bodies that the platform posts during a call, legacy and Graph.
//!
//! The shapes follow the Graph reference ("commsNotifications", "call") and real traffic. The first
//! notification carries everything. Later ones carry both `resource` and `resourceUrl`, and no `id`.

mod end;
mod ids;
mod incoming;
mod operation;
mod participant;
mod parts;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use self::{
    end::{ResultInfo, terminated},
    ids::{CallIds, Person},
    incoming::{incoming, joining, legacy_incoming},
    operation::{operation, operation_resource},
    update::{Roster, left, roster, state, tone},
};
