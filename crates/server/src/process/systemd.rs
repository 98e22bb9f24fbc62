//! The service manager of the machine: the sockets that it passes, its messages, and its watchdog.
//!
//! The protocols are those of systemd: `sd_listen_fds(3)`, `sd_notify(3)` and `sd_watchdog_enabled(3)`. Other
//! managers have them, too. Without their variables nothing here does anything.

mod heartbeats;
mod notifier;
mod sockets;
mod status;

#[cfg(test)]
pub(crate) use self::heartbeats::Heartbeats;
pub(crate) use self::{heartbeats::Heartbeat, notifier::Message, status::StatusSource};
pub use self::{
    notifier::{Notifier, NotifierThread},
    sockets::{InheritedSockets, InvalidSocket},
};
