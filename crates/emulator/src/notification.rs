//! The bodies that the platform posts during a call, legacy and Graph.
//!
//! The shapes follow the Graph reference ("commsNotifications", "call") and real traffic. The first
//! notification carries everything. Later ones carry both `resource` and `resourceUrl`, and no `id`.

mod end;
mod ids;
mod incoming;
mod member;
mod named;
mod opening;
mod operation;
mod participant;
mod parts;
#[cfg(test)]
mod tests;
mod update;

pub use self::member::{InvalidMember, MemberSetting};
pub(crate) use self::{
    end::{ResultInfo, terminated},
    ids::CallIds,
    incoming::joining,
    named::NamedIds,
    opening::Opening,
    operation::{operation, operation_resource},
    participant::participant_resource,
    parts::source_identity,
    update::{Roster, left, roster, state, tone, transfer_failed},
};
